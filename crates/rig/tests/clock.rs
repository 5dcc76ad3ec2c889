//! Clocks that jump, machines that sleep, and times at the ends of their range.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, DAY_MS, HOUR_MS, MINUTE_MS, commit, completed, config, failed};
use wellhead_rig::{
    Beat, Class, Incarnation, Input, NewBead, Policy, Preflight, Status, Timestamp, Usage,
};

fn beat(bench: &mut Bench, order: &wellhead_rig::DispatchOrder, life: &str) {
    let progress_at = Some(bench.now);
    let beat = Beat {
        dispatch: order.dispatch.clone(),
        incarnation: Incarnation::new(life).expect("a valid id"),
        progress_at,
        tool_since: None,
        repeats: 0,
        output: true,
        usage: Usage::default(),
    };
    bench.ok(Input::Heartbeat(beat));
}

#[test]
fn after_a_jump_or_a_sleep_nothing_that_lived_is_given_up() {
    for by in [DAY_MS, 8 * HOUR_MS, -DAY_MS, 5 * MINUTE_MS, -5 * MINUTE_MS] {
        let (mut working, order) = Bench::working();
        working.pass(by);
        working.ok(Input::ClockJumped);
        working.ok(Input::Alarm);
        assert_eq!(working.stops(), [], "a session, {by}");
        beat(&mut working, &order, "life-1");
        let (mut starting, order) = Bench::dispatched();
        starting.pass(by);
        starting.ok(Input::ClockJumped);
        starting.ok(Input::Alarm);
        assert_eq!(starting.stops(), [], "a start, {by}");
        starting.start(&order.dispatch);
    }
}

#[test]
fn a_session_that_did_not_live_through_the_sleep_is_still_found() {
    let (mut bench, order) = Bench::working();
    bench.pass(8 * HOUR_MS);
    bench.ok(Input::ClockJumped);
    bench.run_for(2 * MINUTE_MS);
    assert_eq!(bench.stops(), [order.dispatch]);
}

#[test]
fn a_check_under_way_survives_a_sleep() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("it")));
    bench.pass(8 * HOUR_MS);
    bench.ok(Input::ClockJumped);
    bench.ok(Input::Alarm);
    assert!(bench.rig.record().breaker.is_closed());
    bench.answer_checks(&Preflight::Passed);
    assert!(bench.dispatch().is_some());
}

#[test]
fn steps_in_quick_succession_do_not_push_the_patrol_away_after_a_jump_back() {
    let (mut bench, order) = Bench::working();
    bench.ok(Input::Alarm);
    bench.pass(-DAY_MS);
    bench.ok(Input::ClockJumped);
    let first = bench.alarm.expect("an alarm");
    for _ in 0..3 {
        bench.pass(300);
        beat(&mut bench, &order, "life-1");
        bench.ok(Input::Done {
            agent: order.agent.clone(),
            dispatch: Some(order.dispatch.clone()),
            report: support::done_report(),
        });
        let again = bench.alarm.expect("an alarm");
        assert!(again <= first.plus_ms(HOUR_MS), "{again:?}");
    }
    let patrol = bench.alarm.expect("an alarm");
    bench.pass(10 * MINUTE_MS);
    bench.ok(Input::Touch {
        agent: order.agent.clone(),
    });
    assert_eq!(bench.alarm, Some(patrol), "the patrol's hour has begun");
}

#[test]
fn a_retry_waits_no_longer_than_its_own_length_after_a_jump_back() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
    bench.pass(-DAY_MS);
    bench.ok(Input::ClockJumped);
    bench.run_for(MINUTE_MS);
    assert!(bench.dispatch().is_some());
}

#[test]
fn a_keeper_that_finds_its_sessions_alive_goes_on_with_them() {
    let (mut bench, order) = Bench::working();
    bench.ok(Input::ContainerStarted {
        incarnation: Incarnation::new("life-2").expect("a valid id"),
        live: vec![order.dispatch.clone()],
        unreported: Vec::new(),
    });
    assert_eq!(bench.stops(), []);
    for _ in 0..20 {
        bench.run_for(MINUTE_MS);
        beat(&mut bench, &order, "life-2");
    }
    assert_eq!(bench.stops(), [], "its beats count");
}

#[test]
fn a_container_that_lost_its_sessions_is_asked_about_each_once() {
    let (mut bench, order) = Bench::working();
    for life in ["life-2", "life-2"] {
        bench.ok(Input::ContainerStarted {
            incarnation: Incarnation::new(life).expect("a valid id"),
            live: Vec::new(),
            unreported: Vec::new(),
        });
    }
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Lost)));
    bench.answer_checks(&Preflight::Passed);
    let next = bench.dispatch().expect("continued");
    assert_eq!((next.resume.as_deref(), next.failures), (Some("ses-1"), 0));
}

#[test]
fn an_order_that_was_not_taken_yet_waits_for_the_next_container() {
    let (mut bench, order) = Bench::dispatched();
    bench.ok(Input::ContainerStarted {
        incarnation: Incarnation::new("life-2").expect("a valid id"),
        live: Vec::new(),
        unreported: Vec::new(),
    });
    assert_eq!(bench.stops(), [], "it is still in the outbox");
    bench.ok(Input::AgentStarted {
        dispatch: order.dispatch.clone(),
        incarnation: Incarnation::new("life-2").expect("a valid id"),
        session: "ses-1".to_owned(),
    });
    assert_eq!(
        bench.bead(&order.dispatch.bead).numbers.prompts,
        1,
        "nothing was spent twice"
    );
}

#[test]
fn more_than_one_step_can_dispatch_is_dispatched_a_second_later() {
    let mut bench = Bench::new();
    bench.ok(Input::SetPolicy(Policy {
        agents_max: 64,
        ..Policy::default()
    }));
    for _ in 0..50 {
        bench.ok(Input::Sling(NewBead::issue("it")));
    }
    bench.ok(Input::Configure(config()));
    bench.answer_checks(&Preflight::Passed);
    bench.run_for(2_000);
    let live = bench.rig.beads().filter(|bead| bead.run().is_some());
    assert_eq!(live.count(), 50);
}

#[test]
fn times_at_the_ends_of_their_range_saturate() {
    for now in [i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        let mut bench = Bench::new();
        bench.now = Timestamp(now);
        bench.ok(Input::Configure(config()));
        bench.ok(Input::Sling(NewBead::issue("it")));
        bench.answer_checks(&Preflight::Passed);
        let order = bench.dispatch().expect("a dispatch");
        bench.start(&order.dispatch);
        beat(&mut bench, &order, "life-1");
        for at in [i64::MAX, i64::MIN, 0] {
            bench.now = Timestamp(at);
            bench.ok(Input::ClockJumped);
            bench.ok(Input::Alarm);
            let bead = bench.bead(&order.dispatch.bead).clone();
            let _ = bench.rig.explain(&bead, bench.now);
        }
        for class in [Class::BudgetStop, Class::RateLimited, Class::Crash] {
            let mut bench = bench.clone();
            bench.ok(Bench::over(&order.dispatch, failed(class)));
            bench.ok(Input::Alarm);
        }
        bench.ok(Bench::over(&order.dispatch, completed(commit())));
        bench.now = Timestamp(i64::MAX);
        bench.ok(Input::Alarm);
        let bead = bench.bead(&order.dispatch.bead);
        assert_eq!(bead.status(), Status::Closed, "from {now}");
    }
}
