//! A rig and the word of its town: refused, and until when; offered; asked again with one
//! dispatch.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{
    Bench, DAY_MS, HOUR_MS, MINUTE_MS, config, failure, full, gateway, pair::Pair, person,
    town::tokens,
};
use wellhead_rig::{
    Class, DispatchOrder, Effect, Incarnation, Input, LAST_OUTPUT_MAX, NewBead, Outcome, Phase,
    PhaseAt, Policy, Preflight, Reach, Refusal, Report, Stage, Status, Timestamp,
};

/// Three beads were dispatched; the town is full for half a minute.
fn refused() -> (Bench, Vec<DispatchOrder>) {
    let (mut bench, first) = Bench::dispatched();
    let more = ["second", "third"].map(|title| bench.another(title));
    let orders: Vec<_> = [first].into_iter().chain(more).collect();
    let until = bench.now.plus_ms(30_000);
    for order in &orders {
        bench.ok(Bench::over(&order.dispatch, full(until)));
    }
    (bench, orders)
}

fn sent(bench: &mut Bench) -> Vec<DispatchOrder> {
    std::iter::from_fn(|| bench.dispatch()).collect()
}

fn is_ready(bench: &Bench, order: &DispatchOrder) -> bool {
    let phase = &bench.bead(&order.dispatch.bead).phase;
    matches!(phase, Phase::Waiting { .. })
}

#[test]
fn every_kind_of_refusal_costs_nothing_and_is_no_failure() {
    let refusals = [
        Refusal::Breaker {
            scope: gateway(),
            class: Class::Gateway,
            text: "down".to_owned(),
        },
        Refusal::Probing {
            scope: gateway(),
            class: Class::Gateway,
        },
        Refusal::Full { slots: 8 },
        Refusal::Budget { limit: tokens(5) },
        Refusal::Paused { by: person() },
    ];
    for refusal in refusals {
        let (mut bench, order) = Bench::dispatched();
        let until = bench.now.plus_ms(MINUTE_MS);
        let outcome = Outcome::Refused {
            refusal: refusal.clone(),
            until,
        };
        bench.ok(Bench::over(&order.dispatch, outcome));
        let bead = bench.bead(&order.dispatch.bead);
        assert_eq!((bead.numbers.prompts, bead.numbers.failures), (0, 0));
        assert_eq!(bead.last_failure, None);
        let words = bench.rig.explain(bead, bench.now);
        assert_eq!(words.cause, refusal.to_string());
        assert_eq!(words.at, Some(until));
        assert!(bench.rig.record().breaker.is_closed());
        assert!(bench.escalations().is_empty());
        bench.run_for(MINUTE_MS - 1);
        assert_eq!(bench.dispatch(), None, "{refusal}");
        bench.run_for(1);
        let next = bench.dispatch().expect("asked again");
        assert_eq!((next.dispatch.no, next.prompts), (2, 1));
    }
}

#[test]
fn a_refused_rig_asks_with_one_dispatch_at_a_time_until_a_session_starts() {
    let (mut bench, orders) = refused();
    assert!(orders.iter().all(|order| is_ready(&bench, order)));
    for round in 0..5 {
        bench.run_for(30_000);
        let asked = sent(&mut bench);
        assert_eq!(asked.len(), 1, "round {round}");
        bench.pass(100);
        let until = bench.now.plus_ms(30_000);
        bench.ok(Bench::over(&asked[0].dispatch, full(until)));
        assert_eq!(sent(&mut bench), [], "round {round}");
    }
    bench.run_for(30_000);
    let asked = sent(&mut bench);
    bench.start(&asked[0].dispatch);
    assert_eq!(sent(&mut bench).len(), 2, "the town lets it pass");
    assert_eq!(bench.rig.record().hold, None);
}

#[test]
fn an_offer_is_taken_at_once_with_one_dispatch() {
    let (mut bench, _) = refused();
    bench.run_for(5_000);
    assert_eq!(sent(&mut bench), []);
    bench.ok(Input::Offered);
    assert_eq!(sent(&mut bench).len(), 1);
    bench.run_for(5_000);
    assert_eq!(sent(&mut bench), [], "one at a time");
}

#[test]
fn an_offer_that_nothing_waits_for_changes_nothing() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    let before = bench.rig.clone();
    bench.ok(Input::Offered);
    assert_eq!(bench.rig, before);
}

#[test]
fn a_town_that_does_not_answer_is_asked_again_half_a_minute_later() {
    let (mut bench, _) = refused();
    bench.run_for(30_000);
    let asked = sent(&mut bench);
    bench.run_for(29_999);
    assert_eq!(sent(&mut bench), []);
    bench.run_for(1);
    let again = sent(&mut bench);
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].dispatch.bead, asked[0].dispatch.bead);
}

#[test]
fn a_time_that_is_past_or_never_comes_is_bounded() {
    for (until_ms, first_ms) in [(i64::MIN, 1_000), (i64::MAX, DAY_MS)] {
        let (mut bench, order) = Bench::dispatched();
        let outcome = full(Timestamp(until_ms));
        bench.ok(Bench::over(&order.dispatch, outcome));
        bench.run_for(first_ms - 1);
        assert_eq!(bench.dispatch(), None, "{until_ms}");
        bench.run_for(1);
        assert!(bench.dispatch().is_some(), "{until_ms}");
    }
}

#[test]
fn a_check_that_is_held_back_is_made_again_then_and_opens_no_breaker() {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(Input::Sling(NewBead::issue("the task")));
    let held = Preflight::Held {
        refusal: Refusal::Full { slots: 1 },
        until: bench.now.plus_ms(MINUTE_MS),
    };
    assert_eq!(bench.answer_checks(&held), 1);
    assert!(bench.rig.record().breaker.is_closed());
    bench.run_for(MINUTE_MS - 1);
    assert_eq!(bench.effects, []);
    bench.run_for(1);
    assert_eq!(bench.answer_checks(&Preflight::Passed), 1);
    assert!(bench.dispatch().is_some());
}

/// Whatever may have changed the town's mind is asked for at once.
#[test]
fn a_new_configuration_a_new_container_and_a_reset_end_a_hold() {
    let inputs = [
        Input::Configure(wellhead_rig::RigConfig {
            model: Some("another".to_owned()),
            ..config()
        }),
        Input::ContainerStarted {
            incarnation: Incarnation::new("life-2").expect("a valid id"),
            live: Vec::new(),
            unreported: Vec::new(),
        },
        Input::ResetBreaker { by: person() },
    ];
    for input in inputs {
        let (mut bench, _) = refused();
        bench.ok(input.clone());
        bench.answer_checks(&Preflight::Passed);
        assert_eq!(sent(&mut bench).len(), 3, "{input:?}");
    }
}

#[test]
fn a_hold_survives_a_restart_and_a_jump_of_the_clock() {
    let (mut bench, _) = refused();
    bench.restart();
    bench.pass(-DAY_MS);
    bench.ok(Input::ClockJumped);
    bench.run_for(29_999);
    assert_eq!(sent(&mut bench), []);
    bench.run_for(1);
    assert_eq!(sent(&mut bench).len(), 1);
}

#[test]
fn a_reset_reaches_the_shared_scopes_as_well() {
    let (mut bench, _) = refused();
    bench.ok(Input::ResetBreaker { by: person() });
    let resets =
        |effect: &Effect| matches!(effect, Effect::ResetScopes { by, .. } if *by == person());
    assert!(bench.effects.iter().any(resets));
}

/// The incident's acceptance with a town in between: each class that is shared, for ever. A check
/// that sees the cause costs no dispatch at all; one that does not costs one per cooldown.
#[test]
fn a_shared_scope_that_is_broken_for_ever_costs_at_most_one_dispatch_per_cooldown() {
    let shared = Class::ALL
        .into_iter()
        .filter(|class| !matches!(class.reach(), Reach::Rig | Reach::Nobody));
    for class in shared {
        for is_seen in [false, true] {
            let mut bench = Bench::new();
            bench.ok(Input::Configure(config()));
            bench.ok(Input::Sling(NewBead::issue("the task")));
            let mut pair = Pair::new(bench, failure(class), is_seen);
            pair.run(Timestamp(support::EPOCH_MS + 3 * DAY_MS));
            let began = &pair.began;
            let gaps: Vec<i64> = began.windows(2).map(|p| p[1].since_ms(p[0])).collect();
            // A gateway counts to three first.
            let free = if class == Class::Gateway { 2 } else { 0 };
            let probes = gaps.iter().skip(free);
            assert!(
                probes.clone().all(|gap| *gap >= MINUTE_MS),
                "{class}: {gaps:?}"
            );
            if is_seen && class != Class::RateLimited {
                assert_eq!(began.len(), free + 1, "{class}: a check is no dispatch");
                assert!(pair.checked.len() > 50, "{class}: but goes on");
            } else {
                let most = Policy::default().prompts_max as usize;
                assert_eq!(began.len(), most, "{class}");
                assert!(probes.max() >= Some(&(30 * MINUTE_MS)), "{class}: {gaps:?}");
                assert_eq!(pair.bead().status(), Status::Failed, "{class}");
            }
            assert_eq!(pair.bead().numbers.failures, 0, "{class}");
            let told = pair.bench.escalations().len();
            let most = if class == Class::RateLimited { 1 } else { 2 };
            assert!(told <= most, "{class}: {told} escalations");
        }
    }
}

#[test]
fn a_shared_scope_that_is_mended_heals_without_a_person() {
    for class in [Class::Credentials, Class::Gateway, Class::KiloMissing] {
        let mut bench = Bench::new();
        bench.ok(Input::Configure(config()));
        bench.ok(Input::Sling(NewBead::issue("the task")));
        let mut pair = Pair::new(bench, failure(class), true);
        pair.run(Timestamp(support::EPOCH_MS + 5 * HOUR_MS));
        assert_eq!(pair.bench.rig.open_escalations().count(), 1, "{class}");
        pair.mend();
        pair.run(Timestamp(support::EPOCH_MS + 6 * HOUR_MS));
        assert_eq!(pair.bead().status(), Status::Closed, "{class}");
        assert_eq!(pair.bench.causes(), Vec::<String>::new(), "{class}");
        assert_eq!(pair.bench.alarm, None, "{class}");
    }
}

#[test]
fn the_attempt_log_keeps_phases_and_last_words_and_both_are_bounded() {
    let (mut bench, order) = Bench::working();
    let at = bench.now;
    let phase = |stage| PhaseAt { stage, at };
    let phases: Vec<_> = [Stage::Worktree, Stage::Server, Stage::Turn]
        .into_iter()
        .cycle()
        .take(100)
        .map(phase)
        .collect();
    let Input::AgentDone(report) = Bench::over(&order.dispatch, support::failed(Class::Crash))
    else {
        unreachable!("over is a report")
    };
    let words = format!("{}é the end", "é".repeat(LAST_OUTPUT_MAX));
    bench.ok(Input::AgentDone(Report {
        phases: phases.clone(),
        last_output: Some(words),
        ..report
    }));
    bench.run_for(MINUTE_MS);
    let attempts = &bench.bead(&order.dispatch.bead).attempts;
    let attempt = attempts.first().expect("an attempt");
    assert_eq!(attempt.phases, phases[..16]);
    let last = attempt.last_output.as_deref().expect("its last words");
    assert!(last.len() <= LAST_OUTPUT_MAX && last.ends_with("é the end"));
}

#[test]
fn the_attempt_log_keeps_the_newest_fifty() {
    let (mut bench, mut order) = Bench::dispatched();
    for _ in 0..60 {
        let until = bench.now;
        bench.ok(Bench::over(&order.dispatch, full(until)));
        bench.run_for(1_000);
        order = bench.dispatch().expect("asked again");
    }
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.attempts.len(), 50);
    assert_eq!(bead.attempts.last().map(|a| a.no), Some(60));
    assert_eq!(bead.numbers.dispatch_no, 61, "no number is lost");
}
