//! Waits at a gateway: sessions that can not reach it keep their slots and heal it, and a gateway
//! that asks for patience gets it.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{
    HOUR_MS, MINUTE_MS, commit, completed, failure, gateway,
    town::{TownBench, ask, dispatch, report, rig},
};
use wellhead_rig::{
    BreakerState, Class, Failure, Outcome, Scope, Work,
    town::{Ask, Taken, TownInput},
};

fn with(prompts: u32) -> Ask {
    Ask { prompts, ..ask() }
}

fn is_open(bench: &TownBench, scope: &Scope) -> bool {
    matches!(bench.guard(scope).breaker.state, BreakerState::Open { .. })
}

/// The gateway is shut by an offline session of rig "a", which keeps its slot.
fn offline_town(slots: u32) -> TownBench {
    let mut bench = TownBench::with_slots(slots);
    bench.take("a", "b");
    bench.output("a", "b");
    bench.offline("a", "b");
    assert!(is_open(&bench, &gateway()));
    bench
}

/// G17: kilo's own word that it is offline needs no second one.
#[test]
fn an_offline_wait_opens_its_gateway_at_once_and_keeps_its_slot() {
    let mut bench = offline_town(4);
    assert_eq!(bench.town.taken_count(), 1);
    assert_eq!(bench.take("c", "b"), Taken::Refused);
    bench.offline("a", "b");
    assert_eq!(bench.notices().len(), 1, "the same wait again is no news");
}

#[test]
fn an_offline_session_is_the_probe_before_any_waiting_rig() {
    let mut bench = offline_town(4);
    bench.take_as("c", dispatch("b", 1), with(0));
    bench.run_for(75_000);
    let (no, scope) = bench.checks().remove(0);
    assert_eq!(scope, gateway());
    bench.checked(no, None);
    assert_eq!(bench.answered(), ["a"], "answered, and no slot is needed");
    assert_eq!(bench.offers(), Vec::<String>::new());
    assert_eq!(
        bench.take_as("d", dispatch("b", 1), ask()),
        Taken::Refused,
        "one probe"
    );
    bench.output("a", "b");
    assert!(bench.is_closed(&gateway()));
    assert_eq!(bench.offers(), ["c", "d"]);
}

#[test]
fn the_same_wait_again_after_an_answer_keeps_the_gateway_shut() {
    let mut bench = offline_town(4);
    bench.run_for(75_000);
    let (no, _) = bench.checks().remove(0);
    bench.checked(no, None);
    bench.offline("a", "b");
    assert!(is_open(&bench, &gateway()));
    assert_eq!(bench.guard(&gateway()).breaker.trips, 2);
}

/// The acceptance: every slot waits for the gateway, so that nobody else could ever probe it.
#[test]
fn a_full_town_whose_sessions_all_wait_offline_heals_by_itself() {
    let mut bench = TownBench::with_slots(3);
    for name in ["a", "c", "d"] {
        bench.take(name, "b");
        bench.output(name, "b");
    }
    for name in ["a", "c", "d"] {
        bench.offline(name, "b");
    }
    assert_eq!(bench.take("e", "b"), Taken::Refused);
    let mut tries = 0;
    let end = bench.now.plus_ms(8 * MINUTE_MS);
    while bench.next_alarm(end) {
        for (no, _) in bench.checks() {
            tries += 1;
            let down = (tries < 3).then(|| failure(Class::Gateway));
            bench.checked(no, down);
        }
        for name in bench.answered() {
            bench.pass(2_000);
            bench.output(&name, "b");
        }
    }
    assert_eq!(tries, 3);
    assert!(bench.is_closed(&gateway()));
    for name in ["a", "c", "d"] {
        assert_eq!(bench.berth(name, "b").offline, None, "{name} goes on");
        bench.finish(name, "b", completed(commit()));
    }
    assert_eq!(bench.offers(), ["e"]);
}

#[test]
fn a_wait_for_a_gateway_is_ended_after_ten_minutes_once() {
    let mut bench = offline_town(1);
    let fail_checks = |bench: &mut TownBench, ms| {
        let end = bench.now.plus_ms(ms);
        while bench.next_alarm(end) {
            for (no, _) in bench.checks() {
                bench.checked(no, Some(failure(Class::Gateway)));
            }
        }
        bench.now = end;
    };
    fail_checks(&mut bench, 10 * MINUTE_MS - 1);
    assert_eq!(bench.ended(), []);
    fail_checks(&mut bench, 1);
    let ended = bench.ended();
    assert_eq!(ended.len(), 1);
    assert_eq!((&*ended[0].0, ended[0].1.class), ("a", Class::Gateway));
    bench.alarms.clear();
    fail_checks(&mut bench, HOUR_MS);
    assert_eq!(bench.ended(), []);
    assert_eq!(bench.alarms, [], "what is being ended wakes nobody");
}

#[test]
fn a_session_whose_wait_was_answered_is_not_ended_for_it() {
    let mut bench = TownBench::new();
    for name in ["a", "w"] {
        bench.take(name, "b");
        bench.output(name, "b");
    }
    for name in ["a", "w"] {
        bench.offline(name, "b");
    }
    bench.run_for(75_000);
    let (no, _) = bench.checks().remove(0);
    bench.checked(no, None);
    let probe = bench.answered().remove(0);
    bench.output(&probe, "b");
    assert_eq!(bench.answered(), ["w"]);
    bench.run_for(HOUR_MS);
    assert_eq!(bench.ended(), [], "it thinks, and has no wait any more");
}

fn limited(retry_after_ms: Option<i64>) -> Outcome {
    let failure = Failure {
        retry_after_ms,
        ..failure(Class::RateLimited)
    };
    let work = Work::None;
    Outcome::Failed { failure, work }
}

/// C8: the gateway's own time, no check, no notice; and one first, the rest at its first output.
#[test]
fn a_rate_limit_pauses_its_credential_for_as_long_as_the_gateway_asked() {
    for (asked_ms, pause_ms) in [(Some(25_000), 25_000), (None, 60_000)] {
        let mut bench = TownBench::new();
        bench.take("a", "b");
        bench.finish("a", "b", limited(asked_ms));
        for name in ["c", "d"] {
            assert_eq!(bench.take(name, "b"), Taken::Refused);
        }
        bench.run_for(pause_ms - 1);
        assert_eq!(bench.offers(), Vec::<String>::new(), "{asked_ms:?}");
        bench.run_for(pause_ms / 4 + 1);
        assert_eq!(bench.offers(), ["c"], "{asked_ms:?}");
        assert_eq!(bench.take_as("c", dispatch("b", 2), ask()), Taken::Fresh);
        assert_eq!(bench.take_as("d", dispatch("b", 2), ask()), Taken::Refused);
        let (rig, dispatch) = (rig("c"), dispatch("b", 2));
        bench.step(TownInput::Output { rig, dispatch });
        assert_eq!(bench.offers(), ["d"], "{asked_ms:?}");
        assert_eq!(bench.checks(), []);
        assert_eq!(bench.notices(), [], "nobody has to do anything");
    }
}

#[test]
fn a_rate_limit_without_a_time_doubles_with_each_probe_that_meets_it() {
    let mut bench = TownBench::new();
    bench.take("a", "b");
    bench.finish("a", "b", limited(None));
    let mut waits = Vec::new();
    for no in 1..=8 {
        bench.take_as("c", dispatch("b", 2 * no), ask());
        let before = bench.now;
        while bench.offers().is_empty() {
            assert!(bench.next_alarm(before.plus_ms(HOUR_MS)), "{waits:?}");
        }
        waits.push(bench.now.since_ms(before));
        let probe = dispatch("b", 2 * no + 1);
        assert_eq!(bench.take_as("c", probe.clone(), ask()), Taken::Fresh);
        bench.finish_as("c", report(probe, limited(None)));
    }
    assert!(
        waits
            .windows(2)
            .all(|w| w[1] > w[0] || w[1] == 30 * MINUTE_MS)
    );
    assert_eq!(waits.last(), Some(&(30 * MINUTE_MS)));
}
