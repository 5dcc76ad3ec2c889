//! What holds a whole town back: its budget of the day and a person's pause; and how its times
//! stand the clock.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use proptest::prelude::*;
use support::{
    DAY_MS, HOUR_MS, MINUTE_MS, commit, completed, failed, gateway, person,
    town::{TownBench, ask, dispatch, report, rig, tokens, used},
};
use wellhead_rig::{
    Class, Notice, PauseMode, Refusal, Timestamp, Who, next_utc_day,
    town::{Taken, TownInput, TownPolicy, TownReply},
};

fn with_day(limit: u64) -> TownBench {
    TownBench::with_policy(policy(limit))
}

fn policy(limit: u64) -> TownPolicy {
    TownPolicy {
        day: tokens(limit),
        ..TownPolicy::default()
    }
}

fn names(notices: Vec<(String, Notice)>) -> Vec<(String, &'static str)> {
    let word = |notice: &Notice| match notice {
        Notice::BudgetWarned { .. } => "warned",
        Notice::BudgetStopped { .. } => "stopped",
        Notice::BudgetFree => "free",
        Notice::Tripped { .. } | Notice::Closed { .. } => "breaker",
    };
    let words = notices.into_iter();
    words.map(|(rig, n)| (rig, word(&n))).collect()
}

fn pause(bench: &mut TownBench, mode: PauseMode) {
    bench.step(TownInput::Pause {
        mode,
        by: person(),
        reason: Some("the weekend".to_owned()),
    });
}

/// The budget is used up by "a"; "c" runs too, and "d" waits.
fn stopped() -> TownBench {
    let mut bench = with_day(100);
    bench.take("a", "b");
    bench.take("c", "b");
    bench.used("a", "b", 100);
    assert_eq!(bench.take("d", "b"), Taken::Refused);
    bench
}

#[test]
fn at_eighty_percent_one_rig_warns_once_a_day() {
    let mut bench = with_day(100);
    bench.take("a", "b");
    bench.take("c", "b");
    bench.used("a", "b", 79);
    assert_eq!(bench.notices(), []);
    bench.used("c", "b", 1);
    bench.used("c", "b", 5);
    let warned = names(bench.notices());
    assert_eq!(warned, [("c".to_owned(), "warned")]);
    assert_eq!(bench.ended(), []);
    bench.pass(DAY_MS);
    bench.used("a", "b", 79 + 85);
    let warned = names(bench.notices());
    assert_eq!(warned, [("a".to_owned(), "warned")], "another day");
}

/// C10.
#[test]
fn at_the_limit_what_runs_is_ended_once_and_nothing_is_granted_until_the_next_day() {
    let mut bench = stopped();
    let ended = bench.ended();
    assert_eq!(ended.len(), 2);
    let by_budget = ended.iter().all(|(_, f)| f.class == Class::BudgetStop);
    assert!(by_budget, "{ended:?}");
    let (refusal, until) = bench.refusal("d", "b");
    let limit = tokens(100);
    assert_eq!(refusal, Refusal::Budget { limit });
    assert_eq!(until, next_utc_day(bench.now));
    bench.used("c", "b", 9);
    assert_eq!(bench.ended(), [], "once");
    let told = names(bench.notices());
    assert_eq!(told, [("a".to_owned(), "stopped")], "one rig, once");
    for name in ["a", "c"] {
        bench.finish(name, "b", failed(Class::BudgetStop));
    }
    assert_eq!(
        bench.offers(),
        Vec::<String>::new(),
        "a free slot is no budget"
    );
    let check = TownInput::AskCheck {
        rig: rig("e"),
        scopes: ask().scopes,
    };
    let held = bench.step(check);
    assert!(matches!(held, TownReply::Held(Some(_))), "not even checked");
}

#[test]
fn the_next_utc_day_frees_whoever_waits_and_tells_who_told_the_people() {
    let mut bench = stopped();
    bench.notices();
    let day = next_utc_day(bench.now);
    assert_eq!(bench.alarm, Some(day));
    bench.next_alarm(day);
    assert_eq!(bench.offers(), ["d"]);
    assert_eq!(names(bench.notices()), [("a".to_owned(), "free")]);
    assert_eq!(bench.take_as("d", dispatch("b", 2), ask()), Taken::Fresh);
}

#[test]
fn the_people_are_told_of_the_next_day_although_no_rig_waits_for_it() {
    let mut bench = with_day(100);
    bench.take("a", "b");
    bench.used("a", "b", 100);
    bench.finish("a", "b", failed(Class::BudgetStop));
    bench.notices();
    bench.run_for(DAY_MS);
    assert_eq!(names(bench.notices()), [("a".to_owned(), "free")]);
    bench.alarms.clear();
    bench.run_for(2 * DAY_MS);
    assert_eq!(bench.alarms, [], "and then it sleeps");
}

#[test]
fn a_raised_budget_frees_at_once_and_a_lowered_one_ends_what_runs() {
    let mut bench = stopped();
    bench.notices();
    let policy_of = |limit| TownInput::SetPolicy {
        policy: policy(limit),
        by: Who::named("somebody"),
    };
    bench.step(policy_of(1_000));
    assert_eq!(names(bench.notices()), [("a".to_owned(), "free")]);
    assert_eq!(bench.offers(), ["d"]);
    assert_eq!(bench.take_as("d", dispatch("b", 2), ask()), Taken::Fresh);
    bench.ended();
    bench.step(policy_of(50));
    let ended = bench.ended();
    assert_eq!(ended.len(), 1, "the others are being ended already");
    assert_eq!(ended[0].0, "d");
    let told = names(bench.notices());
    assert!(told.iter().any(|(_, word)| *word == "stopped"), "{told:?}");
}

#[test]
fn a_pause_lets_what_runs_go_on_and_a_resume_offers_what_waits() {
    let mut bench = TownBench::with_slots(3);
    bench.take("a", "b");
    pause(&mut bench, PauseMode::Pause);
    assert_eq!(bench.ended(), []);
    for name in ["c", "d", "e"] {
        assert_eq!(bench.take(name, "b"), Taken::Refused);
    }
    let (refusal, _) = bench.refusal("c", "b");
    assert_eq!(refusal, Refusal::Paused { by: person() });
    bench.town = bench.restarted();
    bench.run_for(HOUR_MS);
    assert_eq!(bench.offers(), Vec::<String>::new(), "a restart keeps it");
    bench.step(TownInput::Resume {
        by: Who::named("somebody"),
    });
    assert_eq!(bench.offers(), ["c", "d"], "as many as there are slots");
    assert_eq!(bench.take_as("c", dispatch("b", 2), ask()), Taken::Fresh);
}

#[test]
fn a_stop_ends_what_runs_and_no_probe_is_offered_meanwhile() {
    let mut bench = TownBench::new();
    bench.take("a", "b");
    bench.finish("a", "b", failed(Class::Credentials));
    bench.take("c", "b");
    bench.run_for(75_000);
    let (no, _) = bench.checks().remove(0);
    pause(&mut bench, PauseMode::Stop);
    bench.checked(no, None);
    assert_eq!(bench.offers(), Vec::<String>::new());
    bench.step(TownInput::Resume {
        by: Who::named("somebody"),
    });
    assert_eq!(bench.offers(), ["c"]);

    let mut bench = TownBench::new();
    bench.take("a", "b");
    pause(&mut bench, PauseMode::Stop);
    pause(&mut bench, PauseMode::Stop);
    let ended = bench.ended();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].1.class, Class::Interrupted);
}

/// What a person ordered is kept with its actor, and the list is bounded.
#[test]
fn the_newest_orders_are_kept_with_who_gave_them() {
    let mut bench = TownBench::new();
    let by = |name: &str| Who::named(name);
    for mode in [PauseMode::Pause, PauseMode::Stop] {
        let (by, reason) = (by("ann"), None);
        bench.step(TownInput::Pause { mode, by, reason });
    }
    bench.step(TownInput::Resume { by: by("bob") });
    let orders = |bench: &TownBench| {
        let orders = &bench.town.record().orders;
        let words = orders.iter().map(|one| format!("{} {}", one.by, one.what));
        words.collect::<Vec<_>>()
    };
    let last: Vec<_> = orders(&bench).into_iter().rev().take(3).collect();
    assert_eq!(last, ["bob resume", "ann stop", "ann pause"]);
    for _ in 0..100 {
        bench.step(TownInput::Reset {
            scopes: None,
            by: by("bob"),
        });
    }
    assert_eq!(orders(&bench).len(), 50);
}

#[test]
fn a_town_where_nobody_waits_has_no_alarm() {
    let mut bench = TownBench::new();
    assert_eq!(bench.alarm, None);
    bench.take("a", "b");
    bench.output("a", "b");
    assert_eq!(bench.alarm, None, "a session's clocks are its rig's");
    bench.finish("a", "b", failed(Class::Credentials));
    bench.step(TownInput::Alarm);
    assert_eq!(bench.alarm, None);
}

/// Everything that has a time: an offline wait, an offer, a used budget, an open breaker.
fn with_times() -> TownBench {
    let mut bench = TownBench::with_policy(TownPolicy {
        slots_max: 3,
        ..policy(1_000)
    });
    for name in ["a", "c", "d"] {
        bench.take(name, "b");
    }
    bench.take("e", "b");
    bench.finish("d", "b", completed(commit()));
    assert_eq!(bench.offers(), ["e"]);
    bench.used("a", "b", 500);
    bench.offline("a", "b");
    bench
}

/// E1, E3: what was under way has its whole time again, once.
#[test]
fn after_a_sleep_no_wait_and_no_offer_has_run_out() {
    let mut bench = with_times();
    bench.pass(8 * HOUR_MS);
    bench.step(TownInput::ClockJumped);
    bench.step(TownInput::Alarm);
    assert_eq!(bench.ended(), []);
    let taken = bench.take_as("e", dispatch("b", 2), ask());
    assert_eq!(taken, Taken::Refused, "by the gateway");
    for (no, _) in bench.checks() {
        bench.checked(no, None);
    }
    assert_eq!(bench.answered(), ["a"], "its cooldown is over by now");
}

/// E2: no deadline is further away than its own length.
#[test]
fn after_a_jump_back_nothing_waits_longer_than_its_own_length_and_no_budget_opens_again() {
    let mut bench = with_times();
    bench.used("a", "b", 1_000);
    bench.ended();
    bench.pass(-DAY_MS);
    bench.step(TownInput::ClockJumped);
    assert!(bench.alarm <= Some(bench.now.plus_ms(2 * MINUTE_MS)));
    assert_eq!(bench.take("f", "b"), Taken::Refused);
    let (refusal, until) = bench.refusal("f", "b");
    assert!(matches!(refusal, Refusal::Budget { .. }), "{refusal:?}");
    assert_eq!(until, next_utc_day(bench.now), "by the clock as it is now");
}

#[test]
fn a_clock_that_was_set_back_without_a_word_opens_no_budget_and_stops_no_deadline() {
    let mut bench = with_times();
    bench.used("a", "b", 1_000);
    bench.pass(-DAY_MS);
    assert_eq!(bench.take("f", "b"), Taken::Refused);
    let (refusal, _) = bench.refusal("f", "b");
    assert!(matches!(refusal, Refusal::Budget { .. }), "{refusal:?}");

    let mut bench = with_times();
    bench.pass(-DAY_MS);
    bench.step(TownInput::Alarm);
    bench.alarms.clear();
    let end = bench.now.plus_ms(10 * MINUTE_MS);
    while bench.next_alarm(end) {
        for (no, _) in bench.checks() {
            bench.checked(no, Some(support::failure(Class::Gateway)));
        }
    }
    assert_eq!(bench.ended().len(), 1, "its ten minutes are over");
    assert!(bench.alarms.len() < 10, "{:?}", bench.alarms);
}

/// E5.
#[test]
fn times_at_the_ends_of_their_range_saturate() {
    for first in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        let mut bench = with_times();
        for at in [first, i64::MAX, i64::MIN, 0] {
            bench.now = Timestamp(at);
            bench.step(TownInput::ClockJumped);
            bench.step(TownInput::Alarm);
            bench.take("f", "b");
            bench.used("a", "b", 600);
            bench.offline("c", "b");
            for (no, _) in bench.checks() {
                bench.checked(no, None);
            }
        }
        let _ = bench.is_closed(&gateway());
    }
}

/// C11 and the sums: reports of one dispatch may come in any order, twice, or not at all.
fn any_reports() -> impl Strategy<Value = Vec<(usize, u64)>> {
    prop::collection::vec((0_usize..3, 0_u64..1_000), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_order_of_the_same_reports_gives_the_same_spend(
        reports in any_reports(),
        order in any::<prop::sample::Index>(),
    ) {
        let names = ["a", "c", "d"];
        let spent = |reports: &[(usize, u64)]| {
            let mut bench = TownBench::new();
            for name in names {
                bench.take(name, "b");
            }
            for (n, tokens) in reports {
                bench.used(names[*n], "b", *tokens);
            }
            for name in names {
                let last = report(dispatch("b", 1), completed(commit()));
                let usage = used(500);
                bench.finish_as(name, wellhead_rig::Report { usage, ..last });
            }
            bench.town.record().spent
        };
        let mut turned = reports.clone();
        if !turned.is_empty() {
            turned.rotate_left(order.index(reports.len()));
        }
        let mut twice = reports.clone();
        twice.extend(reports.iter().rev());
        prop_assert_eq!(spent(&reports), spent(&turned));
        prop_assert_eq!(spent(&reports), spent(&twice));
        let most = |n| reports.iter().filter(|r| r.0 == n).map(|r| r.1).max();
        let sum: u64 = (0..3).map(|n| most(n).unwrap_or(0).max(500)).sum();
        prop_assert_eq!(spent(&reports).total.tokens(), sum);
    }
}
