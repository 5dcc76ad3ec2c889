//! The clocks of a session: the process lives, the work moves, a tool runs, and all of it has an
//! end.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, HOUR_MS, MINUTE_MS, beat_of, completed, config, failed};
use wellhead_rig::{
    Beat, Cause, Class, DispatchId, DispatchOrder, Effect, EventType, Input, NewBead, Phase,
    Policy, Timestamp, Work,
};

/// Beats each 15 s for so long, with what `beat` adds to each; alarms fire when they are due.
fn live(bench: &mut Bench, dispatch: &DispatchId, ms: i64, beat: impl Fn(Timestamp, Beat) -> Beat) {
    let end = bench.now.plus_ms(ms);
    while bench.now < end {
        let input = Input::Heartbeat(beat(bench.now, beat_of(dispatch)));
        bench.ok(input);
        let step = end.since_ms(bench.now).min(15_000);
        bench.run_for(step);
    }
}

fn idle(_: Timestamp, beat: Beat) -> Beat {
    beat
}

fn moving(now: Timestamp, beat: Beat) -> Beat {
    Beat {
        progress_at: Some(now),
        ..beat
    }
}

fn nudges(bench: &Bench) -> usize {
    let nudges = bench.effects.iter();
    nudges
        .filter(|effect| matches!(effect, Effect::Nudge { .. }))
        .count()
}

#[track_caller]
fn ended_by(bench: &Bench, order: &DispatchOrder) -> (Class, String) {
    match &bench.bead(&order.dispatch.bead).phase {
        Phase::Ending { ending, .. } => match &ending.cause {
            Cause::Expired(failure) => (failure.class, failure.text.clone()),
            other => panic!("ended by {other:?}"),
        },
        other => panic!("not ended: {other:?}"),
    }
}

/// A5: beats alone are no progress.
#[test]
fn a_session_that_stands_still_is_nudged_once_and_ended_at_half_an_hour() {
    let (mut bench, order) = Bench::working();
    live(&mut bench, &order.dispatch, 15 * MINUTE_MS - 1, idle);
    assert_eq!(nudges(&bench), 0);
    bench.run_for(1);
    assert_eq!(nudges(&bench), 1);
    assert_eq!(bench.count(EventType::Nudged), 1);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.numbers.prompts, 2, "a nudge is paid for");
    live(&mut bench, &order.dispatch, 15 * MINUTE_MS - 1, idle);
    assert_eq!((nudges(&bench), bench.stops()), (1, vec![]));
    bench.run_for(1);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    let (class, text) = ended_by(&bench, &order);
    assert_eq!(class, Class::Stalled);
    assert_eq!(text, "no progress for 1800 s");
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.numbers.failures, 1, "charged");
}

#[test]
fn what_moves_again_after_a_nudge_may_be_nudged_again() {
    let (mut bench, order) = Bench::working();
    live(&mut bench, &order.dispatch, 20 * MINUTE_MS, idle);
    assert_eq!(nudges(&bench), 1);
    live(&mut bench, &order.dispatch, MINUTE_MS, moving);
    live(&mut bench, &order.dispatch, 16 * MINUTE_MS, idle);
    assert_eq!((nudges(&bench), bench.stops()), (2, vec![]));
}

#[test]
fn each_nudge_has_a_number_of_its_own_and_names_the_task() {
    let (mut bench, order) = Bench::working();
    live(&mut bench, &order.dispatch, 16 * MINUTE_MS, idle);
    let nudge = bench.effects.iter().find_map(|effect| match effect {
        Effect::Nudge {
            dispatch, no, text, ..
        } => Some((dispatch.clone(), *no, text.clone())),
        _ => None,
    });
    let (dispatch, no, text) = nudge.expect("a nudge");
    assert_eq!((dispatch, no), (order.dispatch, 2));
    assert!(text.contains("the task"), "{text}");
}

#[test]
fn a_bead_without_a_prompt_left_is_not_nudged() {
    let policy = Policy {
        prompts_max: 1,
        ..Policy::default()
    };
    let (mut bench, order) = Bench::dispatched_with(config(), policy, NewBead::issue("the task"));
    bench.start(&order.dispatch);
    live(&mut bench, &order.dispatch, 20 * MINUTE_MS, idle);
    assert_eq!(nudges(&bench), 0);
    live(&mut bench, &order.dispatch, 10 * MINUTE_MS, idle);
    assert_eq!(bench.stops(), [order.dispatch], "but ended in its time");
}

#[test]
fn a_session_that_was_told_to_end_is_not_nudged() {
    let (mut bench, order) = Bench::working();
    bench.turn(&order, 1, support::commit());
    live(&mut bench, &order.dispatch, 20 * MINUTE_MS, idle);
    assert_eq!(nudges(&bench), 0);
}

#[test]
fn an_event_from_the_past_moves_no_clock_back_and_one_from_the_future_none_too_far() {
    let (mut bench, order) = Bench::working();
    let began = bench.now;
    live(&mut bench, &order.dispatch, 10 * MINUTE_MS, moving);
    live(&mut bench, &order.dispatch, 10 * MINUTE_MS, |_, beat| {
        Beat {
            progress_at: Some(began),
            ..beat
        }
    });
    assert_eq!((nudges(&bench), bench.stops()), (0, vec![]));
    let ahead = bench.now.plus_ms(10 * HOUR_MS);
    let future = |_, beat| Beat {
        progress_at: Some(ahead),
        ..beat
    };
    live(&mut bench, &order.dispatch, 15_000, future);
    live(&mut bench, &order.dispatch, 31 * MINUTE_MS, idle);
    assert_eq!(bench.stops(), [order.dispatch]);
}

/// The progress clock stands still while a tool runs; the tool has its own hour.
#[test]
fn a_tool_may_run_for_an_hour_and_the_work_has_its_whole_time_again_afterwards() {
    let (mut bench, order) = Bench::working();
    let since = bench.now;
    let in_tool = |_, beat| Beat {
        tool_since: Some(since),
        ..beat
    };
    live(&mut bench, &order.dispatch, 59 * MINUTE_MS, in_tool);
    assert_eq!((nudges(&bench), bench.stops()), (0, vec![]));
    let mut over = bench.clone();
    live(&mut over, &order.dispatch, 14 * MINUTE_MS, idle);
    assert_eq!((nudges(&over), over.stops()), (0, vec![]));
    live(&mut over, &order.dispatch, 16 * MINUTE_MS, idle);
    assert_eq!(over.stops(), std::slice::from_ref(&order.dispatch));
    assert_eq!(ended_by(&over, &order).1, "no progress for 1800 s");
    live(&mut bench, &order.dispatch, MINUTE_MS, in_tool);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    let (class, text) = ended_by(&bench, &order);
    assert_eq!(
        (class, &*text),
        (Class::Stalled, "a tool has run for 3600 s")
    );
}

#[test]
fn a_tool_that_began_in_the_future_began_now() {
    let (mut bench, order) = Bench::working();
    let since = bench.now.plus_ms(10 * HOUR_MS);
    let in_tool = |_, beat| Beat {
        tool_since: Some(since),
        ..beat
    };
    live(&mut bench, &order.dispatch, 15_000, in_tool);
    let Phase::Working { live, .. } = &bench.bead(&order.dispatch.bead).phase else {
        panic!("not working");
    };
    let left = live.tool.map(|tool| tool.at.since_ms(bench.now));
    assert!(left <= Some(HOUR_MS), "{left:?}");
}

#[test]
fn a_session_that_moves_for_ever_is_ended_after_four_hours() {
    let (mut bench, order) = Bench::working();
    live(&mut bench, &order.dispatch, 4 * HOUR_MS - 1, moving);
    assert_eq!(bench.stops(), []);
    bench.run_for(1);
    let (class, text) = ended_by(&bench, &order);
    assert_eq!(
        (class, &*text),
        (Class::Stalled, "over the limit of 14400 s")
    );
}

/// B14: suspect is shown at 45 s, lost at 120 s, and no second session before the proof.
#[test]
fn a_silent_session_is_lost_after_two_minutes_and_continued_when_it_is_proven_over() {
    let (mut bench, order) = Bench::working();
    live(&mut bench, &order.dispatch, 10 * MINUTE_MS, moving);
    let last = bench.now.plus_ms(-15_000);
    bench.run_for(2 * MINUTE_MS - 15_001);
    assert_eq!(bench.stops(), []);
    bench.run_for(1);
    assert_eq!(bench.now.since_ms(last), 2 * MINUTE_MS);
    assert_eq!(ended_by(&bench, &order).0, Class::Lost);
    bench.run_for(10 * MINUTE_MS);
    assert_eq!(bench.dispatch(), None, "not before the proof");
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let next = bench.dispatch().expect("continued");
    assert_eq!(next.resume.as_deref(), Some("ses-1"));
}

#[test]
fn the_same_tool_call_ten_times_in_a_row_ends_the_session() {
    let (mut bench, order) = Bench::working();
    assert_eq!(order.repeats_max, 10, "its container knows the limit");
    let called = |times| {
        move |now, beat| Beat {
            repeats: times,
            ..moving(now, beat)
        }
    };
    live(&mut bench, &order.dispatch, MINUTE_MS, called(9));
    assert_eq!(bench.stops(), []);
    live(&mut bench, &order.dispatch, 15_000, called(10));
    let (class, text) = ended_by(&bench, &order);
    assert_eq!(class, Class::Stalled);
    assert_eq!(text, "the same tool call 10 times in a row");
    bench.ok(Bench::over(&order.dispatch, completed(Work::None)));
    assert_eq!(bench.stops().len(), 1, "asked to stop once");
}
