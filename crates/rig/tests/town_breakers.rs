//! Breakers of what rigs share: what opens them, how they are checked and probed, and that nothing
//! but model output closes them.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{
    HOUR_MS, MINUTE_MS, completed, config, failed, failure, gateway,
    town::{GATEWAY, TownBench, ask, dispatch, report, rig, scopes},
};
use wellhead_rig::{
    BreakerState, Class, Failure, Notice, Refusal, Scope, Scopes, Stage, Work,
    town::{Ask, Taken, TownInput, TownPolicy, TownReply},
};

fn credential() -> Scope {
    let id = "environment".to_owned();
    Scope::Credential { id }
}

fn with(prompts: u32) -> Ask {
    Ask { prompts, ..ask() }
}

/// Runs and ends one dispatch of a rig of its own.
fn fail(bench: &mut TownBench, name: &str, class: Class) {
    assert_eq!(bench.take(name, "b"), Taken::Fresh, "{name}");
    bench.finish(name, "b", failed(class));
}

fn is_open(bench: &TownBench, scope: &Scope) -> bool {
    matches!(bench.guard(scope).breaker.state, BreakerState::Open { .. })
}

fn is_half_open(bench: &TownBench, scope: &Scope) -> bool {
    let state = &bench.guard(scope).breaker.state;
    matches!(state, BreakerState::HalfOpen { .. })
}

/// The credential is shut by rig "a", which is over; the check has passed, and "c", "d" and "e"
/// wait, with so many prompts.
fn half_open_town(prompts: [(&str, u32); 3]) -> TownBench {
    let mut bench = TownBench::new();
    fail(&mut bench, "a", Class::Credentials);
    for (name, prompts) in prompts {
        let taken = bench.take_as(name, dispatch("b", 1), with(prompts));
        assert_eq!(taken, Taken::Refused);
    }
    bench.notices();
    bench.run_for(90_000);
    let checks = bench.checks();
    assert_eq!(checks.len(), 1, "one check for all who wait");
    bench.checked(checks[0].0, None);
    bench
}

/// C9: the table's classes open their scope at once, for every rig that shares it.
#[test]
fn what_opens_at_once_shuts_its_scope_for_all_who_share_it_and_for_nobody_else() {
    let model = Scope::Model {
        origin: GATEWAY.to_owned(),
        model: "default".to_owned(),
    };
    let elsewhere = Scopes {
        credential: "another".to_owned(),
        gateway: "https://elsewhere.example".to_owned(),
        model: None,
    };
    for (class, scope) in [
        (Class::Credentials, credential()),
        (Class::Billing, credential()),
        (Class::ModelNotFound, model),
        (Class::KiloMissing, Scope::Container),
    ] {
        let mut bench = TownBench::new();
        fail(&mut bench, "a", class);
        assert_eq!(bench.take("c", "b"), Taken::Refused, "{class}");
        let (refusal, until) = bench.refusal("c", "b");
        let is_meant = matches!(&refusal, Refusal::Breaker { scope: shut, class: by, .. }
            if *shut == scope && *by == class);
        assert!(is_meant, "{class}: {refusal:?}");
        assert!(until.since_ms(bench.now) >= MINUTE_MS, "{class}");
        let ask = Ask {
            scopes: elsewhere.clone(),
            ..ask()
        };
        let other = bench.take_as("d", dispatch("b", 1), ask);
        let shares = class == Class::KiloMissing;
        assert_eq!(other == Taken::Refused, shares, "{class}");
        let notices = bench.notices();
        let told = matches!(&notices[..], [(name, Notice::Tripped { scope: shut, .. })]
            if name == "a" && *shut == scope);
        assert!(told, "one rig tells the people: {notices:?}");
    }
}

#[test]
fn classes_that_speak_of_a_bead_or_a_rig_open_nothing() {
    for class in [
        Class::AgentFailed,
        Class::Crash,
        Class::Git,
        Class::Lost,
        Class::Stalled,
    ] {
        let mut bench = TownBench::new();
        for name in ["a", "c", "d", "e", "f", "g"] {
            fail(&mut bench, name, class);
        }
        assert!(bench.town.record().guards.is_empty(), "{class}");
    }
}

/// C1.
#[test]
fn three_gateway_failures_in_a_row_open_it_and_an_output_between_them_does_not() {
    let mut bench = TownBench::with_slots(20);
    for name in ["a", "c"] {
        fail(&mut bench, name, Class::Gateway);
    }
    for name in ["w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8"] {
        bench.take(name, "b");
        bench.output(name, "b");
    }
    fail(&mut bench, "d", Class::Gateway);
    assert!(bench.is_closed(&gateway()));
    for name in ["e", "f"] {
        assert!(bench.is_closed(&gateway()));
        fail(&mut bench, name, Class::Gateway);
    }
    assert!(is_open(&bench, &gateway()));
    assert_eq!(bench.take("g", "b"), Taken::Refused);
}

#[test]
fn half_of_five_outcomes_in_ten_minutes_open_it_and_older_ones_do_not_count() {
    for (gap_ms, opens) in [(MINUTE_MS, true), (3 * MINUTE_MS, false)] {
        let mut bench = TownBench::new();
        for (name, works) in [
            ("a", false),
            ("c", true),
            ("d", false),
            ("e", true),
            ("f", false),
        ] {
            assert_eq!(bench.take(name, "b"), Taken::Fresh);
            if works {
                bench.output(name, "b");
            } else {
                bench.finish(name, "b", failed(Class::Gateway));
            }
            bench.pass(gap_ms);
        }
        let closed = bench.is_closed(&gateway());
        assert_eq!(!closed, opens, "{gap_ms} ms apart");
    }
}

/// C3, C5: each failed check doubles the cooldown, with jitter, to half an hour; a restart changes
/// neither the state nor the countdown.
#[test]
fn failing_checks_come_at_doubled_gaps_up_to_half_an_hour_whatever_restarts_come_between() {
    let mut bench = TownBench::new();
    fail(&mut bench, "a", Class::Credentials);
    bench.take("c", "b");
    let mut at = Vec::new();
    let end = bench.now.plus_ms(6 * HOUR_MS);
    while bench.next_alarm(end) {
        for (no, scope) in bench.checks() {
            assert_eq!(scope, credential());
            at.push(bench.now);
            bench.checked(no, Some(failure(Class::Credentials)));
        }
        let alarm = bench.alarm;
        bench.town = bench.restarted();
        assert_eq!(bench.town.next_alarm(bench.now), alarm);
    }
    let gaps: Vec<i64> = at.windows(2).map(|p| p[1].since_ms(p[0])).collect();
    let mut base = 2 * MINUTE_MS;
    for gap in &gaps {
        assert!((base..=base + base / 4).contains(gap), "{gap} of {gaps:?}");
        base = (base * 2).min(30 * MINUTE_MS);
        if base == 30 * MINUTE_MS {
            break;
        }
    }
    let is_jittered = gaps.iter().any(|gap| gap % MINUTE_MS != 0);
    assert!(is_jittered, "rigs would all come together: {gaps:?}");
    let longest = 30 * MINUTE_MS;
    assert!(gaps.iter().skip(4).all(|gap| *gap == longest), "{gaps:?}");
    assert_eq!(bench.notices().len(), 1, "and people are told once");
}

#[test]
fn a_check_that_is_not_answered_counts_as_failed() {
    let mut bench = TownBench::new();
    fail(&mut bench, "a", Class::Credentials);
    bench.take("c", "b");
    bench.run_for(90_000);
    let (no, _) = bench.checks()[0];
    bench.run_for(MINUTE_MS);
    assert!(bench.guard(&credential()).check.is_none());
    assert_eq!(bench.guard(&credential()).breaker.trips, 2);
    bench.checked(no, None);
    assert!(is_open(&bench, &credential()), "its answer is out of date");
}

#[test]
fn a_breaker_that_nobody_waits_for_is_looked_at_when_somebody_asks() {
    let mut bench = TownBench::new();
    fail(&mut bench, "a", Class::Credentials);
    assert_eq!(bench.alarm, None);
    bench.run_for(HOUR_MS);
    bench.step(TownInput::Alarm);
    assert_eq!(bench.checks(), []);
    assert_eq!(bench.take("c", "b"), Taken::Refused, "not before the check");
    let checks = bench.checks();
    assert_eq!(checks.len(), 1, "and that is made at once");
    bench.checked(checks[0].0, None);
    assert_eq!(bench.offers(), ["c"]);
}

/// C2, I7.
#[test]
fn a_passing_check_lets_one_probe_through_and_closes_nothing() {
    let mut bench = half_open_town([("c", 3), ("d", 1), ("e", 2)]);
    assert!(is_half_open(&bench, &credential()));
    assert_eq!(bench.offers(), ["d"], "the one whose bead has cost least");
    assert_eq!(bench.take_as("d", dispatch("b", 2), with(1)), Taken::Fresh);
    for name in ["c", "e", "f"] {
        let taken = bench.take_as(name, dispatch("b", 2), ask());
        assert_eq!(taken, Taken::Refused, "{name}");
    }
    assert!(is_half_open(&bench, &credential()));
    bench.run_for(3 * MINUTE_MS);
    assert_eq!(bench.offers(), Vec::<String>::new());
}

#[test]
fn a_probe_whose_model_writes_frees_everyone_who_waits() {
    let mut bench = half_open_town([("c", 3), ("d", 1), ("e", 2)]);
    bench.offers();
    bench.take_as("d", dispatch("b", 2), with(1));
    let (rig, dispatch) = (rig("d"), dispatch("b", 2));
    bench.step(TownInput::Output { rig, dispatch });
    assert!(bench.is_closed(&credential()));
    assert_eq!(bench.offers(), ["c", "e"], "in their old order");
    let notices = bench.notices();
    let closed = matches!(&notices[..], [(name, Notice::Closed { .. })] if name == "a");
    assert!(closed, "whoever told the people tells them: {notices:?}");
}

/// C3, C4: failed by its deadline, by its end, by the loss of its container.
#[test]
fn a_probe_without_output_keeps_its_scope_shut_for_twice_as_long() {
    let ends: [fn(&mut TownBench); 4] = [
        |bench| {
            bench.run_for(4 * MINUTE_MS);
        },
        |bench| bench.finish_as("d", report(dispatch("b", 2), completed(Work::None))),
        |bench| bench.finish_as("d", report(dispatch("b", 2), failed(Class::Credentials))),
        |bench| {
            bench.step(TownInput::Boot);
        },
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let mut bench = half_open_town([("c", 3), ("d", 1), ("e", 2)]);
        bench.take_as("d", dispatch("b", 2), with(1));
        end(&mut bench);
        let breaker = &bench.guard(&credential()).breaker;
        let BreakerState::Open { next_probe, .. } = &breaker.state else {
            panic!("end {n}: {breaker:?}");
        };
        assert!(next_probe.duration_ms >= 2 * MINUTE_MS, "end {n}");
        assert_eq!(breaker.trips, 2, "end {n}");
        assert_eq!(bench.take("f", "b"), Taken::Refused, "end {n}");
    }
}

/// A model that is slow to begin must not keep its breaker open for ever.
#[test]
fn what_a_probe_writes_after_its_deadline_closes_its_scope_all_the_same() {
    let mut bench = half_open_town([("c", 3), ("d", 1), ("e", 2)]);
    bench.take_as("d", dispatch("b", 2), with(1));
    bench.run_for(4 * MINUTE_MS);
    assert!(is_open(&bench, &credential()));
    bench.town = bench.restarted();
    let (rig, dispatch) = (rig("d"), dispatch("b", 2));
    bench.step(TownInput::Output { rig, dispatch });
    assert!(bench.is_closed(&credential()));
    assert!(bench.offers().ends_with(&["c".to_owned(), "e".to_owned()]));
}

#[test]
fn a_probe_that_a_person_ended_proves_nothing_and_the_next_one_is_made_at_once() {
    let mut bench = half_open_town([("c", 3), ("d", 1), ("e", 2)]);
    bench.take_as("d", dispatch("b", 2), with(1));
    bench.offers();
    bench.finish_as("d", report(dispatch("b", 2), failed(Class::Interrupted)));
    assert!(is_half_open(&bench, &credential()));
    assert_eq!(bench.offers(), ["e"]);
}

/// C6: on a person's word it is looked at again, not closed.
#[test]
fn a_person_resets_a_breaker_and_it_is_checked_at_once() {
    for meant in [None, Some(scopes())] {
        let mut bench = TownBench::new();
        fail(&mut bench, "a", Class::Credentials);
        bench.take("c", "b");
        bench.step(TownInput::Reset {
            scopes: meant,
            by: wellhead_rig::Who::named("somebody"),
        });
        let (no, _) = bench.checks().remove(0);
        assert!(is_open(&bench, &credential()));
        bench.checked(no, Some(failure(Class::Credentials)));
        let breaker = &bench.guard(&credential()).breaker;
        assert_eq!(breaker.trips, 1, "and its cooldown begins anew");
    }
    let mut bench = TownBench::new();
    fail(&mut bench, "a", Class::Credentials);
    bench.take("c", "b");
    let other = Scopes {
        credential: "another".to_owned(),
        ..scopes()
    };
    bench.step(TownInput::Reset {
        scopes: Some(other),
        by: wellhead_rig::Who::named("somebody"),
    });
    assert_eq!(bench.checks(), [], "another scope's reset is not its own");
}

/// A17: a rig's own check finds what is wrong before anything was spawned.
#[test]
fn a_rigs_check_that_finds_a_shared_scope_broken_shuts_it_for_all() {
    let mut bench = TownBench::new();
    let missing = Failure::new(Class::Credentials, Stage::Preflight, "no token");
    let checked = |bench: &mut TownBench, failure| {
        let (rig, ask) = (rig("a"), ask());
        match bench.step(TownInput::Checked { rig, ask, failure }) {
            TownReply::Held(held) => held.map(|(refusal, _)| refusal),
            other => panic!("no answer: {other:?}"),
        }
    };
    let held = checked(&mut bench, Some(missing));
    assert!(matches!(held, Some(Refusal::Breaker { .. })), "{held:?}");
    assert_eq!(bench.take("c", "b"), Taken::Refused);
    let mut bench = TownBench::new();
    let own = Failure::new(Class::Git, Stage::Preflight, "no branch");
    assert_eq!(checked(&mut bench, Some(own)), None, "the rig's own matter");
    assert_eq!(bench.take("c", "b"), Taken::Fresh);
}

#[test]
fn a_breaker_of_its_own_policy_keeps_its_own_times() {
    let mut bench = TownBench::with_policy(TownPolicy {
        cooldown_ms: 1_000,
        cooldown_max_ms: 1_000,
        ..TownPolicy::default()
    });
    fail(&mut bench, "a", Class::Billing);
    bench.take("c", "b");
    bench.run_for(1_000);
    assert_eq!(bench.checks().len(), 1);
    assert_eq!(bench.guard(&credential()).sample, config());
}
