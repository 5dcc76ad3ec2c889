//! A person holds a rig back: pause, stop, resume.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, DAY_MS, HOUR_MS, MINUTE_MS, commit, completed, config, failed, person};
use wellhead_rig::{
    Class, Effect, EventType, Input, NewBead, PauseMode, Phase, Preflight, Status, Who,
};

fn pause(mode: PauseMode) -> Input {
    let (by, reason) = (person(), Some("the weekend".to_owned()));
    Input::Pause { mode, by, reason }
}

fn resume() -> Input {
    Input::Resume { by: person() }
}

#[test]
fn a_pause_begins_nothing_and_lets_what_runs_come_to_its_end() {
    let (mut bench, order) = Bench::working();
    bench.ok(pause(PauseMode::Pause));
    assert_eq!(bench.stops(), []);
    bench.ok(Input::Sling(NewBead::issue("later")));
    bench.beat(&order.dispatch, 5);
    bench.ok(Bench::done(&order));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.status(), Status::Closed);
    assert_eq!(bench.dispatch(), None);
    bench.run_for(DAY_MS);
    assert_eq!(bench.dispatch(), None);
    bench.ok(resume());
    assert!(bench.dispatch().is_some());
}

#[test]
fn a_stop_ends_what_runs_uncharged_and_a_resume_continues_it() {
    let (mut bench, order) = Bench::working();
    let starting = bench.another("just sent");
    bench.ok(pause(PauseMode::Stop));
    let mut stops = bench.stops();
    stops.sort();
    let mut both = vec![order.dispatch.clone(), starting.dispatch.clone()];
    both.sort();
    assert_eq!(stops, both);
    for dispatch in &both {
        bench.ok(Bench::over(dispatch, failed(Class::Interrupted)));
        let bead = bench.bead(&dispatch.bead);
        assert!(matches!(bead.phase, Phase::Waiting { .. }));
        assert_eq!(bead.numbers.failures, 0);
    }
    bench.run_for(DAY_MS);
    assert_eq!(bench.dispatch(), None);
    bench.ok(resume());
    let next = bench.dispatch().expect("goes on");
    assert_eq!(next.resume.as_deref(), Some("ses-1"));
}

#[test]
fn a_pause_and_a_stop_survive_a_restart_with_who_and_why() {
    for mode in [PauseMode::Pause, PauseMode::Stop] {
        let mut bench = Bench::new();
        bench.ok(Input::Configure(config()));
        bench.ok(pause(mode));
        bench.restart();
        let kept = bench.rig.record().pause.clone().expect("a pause");
        assert_eq!((kept.mode, kept.by), (mode, person()));
        assert_eq!(kept.reason.as_deref(), Some("the weekend"));
        bench.ok(Input::Sling(NewBead::issue("later")));
        bench.run_for(DAY_MS);
        assert_eq!(bench.effects, [], "not even a check");
        let bead = bench.rig.beads().next().expect("the bead");
        let words = bench.rig.explain(bead, bench.now).cause;
        assert!(words.contains("ada") && words.contains("weekend"));
        bench.ok(resume());
        assert_eq!(bench.answer_checks(&Preflight::Passed), 1);
        assert!(bench.dispatch().is_some());
    }
}

#[test]
fn the_same_word_again_is_no_news() {
    let mut bench = Bench::new();
    bench.ok(resume());
    assert_eq!(bench.count(EventType::Resumed), 0);
    for _ in 0..3 {
        bench.ok(pause(PauseMode::Pause));
    }
    assert_eq!(bench.count(EventType::Paused), 1);
    for _ in 0..3 {
        bench.ok(resume());
    }
    assert_eq!(bench.count(EventType::Resumed), 1);
}

#[test]
fn a_pause_becomes_a_stop_on_a_second_word() {
    let (mut bench, order) = Bench::working();
    bench.ok(pause(PauseMode::Pause));
    assert_eq!(bench.stops(), []);
    bench.ok(Input::Pause {
        mode: PauseMode::Stop,
        by: Who::named("bob"),
        reason: None,
    });
    assert_eq!(bench.stops(), [order.dispatch]);
    let pause = bench.rig.record().pause.clone().expect("a stop");
    assert_eq!((pause.mode, pause.by), (PauseMode::Stop, Who::named("bob")));
}

#[test]
fn a_paused_rig_waits_quietly_whatever_its_town_offers() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(pause(PauseMode::Pause));
    bench.ok(Input::Sling(NewBead::issue("later")));
    bench.alarms.clear();
    bench.run_for(DAY_MS);
    assert!((23..=24).contains(&bench.alarms.len()));
    for pair in bench.alarms.windows(2) {
        assert_eq!(pair[1].since_ms(pair[0]), HOUR_MS);
    }
    for input in [
        Input::Offered,
        Input::ResetBreaker { by: person() },
        Input::ClockJumped,
    ] {
        bench.ok(input);
    }
    let begins = |effect: &Effect| matches!(effect, Effect::Dispatch(_) | Effect::Preflight { .. });
    assert!(!bench.effects.iter().any(begins), "{:?}", bench.effects);
}

#[test]
fn a_check_that_a_pause_overtook_is_still_heard() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("later")));
    bench.ok(pause(PauseMode::Pause));
    assert_eq!(bench.answer_checks(&Preflight::Passed), 1);
    assert_eq!(bench.dispatch(), None);
    bench.run_for(10 * MINUTE_MS);
    bench.ok(resume());
    assert!(bench.dispatch().is_some(), "and not made again");
}
