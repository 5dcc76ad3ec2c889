//! What `Rig::explain` names where several things hold a rig back at once: rare on the simulation's
//! way, so each has its own case.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, MINUTE_MS, config, failed, full};
use wellhead_rig::{
    Class, Explanation, Incarnation, Input, NewBead, Outcome, Phase, Readiness, Work,
};

fn said(bench: &Bench, order: &wellhead_rig::DispatchOrder) -> Explanation {
    let bead = bench.bead(&order.dispatch.bead);
    bench.rig.explain(bead, bench.now)
}

fn settle(bench: &mut Bench, order: &wellhead_rig::DispatchOrder, class: Class) {
    bench.start(&order.dispatch);
    bench.ok(Bench::over(&order.dispatch, failed(class)));
    bench.run_for(5_000);
}

#[test]
fn of_a_hold_and_an_open_breaker_the_longer_one_is_named() {
    let (mut bench, order) = Bench::dispatched();
    let broken = bench.another("another task");
    bench.ok(Bench::over(&broken.dispatch, failed(Class::Git)));
    let until = bench.now.plus_ms(10_000);
    bench.ok(Bench::over(&order.dispatch, full(until)));
    let says = said(&bench, &order);
    assert!(says.cause.starts_with("git"), "{says:?}");
    assert!(says.at >= Some(bench.now.plus_ms(MINUTE_MS)), "{says:?}");
}

#[test]
fn checks_are_given_up_in_their_time_although_no_bead_is_ready() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("the task")));
    let agent = bench.rig.agents().next().expect("an agent").id.clone();
    bench.ok(Input::Unhook { agent });
    let Readiness::Checking { deadline, .. } = bench.rig.record().readiness else {
        panic!("not checking")
    };
    assert_eq!(bench.alarm, Some(deadline.at));
}

#[test]
fn checks_that_an_earlier_bead_asks_for_are_not_promised_for_a_later_one() {
    let (mut bench, first) = Bench::dispatched();
    let second = bench.another("another task");
    settle(&mut bench, &first, Class::AgentFailed);
    bench.run_for(10_000);
    settle(&mut bench, &second, Class::AgentFailed);
    bench.ok(Input::ContainerStarted {
        incarnation: Incarnation::new("life-2").expect("a valid id"),
        live: Vec::new(),
        unreported: Vec::new(),
    });
    let says = said(&bench, &first);
    assert!(says.next.starts_with("checked then"), "{says:?}");
    let says = said(&bench, &second);
    assert!(says.next.starts_with("its wait is over"), "{says:?}");
}

#[test]
fn no_time_is_named_while_a_session_is_being_judged_that_may_open_the_breaker() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("the task")));
    bench.answer_checks(&wellhead_rig::Preflight::Passed);
    let order = bench.dispatch().expect("a dispatch");
    bench.start(&order.dispatch);
    bench.ok(Input::ContainerStarted {
        incarnation: Incarnation::new("life-2").expect("a valid id"),
        live: vec![order.dispatch.clone()],
        unreported: Vec::new(),
    });
    bench.ok(Input::Sling(NewBead::issue("another task")));
    let failure = support::failure(Class::Crash);
    let work = Work::None;
    let crashed = Outcome::Failed { failure, work };
    bench.ok(Bench::over(&order.dispatch, crashed));
    let beads = bench.rig.beads();
    let mut hooked = beads.filter(|bead| matches!(bead.phase, Phase::Hooked { .. }));
    let says = bench.rig.explain(hooked.next().expect("a bead"), bench.now);
    assert!(says.cause.contains("being checked"), "{says:?}");
    assert_eq!(says.at, None);
}
