//! A rig that only waits is quiet: the hourly patrol and nothing else, and nothing at all once its
//! work is at an end.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, DAY_MS, HOUR_MS, commit, completed, config};
use wellhead_rig::{BeadId, Effect, Input, NewBead, Reply, ReviewMode, RigConfig, Status};

/// A day with nothing but the patrol, each an hour after the last, and no effect.
#[track_caller]
fn assert_patrol_alone(bench: &mut Bench) {
    bench.effects.clear();
    bench.alarms.clear();
    let events = bench.events.len();
    bench.run_for(DAY_MS);
    assert!(
        (23..=24).contains(&bench.alarms.len()),
        "{} alarms in a day",
        bench.alarms.len()
    );
    for pair in bench.alarms.windows(2) {
        assert_eq!(pair[1].since_ms(pair[0]), HOUR_MS);
    }
    assert_eq!(bench.effects, Vec::<Effect>::new());
    assert_eq!(bench.events.len(), events, "a patrol leaves no events");
}

fn open_bead(bench: &mut Bench) -> BeadId {
    match bench.ok(Input::CreateBead(NewBead::issue("later"))) {
        Reply::Bead(bead) => bead.id,
        other => panic!("no bead: {other:?}"),
    }
}

#[test]
fn a_hooked_bead_of_an_unconfigured_rig_waits_quietly() {
    let mut bench = Bench::new();
    bench.ok(Input::Sling(NewBead::issue("the task")));
    assert_patrol_alone(&mut bench);
    bench.ok(Input::Configure(config()));
    let checks = bench.effects.iter();
    let checks = checks.filter(|effect| matches!(effect, Effect::Preflight { .. }));
    assert_eq!(checks.count(), 1, "and goes on once it is configured");
}

#[test]
fn an_open_bead_waits_quietly() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    open_bead(&mut bench);
    assert_patrol_alone(&mut bench);
}

#[test]
fn a_held_bead_waits_quietly() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    let bead = open_bead(&mut bench);
    bench.ok(Input::SetStatus {
        bead: bead.clone(),
        status: Status::InProgress,
        by: None,
    });
    assert_eq!(bench.bead(&bead).status(), Status::InProgress);
    assert_patrol_alone(&mut bench);
}

#[test]
fn a_bead_in_review_waits_quietly() {
    let review = ReviewMode::Manual;
    let config = RigConfig { review, ..config() };
    let new = NewBead::issue("the task");
    let (mut bench, order) = Bench::dispatched_with(config, wellhead_rig::Policy::default(), new);
    bench.start(&order.dispatch);
    bench.ok(Bench::done(&order));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.status(), Status::InReview);
    assert_patrol_alone(&mut bench);
}

#[test]
fn a_rig_without_beads_has_no_alarm() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    assert_eq!(bench.alarm, None);
    bench.ok(Input::Alarm);
    assert_eq!(bench.alarm, None, "an alarm on an empty rig arms none");
}

#[test]
fn messages_and_escalations_are_no_work() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    let Reply::Bead(help) = bench.ok(Input::Escalate(NewBead::issue("help"))) else {
        panic!("no escalation");
    };
    let told = bench.alarm.expect("a person is told again");
    assert_eq!(told.since_ms(bench.now), 4 * HOUR_MS);
    let by = support::person();
    bench.ok(Input::Acknowledge { bead: help.id, by });
    assert_eq!(bench.alarm, None, "and has seen it");
    let kind = wellhead_rig::BeadType::Message;
    let mail = NewBead {
        kind,
        ..NewBead::issue("mail")
    };
    bench.ok(Input::CreateBead(mail));
    assert_eq!(bench.alarm, None);
}

#[test]
fn a_rig_whose_work_is_at_an_end_has_no_alarm() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::done(&order));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let cancelled = open_bead(&mut bench);
    assert!(bench.alarm.is_some());
    let by = support::person();
    bench.ok(Input::Cancel {
        bead: cancelled,
        by,
    });
    let status = |bead: &wellhead_rig::Bead| bead.status();
    let all: Vec<_> = bench.rig.beads().map(status).collect();
    assert_eq!(all, [Status::Closed, Status::Failed]);
    assert_eq!(bench.alarm, None);
}
