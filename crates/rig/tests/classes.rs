//! Every class of failure, returned for ever: bounded cost, one escalation, then silence.
//!
//! The container is healthy otherwise and its checks pass; only the sessions fail.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, DAY_MS, MINUTE_MS, config, failed};
use wellhead_rig::{
    Class, CredentialSource, Effect, EventType, Failure, Input, NewBead, Phase, Policy, Preflight,
    Reach, Report, RigConfig, Stage, Timestamp, Trip,
};

const WEEK_MS: i64 = 7 * DAY_MS;

/// When each dispatch was sent, until the rig gave the bead up.
fn fail_for_ever(class: Class) -> (Bench, Vec<Timestamp>) {
    fail_for_ever_with(class, false)
}

/// The same; with `output` each session wrote something before it failed.
fn fail_for_ever_with(class: Class, output: bool) -> (Bench, Vec<Timestamp>) {
    let new = NewBead::issue("the task");
    let (mut bench, mut order) = Bench::dispatched_with(config(), Policy::default(), new);
    let mut sent = vec![bench.now];
    // A budget comes back once a day, so twenty prompts take weeks.
    let end = bench.now.plus_ms(30 * DAY_MS);
    loop {
        bench.pass(1_000);
        bench.start(&order.dispatch);
        bench.pass(1_000);
        let Input::AgentDone(report) = Bench::over(&order.dispatch, failed(class)) else {
            unreachable!("over is a report")
        };
        bench.ok(Input::AgentDone(Report { output, ..report }));
        order = loop {
            bench.answer_checks(&Preflight::Passed);
            if let Some(next) = bench.dispatch() {
                break next;
            }
            if !bench.next_alarm(end) {
                return (bench, sent);
            }
        };
        sent.push(bench.now);
        assert!(sent.len() <= 100, "{class} goes on for ever");
    }
}

#[test]
fn a_class_that_never_ends_costs_a_bounded_number_of_prompts() {
    for class in Class::ALL {
        let (bench, sent) = fail_for_ever(class);
        let policy = Policy::default();
        let limit = if class.is_charged() {
            policy.attempts_max
        } else {
            policy.prompts_max
        };
        assert_eq!(sent.len(), limit as usize, "{class}");
        let bead = bench.rig.beads().find(|b| b.is_work()).expect("the bead");
        assert!(matches!(bead.phase, Phase::Failed { .. }), "{class}");
        assert_eq!(bead.numbers.prompts, limit, "{class}");
        let last = bead.last_failure.as_ref().expect("a reason");
        assert_eq!(last.failure.class, class);
        bench.assert_no_hot_loop();
    }
}

#[test]
fn what_a_failing_scope_let_through_does_not_close_its_breaker() {
    for class in Class::ALL
        .into_iter()
        .filter(|class| class.trip() == Trip::AtOnce)
    {
        let (silent, silent_sent) = fail_for_ever_with(class, false);
        let (bench, sent) = fail_for_ever_with(class, true);
        assert_eq!(sent.len(), silent_sent.len(), "{class}");
        assert_eq!(
            bench.escalations().len(),
            silent.escalations().len(),
            "{class}"
        );
    }
}

#[test]
fn a_person_is_told_once() {
    for class in Class::ALL {
        let (bench, _) = fail_for_ever(class);
        let escalations = bench.escalations();
        assert_eq!(escalations.len(), 1, "{class}");
        let open = escalations.first().is_some_and(|bead| !bead.is_terminal());
        assert!(open, "{class}: closed while its cause is there");
        assert!(
            escalations
                .iter()
                .all(|b| b.body.as_deref().is_some_and(|t| t.contains("What to do"))),
            "{class}"
        );
    }
}

#[test]
fn a_bead_that_was_given_up_is_silent_for_a_week() {
    for class in Class::ALL {
        let (mut bench, sent) = fail_for_ever(class);
        bench.effects.clear();
        assert_eq!(bench.alarm, None, "{class}");
        bench.run_for(WEEK_MS);
        bench.ok(Input::Alarm);
        assert_eq!(bench.effects, Vec::new(), "{class} after {}", sent.len());
        let bead = bench.rig.beads().find(|b| b.is_work()).expect("the bead");
        assert!(bead.hooked_to().is_none(), "{class} keeps its hook");
    }
}

#[test]
fn charged_classes_leave_growing_gaps() {
    for class in Class::ALL.into_iter().filter(|class| class.is_charged()) {
        let (bench, sent) = fail_for_ever(class);
        let bead = bench.rig.beads().find(|b| b.is_work()).expect("the bead");
        assert_eq!(bead.numbers.failures, Policy::default().attempts_max);
        let gaps: Vec<i64> = sent
            .windows(2)
            .map(|pair| pair[1].since_ms(pair[0]))
            .collect();
        assert!(gaps.is_sorted_by(|a, b| a < b), "{class}: {gaps:?}");
        assert!(gaps.first() >= Some(&30_000), "{class}: {gaps:?}");
    }
}

/// Shared scopes are their town's: `tests/town.rs` has the same for each of those.
#[test]
fn a_repository_that_is_out_of_reach_is_probed_at_longer_and_longer_gaps() {
    let (bench, sent) = fail_for_ever(Class::Git);
    let gaps: Vec<i64> = sent
        .windows(2)
        .map(|pair| pair[1].since_ms(pair[0]))
        .collect();
    assert!(gaps.first() >= Some(&MINUTE_MS), "{gaps:?}");
    assert!(gaps.last() >= Some(&(30 * MINUTE_MS)), "{gaps:?}");
    let longest = gaps.iter().max();
    assert!(longest <= Some(&(31 * MINUTE_MS)), "{gaps:?}");
    assert!(bench.count(EventType::BreakerTripped) >= 1);
}

#[test]
fn what_speaks_against_a_shared_scope_leaves_the_rigs_own_breaker_closed() {
    let shared = Class::ALL
        .into_iter()
        .filter(|class| !matches!(class.reach(), Reach::Rig | Reach::Nobody));
    for class in shared {
        let (bench, _) = fail_for_ever(class);
        assert!(bench.rig.record().breaker.is_closed(), "{class}");
        assert_eq!(bench.count(EventType::BreakerTripped), 0, "{class}");
    }
}

#[test]
fn what_was_lost_is_continued_in_its_session() {
    for class in [Class::Lost, Class::Interrupted] {
        let (mut bench, order) = Bench::working();
        bench.ok(Bench::over(&order.dispatch, failed(class)));
        let next = bench.dispatch().expect("at once");
        assert_eq!(next.resume.as_deref(), Some("ses-1"));
        assert_eq!(next.failures, 0);
    }
}

fn missing_credentials() -> Preflight {
    let text = "no token";
    Preflight::Failed(Failure::new(Class::Credentials, Stage::Preflight, text))
}

#[test]
fn without_credentials_nothing_is_dispatched_and_the_checks_keep_to_the_cooldowns() {
    let mut bench = Bench::new();
    let credentials = CredentialSource::None;
    bench.ok(Input::Configure(RigConfig {
        credentials,
        ..config()
    }));
    bench.ok(Input::Sling(NewBead::issue("the task")));
    let mut checks = Vec::new();
    let end = bench.now.plus_ms(WEEK_MS);
    loop {
        if bench.answer_checks(&missing_credentials()) > 0 {
            checks.push(bench.now);
        }
        if !bench.next_alarm(end) {
            break;
        }
    }
    let spawns = |effect: &Effect| matches!(effect, Effect::Dispatch(_) | Effect::StopAgent { .. });
    assert!(!bench.effects.iter().any(spawns));
    assert_eq!(bench.escalations().len(), 1);
    let gaps: Vec<i64> = checks
        .windows(2)
        .map(|pair| pair[1].since_ms(pair[0]))
        .collect();
    assert!(gaps.first() >= Some(&MINUTE_MS), "{gaps:?}");
    assert!(
        gaps.iter().skip(6).all(|gap| *gap >= 30 * MINUTE_MS),
        "{gaps:?}"
    );
    assert!(checks.len() <= 7 * 48 + 8, "{} checks", checks.len());
    let bead = bench.rig.beads().find(|b| b.is_work()).expect("the bead");
    assert_eq!(bead.numbers.prompts, 0);
    assert_eq!(bead.numbers.dispatch_no, 0);
}

#[test]
fn fresh_credentials_are_tried_at_once() {
    let mut bench = Bench::new();
    let credentials = CredentialSource::None;
    bench.ok(Input::Configure(RigConfig {
        credentials,
        ..config()
    }));
    bench.ok(Input::Sling(NewBead::issue("the task")));
    bench.answer_checks(&missing_credentials());
    assert_eq!(bench.dispatch(), None);
    bench.ok(Input::Configure(config()));
    bench.answer_checks(&Preflight::Passed);
    let order = bench.dispatch().expect("the probe");
    assert_eq!(order.dispatch.no, 1);
}
