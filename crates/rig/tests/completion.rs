//! How a session's end is judged: in whatever order its halves arrive, once or twice, late or
//! never.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, MINUTE_MS, commit, completed, config, done_report, failed};
use wellhead_rig::{
    Bead, Beat, Cause, Class, Completion, DispatchOrder, EventType, Incarnation, Input, NewBead,
    Outcome, Phase, Policy, Preflight, Refused, Reply, Resolution, ReviewId, ReviewMode, RigConfig,
    Status, TextOnly, TurnVerdict, Usage, Work,
};

/// How long an end that came by itself waits for the agent's own word.
const GRACE_MS: i64 = 5_000;

fn earlier() -> Work {
    let sha = "0ld".to_owned();
    Work::Earlier { sha }
}

fn resolution(bead: &Bead) -> Option<Resolution> {
    match bead.phase {
        Phase::Closed { resolution, .. } => Some(resolution),
        _ => None,
    }
}

/// A bead without what differs by the order alone: when things were written.
fn timeless(bead: &Bead) -> Bead {
    let mut bead = bead.clone();
    let at = bead.created_at;
    bead.updated_at = at;
    if let Phase::Closed { at: closed, .. } = &mut bead.phase {
        *closed = at;
    }
    if let Phase::InReview { review } = &mut bead.phase {
        // Made of the time as well.
        *review = ReviewId::new("review").expect("a valid id");
    }
    for attempt in &mut bead.attempts {
        attempt.ended_at = at;
    }
    bead
}

fn config_with(review: ReviewMode) -> RigConfig {
    RigConfig { review, ..config() }
}

/// Both halves of an end in this order, an alarm after each, and what the bead is then.
fn end_in_order(inputs: &[&str], review: ReviewMode) -> Bead {
    let new = NewBead::issue("the task");
    let (mut bench, order) = Bench::dispatched_with(config_with(review), Policy::default(), new);
    bench.start(&order.dispatch);
    for what in inputs {
        bench.pass(500);
        let input = match *what {
            "done" => Bench::done(&order),
            "end" => Bench::over(&order.dispatch, completed(commit())),
            _ => Input::Alarm,
        };
        assert!(bench.step(input).is_ok(), "{what} in {inputs:?}");
    }
    bench.run_for(MINUTE_MS);
    assert_eq!(bench.hook_of(&order.agent), None, "{inputs:?}");
    assert_eq!(bench.dispatch(), None, "{inputs:?}");
    bench.bead(&order.dispatch.bead).clone()
}

#[test]
fn done_and_end_give_the_same_bead_in_every_order_once_or_twice() {
    for review in [ReviewMode::Off, ReviewMode::Manual] {
        let expected = timeless(&end_in_order(&["done", "end"], review));
        for inputs in [
            &["end", "done"][..],
            &["done", "done", "end"],
            &["done", "end", "end"],
            &["end", "end", "done"],
            &["end", "done", "done"],
            &["done", "end", "done", "end"],
            &["end", "alarm", "done", "alarm", "end"],
        ] {
            let bead = timeless(&end_in_order(inputs, review));
            assert_eq!(bead, expected, "{inputs:?}");
        }
        let status = match review {
            ReviewMode::Off => Status::Closed,
            ReviewMode::Manual => Status::InReview,
        };
        assert_eq!(expected.status(), status);
    }
}

#[test]
fn a_lost_done_and_a_lost_end_still_end_the_bead() {
    let by_end = end_in_order(&["end"], ReviewMode::Off);
    assert_eq!(resolution(&by_end), Some(Resolution::Worked));
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::done(&order));
    assert_eq!(
        bench.stops(),
        std::slice::from_ref(&order.dispatch),
        "the end is asked for"
    );
    bench.effects.clear();
    bench.run_for(61 * MINUTE_MS);
    assert_eq!(
        bench.stops(),
        std::slice::from_ref(&order.dispatch),
        "and asked again"
    );
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(
        bead.status(),
        Status::Closed,
        "ended for its done, not failed"
    );
}

#[test]
fn an_end_before_the_report_of_the_start_is_accepted() {
    let (mut bench, order) = Bench::dispatched();
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::Worked));
    let late = bench.refused(Bench::started(&order.dispatch));
    assert_eq!(late, Refused::Stale(order.dispatch));
}

#[test]
fn a_start_never_resets_failures() {
    let (mut bench, mut order) = Bench::dispatched();
    let bead = order.dispatch.bead.clone();
    for failures in 1..5 {
        bench.start(&order.dispatch);
        assert_eq!(bench.bead(&bead).numbers.failures, failures - 1);
        bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
        bench.run_for(GRACE_MS);
        assert_eq!(bench.bead(&bead).numbers.failures, failures);
        bench.run_for(15 * MINUTE_MS);
        order = bench.dispatch().expect("the next attempt");
        assert_eq!(order.failures, failures);
    }
    bench.start(&order.dispatch);
    bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
    bench.run_for(GRACE_MS);
    assert_eq!(bench.bead(&bead).status(), Status::Failed);
    assert_eq!(bench.hook_of(&order.agent), None);
}

#[test]
fn a_commit_is_progress_and_saved_or_earlier_work_is_not() {
    for (work, failures) in [
        (commit(), 1),
        (Work::Saved { sha: "s".into() }, 2),
        (earlier(), 2),
        (Work::None, 2),
    ] {
        let (mut bench, order) = Bench::working();
        bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
        bench.run_for(2 * MINUTE_MS);
        let order = bench.dispatch().expect("the second attempt");
        bench.start(&order.dispatch);
        let failure = support::failure(Class::AgentFailed);
        let outcome = Outcome::Failed {
            failure,
            work: work.clone(),
        };
        bench.ok(Bench::over(&order.dispatch, outcome));
        bench.run_for(GRACE_MS);
        let bead = bench.bead(&order.dispatch.bead);
        assert_eq!(bead.numbers.failures, failures, "{work:?}");
    }
}

#[test]
fn text_alone_is_nudged_once_and_then_a_result_by_policy() {
    for (text_only, status) in [
        (TextOnly::Close, Status::Closed),
        (TextOnly::Fail, Status::Failed),
    ] {
        let policy = Policy {
            text_only,
            ..Policy::default()
        };
        let new = NewBead::issue("the task");
        let (mut bench, order) = Bench::dispatched_with(config(), policy, new);
        bench.start(&order.dispatch);
        let nudge = bench.turn(&order, 1, Work::None);
        assert!(matches!(&nudge, TurnVerdict::Nudge(text) if text.contains("the task")));
        assert_eq!(bench.turn(&order, 1, Work::None), nudge, "asked again");
        assert_eq!(bench.bead(&order.dispatch.bead).numbers.prompts, 2);
        assert_eq!(bench.turn(&order, 2, Work::None), TurnVerdict::End);
        bench.ok(Bench::over(&order.dispatch, completed(Work::None)));
        bench.run_for(MINUTE_MS);
        let bead = bench.bead(&order.dispatch.bead);
        assert_eq!(bead.status(), status);
        assert_eq!(bead.numbers.prompts, 2);
        if text_only == TextOnly::Close {
            assert_eq!(resolution(bead), Some(Resolution::TextOnly));
        } else {
            assert_eq!(bench.escalations().len(), 1);
        }
        assert_eq!(bench.dispatch(), None, "an answer is not paid for again");
    }
}

#[test]
fn a_done_without_work_is_judged_like_any_other_end() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::done(&order));
    bench.ok(Bench::over(&order.dispatch, completed(Work::None)));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::TextOnly));
}

#[test]
fn an_expected_answer_needs_no_nudge() {
    let mut new = NewBead::issue("a question");
    new.metadata.insert("expects".into(), "text".into());
    let (mut bench, order) = Bench::dispatched_with(config(), Policy::default(), new);
    bench.start(&order.dispatch);
    assert_eq!(bench.turn(&order, 1, Work::None), TurnVerdict::End);
    bench.ok(Bench::over(&order.dispatch, completed(Work::None)));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::Answered));
}

#[test]
fn earlier_work_alone_is_nudged_once_and_then_completed() {
    let (mut bench, order) = Bench::working();
    let nudge = bench.turn(&order, 1, earlier());
    assert!(matches!(nudge, TurnVerdict::Nudge(_)));
    assert_eq!(bench.turn(&order, 2, earlier()), TurnVerdict::End);
    bench.ok(Bench::over(&order.dispatch, completed(earlier())));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::Worked));
    assert_eq!(bead.commit.as_deref(), Some("0ld"));
}

#[test]
fn fresh_work_ends_at_its_first_quiet_turn() {
    let (mut bench, order) = Bench::working();
    assert_eq!(bench.turn(&order, 1, commit()), TurnVerdict::End);
    assert_eq!(bench.bead(&order.dispatch.bead).numbers.prompts, 1);
}

fn message(order: &DispatchOrder, text: &str) -> Input {
    let (agent, prompt) = (order.agent.clone(), text.to_owned());
    Input::Message { agent, prompt }
}

fn told(text: &str) -> TurnVerdict {
    TurnVerdict::Nudge(text.to_owned())
}

#[test]
fn messages_are_told_one_by_one_after_each_turn_and_paid_for() {
    let (mut bench, order) = Bench::working();
    for text in ["first", "second"] {
        assert_eq!(bench.ok(message(&order, text)), Reply::Accepted);
    }
    for _ in 0..2 {
        assert_eq!(bench.turn(&order, 1, commit()), told("first"), "once more");
    }
    assert_eq!(bench.bead(&order.dispatch.bead).numbers.prompts, 2);
    assert_eq!(bench.turn(&order, 2, commit()), told("second"));
    assert_eq!(bench.turn(&order, 3, commit()), TurnVerdict::End);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!((bead.numbers.prompts, bead.messages.len()), (3, 0));
    let late = bench.refused(message(&order, "late"));
    assert!(
        matches!(late, Refused::Conflict(_)),
        "nobody would read it: {late:?}"
    );
}

#[test]
fn a_message_that_no_turn_has_read_is_told_to_the_next_session() {
    let (mut bench, order) = Bench::working();
    bench.ok(message(&order, "mind the tests"));
    assert_eq!(bench.turn(&order, 1, commit()), told("mind the tests"));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    bench.run_for(MINUTE_MS);
    let next = bench.dispatch().expect("continued");
    bench.start(&next.dispatch);
    assert_eq!(bench.turn(&next, 1, commit()), told("mind the tests"));
    assert_eq!(bench.turn(&next, 2, commit()), TurnVerdict::End);
}

#[test]
fn the_last_prompt_leaves_none_for_a_nudge() {
    let policy = Policy {
        prompts_max: 1,
        ..Policy::default()
    };
    let (mut bench, order) = Bench::dispatched_with(config(), policy, NewBead::issue("the task"));
    bench.start(&order.dispatch);
    assert_eq!(bench.turn(&order, 1, Work::None), TurnVerdict::End);
}

#[test]
fn reviewed_work_waits_for_a_person_with_one_event() {
    let new = NewBead::issue("the task");
    let config = config_with(ReviewMode::Manual);
    let (mut bench, order) = Bench::dispatched_with(config, Policy::default(), new);
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.status(), Status::InReview, "whether or not it said so");
    assert_eq!(bench.count(EventType::ReviewSubmitted), 1);
}

#[test]
fn what_proved_nothing_costs_nothing() {
    for outcome in [
        Outcome::NeverStarted,
        support::full(wellhead_rig::Timestamp(support::EPOCH_MS + 5_000)),
    ] {
        let (mut bench, order) = Bench::dispatched();
        bench.ok(Bench::over(&order.dispatch, outcome));
        let numbers = bench.bead(&order.dispatch.bead).numbers;
        assert_eq!((numbers.prompts, numbers.failures), (0, 0));
        bench.run_for(10_000);
        let next = bench.dispatch().expect("the next attempt");
        assert_eq!(next.dispatch.no, 2, "the number is not given back");
    }
}

#[test]
fn a_start_that_is_not_reported_is_asked_for_and_work_wins_over_the_deadline() {
    let (mut bench, order) = Bench::dispatched();
    bench.run_for(3 * MINUTE_MS);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    let phase = &bench.bead(&order.dispatch.bead).phase;
    assert!(
        matches!(phase, Phase::Ending { ending, .. } if matches!(ending.cause, Cause::Expired(_)))
    );
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::Worked));
}

#[test]
fn a_silent_session_is_lost_and_a_late_beat_does_not_bring_it_back() {
    let (mut bench, order) = Bench::working();
    bench.run_for(2 * MINUTE_MS);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    let before = bench.bead(&order.dispatch.bead).clone();
    let beat = Input::Heartbeat(Beat {
        dispatch: order.dispatch.clone(),
        incarnation: Incarnation::new("life-1").expect("a valid id"),
        progress_at: None,
        tool_since: None,
        repeats: 0,
        output: false,
        usage: Usage::default(),
    });
    bench.ok(beat);
    assert_eq!(*bench.bead(&order.dispatch.bead), before);
    assert_eq!(bench.dispatch(), None, "not before it is proven over");
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let next = bench.dispatch().expect("continued");
    assert_eq!((next.dispatch.no, next.failures), (2, 0));
}

#[test]
fn an_external_completion_is_judged_and_an_external_failure_is_charged() {
    let reported = |order: &DispatchOrder, completion| Input::Completed {
        agent: order.agent.clone(),
        dispatch: Some(order.dispatch.clone()),
        completion,
    };
    let (mut bench, order) = Bench::working();
    bench.ok(reported(&order, Completion::Completed));
    let interrupted = Outcome::Failed {
        failure: support::failure(Class::Interrupted),
        work: commit(),
    };
    bench.ok(Bench::over(&order.dispatch, interrupted));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(resolution(bead), Some(Resolution::Worked), "ended for it");

    let (mut bench, order) = Bench::working();
    let reason = Some("segfault".to_owned());
    let failed_so = Completion::Failed { reason };
    bench.ok(reported(&order, failed_so.clone()));
    assert_eq!(bench.ok(reported(&order, failed_so)), Reply::Repeated);
    bench.refused(reported(&order, Completion::Completed));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.numbers.failures, 1, "nothing outweighs a failure");
    let last = bead.last_failure.as_ref().expect("a reason");
    assert_eq!(last.failure.text, "segfault");
}

#[test]
fn an_external_completion_does_not_forget_what_the_agent_said() {
    let config = config_with(ReviewMode::Manual);
    let new = NewBead::issue("the task");
    let (mut bench, order) = Bench::dispatched_with(config, Policy::default(), new);
    bench.start(&order.dispatch);
    bench.ok(Bench::done(&order));
    bench.ok(Input::Completed {
        agent: order.agent.clone(),
        dispatch: Some(order.dispatch.clone()),
        completion: Completion::Completed,
    });
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let bead = bench.bead(&order.dispatch.bead);
    let Phase::InReview { review } = &bead.phase else {
        panic!("not in review: {:?}", bead.phase);
    };
    let entry = bench.rig.review(review).unwrap();
    assert_eq!(entry.pr_url, done_report().pr_url);
}

#[test]
fn a_probe_without_output_keeps_the_breaker_shut() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::over(&order.dispatch, failed(Class::Git)));
    assert!(!bench.rig.record().breaker.is_closed());
    bench.run_for(2 * MINUTE_MS);
    bench.answer_checks(&Preflight::Passed);
    let probe = bench.dispatch().expect("the probe");
    bench.start(&probe.dispatch);
    bench.ok(Bench::over(&probe.dispatch, completed(commit())));
    bench.run_for(MINUTE_MS);
    assert!(!bench.rig.record().breaker.is_closed());
}
