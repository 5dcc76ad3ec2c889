//! A deleted rig: what ran is stopped and proven over, nothing is begun any more, and whatever
//! still arrives meets the tombstone.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, DAY_MS, commit, completed, config, failed};
use wellhead_rig::{Class, Effect, Input, NewBead, Phase, Policy, Preflight, Refused, Reply, Role};

#[test]
fn live_sessions_are_stopped_then_removed_and_the_alarm_goes() {
    for outcome in [completed(commit()), failed(Class::Crash)] {
        let (mut bench, order) = Bench::working();
        let bead = order.dispatch.bead.clone();
        bench.ok(Input::DeleteRig);
        assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
        assert!(matches!(bench.bead(&bead).phase, Phase::Ending { .. }));
        assert!(bench.alarm.is_some(), "the proof is still waited for");
        bench.ok(Bench::over(&order.dispatch, outcome));
        assert!(bench.rig.bead(&bead).is_none());
        assert_eq!(bench.alarm, None);
        bench.run_for(DAY_MS);
        assert_eq!(bench.dispatch(), None);
    }
}

#[test]
fn nothing_is_dispatched_after_the_tombstone() {
    let mut bench = Bench::new();
    bench.ok(Input::SetPolicy(Policy::default()));
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("ready")));
    bench.ok(Input::DeleteRig);
    assert_eq!(bench.alarm, None, "what waits on a hook waits for nothing");
    assert_eq!(bench.answer_checks(&Preflight::Passed), 1);
    bench.ok(Input::Alarm);
    bench.run_for(DAY_MS);
    let is_order =
        |effect: &Effect| matches!(effect, Effect::Dispatch(_) | Effect::Preflight { .. });
    assert!(!bench.effects.iter().any(is_order), "{:?}", bench.effects);
    assert_eq!(bench.rig.beads().count(), 1, "its records stay");
}

#[test]
fn every_later_write_is_refused_and_changes_nothing() {
    let (mut bench, order) = Bench::working();
    bench.ok(Input::DeleteRig);
    let (agent, bead) = (order.agent.clone(), order.dispatch.bead.clone());
    let new = NewBead::issue("late");
    for input in [
        Input::Configure(config()),
        Input::SetPolicy(Policy::default()),
        Input::CreateBead(new.clone()),
        Input::Sling(new.clone()),
        Input::Escalate(new.clone()),
        Input::RegisterAgent {
            role: Role::Polecat,
            name: "late".to_owned(),
            identity: "late".to_owned(),
        },
        Input::StartAgent {
            agent: agent.clone(),
            new: Box::new(new),
        },
        Input::Unhook {
            agent: agent.clone(),
        },
        Input::Touch { agent },
        Input::Close {
            bead: bead.clone(),
            by: None,
        },
        Input::Retry {
            bead: bead.clone(),
            by: support::person(),
        },
        Input::DeleteBead { bead },
        Input::ResetBreaker {
            by: support::person(),
        },
        Bench::done(&order),
    ] {
        assert_eq!(bench.refused(input), Refused::Deleted);
    }
}

#[test]
fn what_still_arrives_meets_the_tombstone_first() {
    let (mut bench, order) = Bench::working();
    bench.ok(Input::DeleteRig);
    let before = bench.rig.clone();
    assert_eq!(
        bench.ok(Input::DeleteRig),
        Reply::Accepted,
        "the same order again"
    );
    assert_eq!(bench.rig, before);
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let before = bench.rig.clone();
    for input in [Input::Alarm, Input::ClockJumped, Input::DeleteRig] {
        assert_eq!(bench.ok(input), Reply::Accepted);
        assert_eq!(bench.rig, before);
    }
    for late in [
        Bench::over(&order.dispatch, failed(Class::Interrupted)),
        Bench::started(&order.dispatch),
    ] {
        assert_eq!(
            bench.refused(late),
            Refused::Stale(order.dispatch.clone()),
            "so that its container forgets it"
        );
    }
}

#[test]
fn an_agent_is_started_with_what_is_on_its_hook_or_with_a_new_bead() {
    let mut bench = Bench::new();
    let input = Input::RegisterAgent {
        role: Role::Polecat,
        name: "amber".to_owned(),
        identity: "amber".to_owned(),
    };
    let Reply::Agent(agent) = bench.ok(input) else {
        panic!("no agent")
    };
    let start = |bench: &mut Bench, title: &str| {
        let new = Box::new(NewBead::issue(title));
        let agent = agent.id.clone();
        match bench.ok(Input::StartAgent { agent, new }) {
            Reply::Bead(bead) => bead,
            other => panic!("no bead: {other:?}"),
        }
    };
    let first = start(&mut bench, "first");
    assert_eq!(bench.hook_of(&agent.id), Some(first.id.clone()));
    assert_eq!(
        start(&mut bench, "second").id,
        first.id,
        "once, however often"
    );
    assert_eq!(bench.rig.beads().count(), 1);
}
