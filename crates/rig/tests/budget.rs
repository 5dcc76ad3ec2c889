//! What work may cost: the rig's budget of the day and that of each bead.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use proptest::prelude::*;
use support::{
    Bench, DAY_MS, HOUR_MS, MINUTE_MS, beat_of, commit, completed, config, failed, person,
    town::tokens,
};
use wellhead_rig::{
    Beat, Budget, Class, DispatchOrder, EventType, Input, Limit, NewBead, Park, Phase, Policy,
    Report, Status, Usage, next_utc_day,
};

const RIG: &str = "budget:rig";

fn set(day: Option<u64>, bead: Option<u64>) -> Input {
    let limit = |limit: Option<u64>| limit.map_or_else(Limit::default, tokens);
    Input::SetBudget {
        budget: Budget {
            bead: limit(bead),
            day: limit(day),
        },
        by: person(),
    }
}

/// One session that works on a rig with that budget.
fn working(day: Option<u64>, bead: Option<u64>) -> (Bench, DispatchOrder) {
    let (mut bench, order) = Bench::working();
    bench.ok(set(day, bead));
    (bench, order)
}

fn is_parked(bench: &Bench, order: &DispatchOrder) -> bool {
    let phase = &bench.bead(&order.dispatch.bead).phase;
    matches!(
        phase,
        Phase::Waiting {
            park: Some(Park::Budget),
            ..
        }
    )
}

#[test]
fn at_eighty_percent_there_is_one_warning_a_day() {
    let (mut bench, order) = working(Some(100), None);
    bench.beat(&order.dispatch, 79);
    assert_eq!(bench.count(EventType::BudgetWarned), 0);
    for used in [80, 90, 99] {
        bench.beat(&order.dispatch, used);
    }
    assert_eq!(bench.count(EventType::BudgetWarned), 1);
    assert_eq!((bench.stops(), bench.causes()), (vec![], vec![]));
}

/// C10: ended after its work is saved, uncharged, and continued where it stopped.
#[test]
fn at_the_limit_what_runs_is_ended_and_goes_on_in_its_session_on_the_next_utc_day() {
    let (mut bench, order) = working(Some(100), None);
    bench.beat(&order.dispatch, 100);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    assert_eq!(bench.causes(), [RIG]);
    assert_eq!(bench.count(EventType::BudgetStopped), 1);
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!((bead.numbers.failures, bead.numbers.prompts), (0, 1));
    let last = bead.last_failure.as_ref().expect("a reason");
    assert_eq!(last.failure.class, Class::BudgetStop);
    bench.ok(Input::Sling(NewBead::issue("more")));
    let day = next_utc_day(bench.now);
    bench.effects.clear();
    bench.run_for(day.since_ms(bench.now) - 1);
    assert_eq!(bench.effects, []);
    assert_eq!(bench.causes(), [RIG], "told once");
    bench.run_for(1);
    let next = bench.dispatch().expect("on the next day");
    assert_eq!(next.resume.as_deref(), Some("ses-1"));
    assert!(bench.dispatch().is_some(), "and whatever else waited");
    assert_eq!(bench.causes(), Vec::<String>::new(), "its cause is gone");
}

/// The last report of a dispatch may be the one that uses it up, when nothing runs any more.
#[test]
fn a_budget_that_the_last_report_used_up_is_told_when_work_waits_for_it() {
    let (mut bench, order) = working(Some(100), None);
    let Input::AgentDone(report) = Bench::over(&order.dispatch, completed(commit())) else {
        unreachable!("over is a report")
    };
    let usage = Usage {
        output_tokens: 150,
        ..Usage::default()
    };
    bench.ok(Input::AgentDone(Report { usage, ..report }));
    bench.run_for(MINUTE_MS);
    assert_eq!(bench.causes(), Vec::<String>::new(), "nothing waits");
    for title in ["one", "two"] {
        bench.ok(Input::Sling(NewBead::issue(title)));
    }
    assert_eq!(bench.dispatch(), None);
    assert_eq!(bench.causes(), [RIG]);
    assert_eq!(bench.count(EventType::BudgetStopped), 1);
    let count = bench.escalations()[0].metadata.get("count");
    assert_eq!(count, Some(&serde_json::json!(1)));
}

#[test]
fn a_raised_budget_goes_on_at_once() {
    let (mut bench, order) = working(Some(100), None);
    bench.beat(&order.dispatch, 100);
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    assert_eq!(bench.dispatch(), None);
    bench.ok(set(Some(101), None));
    assert!(bench.dispatch().is_some());
    assert_eq!(bench.causes(), Vec::<String>::new());
    assert_eq!(bench.count(EventType::BudgetSet), 2);
}

#[test]
fn a_lowered_budget_ends_what_runs() {
    for lowered in [set(Some(50), None), set(None, Some(50))] {
        let (mut bench, order) = working(None, None);
        bench.beat(&order.dispatch, 60);
        assert_eq!(bench.stops(), []);
        bench.ok(lowered);
        assert_eq!(bench.stops(), [order.dispatch]);
    }
}

#[test]
fn a_bead_beyond_its_own_budget_waits_for_a_person_and_holds_nobody_else_back() {
    let (mut bench, order) = working(None, Some(100));
    let other = bench.another("another task");
    bench.start(&other.dispatch);
    bench.beat(&order.dispatch, 100);
    assert_eq!(bench.stops(), std::slice::from_ref(&order.dispatch));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    assert!(is_parked(&bench, &order));
    let cause = format!("budget:bead:{}", order.dispatch.bead);
    assert_eq!(bench.causes(), [cause]);
    bench.run_for(DAY_MS);
    assert!(is_parked(&bench, &order), "a new day is no answer");
    bench.effects.clear();
    bench.ok(set(None, Some(100)));
    assert_eq!(bench.dispatch(), None, "the same budget again");
    bench.ok(set(None, Some(500)));
    let next = bench.dispatch().expect("goes on");
    assert_eq!(next.dispatch.bead, order.dispatch.bead);
    assert_eq!(bench.causes(), Vec::<String>::new());
}

#[test]
fn a_parked_bead_waits_quietly() {
    let (mut bench, order) = working(None, Some(100));
    bench.beat(&order.dispatch, 100);
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    let seen = bench.escalations()[0].id.clone();
    let by = person();
    bench.ok(Input::Acknowledge { bead: seen, by });
    bench.effects.clear();
    bench.alarms.clear();
    bench.run_for(DAY_MS);
    assert_eq!(bench.effects, []);
    let patrols = bench.alarms.windows(2);
    assert!(patrols.clone().count() >= 22);
    for pair in patrols {
        assert_eq!(pair[1].since_ms(pair[0]), HOUR_MS);
    }
}

#[test]
fn a_budget_and_what_was_spent_of_it_survive_a_restart() {
    let (mut bench, order) = working(Some(100), None);
    bench.beat(&order.dispatch, 99);
    bench.restart();
    bench.beat(&order.dispatch, 100);
    assert_eq!(bench.stops(), [order.dispatch]);
}

/// E2: a jump back does not open a used budget again, nor hold it for a day that never was.
#[test]
fn a_clock_that_jumps_back_opens_no_budget() {
    let (mut bench, order) = working(Some(100), None);
    bench.beat(&order.dispatch, 100);
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    bench.pass(-DAY_MS);
    for told in [false, true] {
        bench.ok(Input::Sling(NewBead::issue("more")));
        assert_eq!(bench.dispatch(), None, "told of the jump: {told}");
        bench.ok(Input::ClockJumped);
    }
    let bead = bench.bead(&order.dispatch.bead).clone();
    let at = bench.rig.explain(&bead, bench.now).at;
    assert_eq!(at, Some(next_utc_day(bench.now)));
    bench.run_for(DAY_MS);
    assert!(bench.dispatch().is_some());
}

/// C11: what is estimated is spent all the same, and stays marked.
#[test]
fn estimated_costs_count_and_stay_marked() {
    let (mut bench, order) = Bench::working();
    let usage = Usage {
        cost_usd: 2.0,
        estimated: true,
        ..Usage::default()
    };
    bench.ok(Input::Heartbeat(Beat {
        usage,
        ..beat_of(&order.dispatch)
    }));
    let spent = bench.rig.record().spent;
    assert!(spent.total.estimated && spent.today.estimated);
    let day = Limit {
        usd: Some(2.0),
        tokens: None,
    };
    let budget = Budget {
        day,
        ..Budget::default()
    };
    let by = person();
    bench.ok(Input::SetBudget { budget, by });
    assert_eq!(bench.stops(), [order.dispatch]);
}

#[test]
fn a_probe_is_not_made_with_a_bead_that_is_beyond_its_budget() {
    let new = NewBead::issue("the task");
    let (mut bench, order) = Bench::dispatched_with(config(), Policy::default(), new);
    bench.start(&order.dispatch);
    bench.beat(&order.dispatch, 10);
    bench.ok(set(None, Some(10)));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    assert!(is_parked(&bench, &order));
    let other = bench.another("another task");
    bench.start(&other.dispatch);
    bench.ok(Bench::done(&other));
    bench.ok(Bench::over(&other.dispatch, completed(commit())));
    let bead = bench.bead(&other.dispatch.bead);
    assert_eq!(bead.status(), Status::Closed);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    /// Beats come late, twice and in any order: the spend is the greatest sum of each dispatch.
    #[test]
    fn any_order_of_the_same_beats_gives_the_same_spend(
        sums in prop::collection::vec(0_u64..1_000, 1..12),
        by in any::<prop::sample::Index>(),
    ) {
        let spent = |sums: &[u64]| {
            let (mut bench, order) = Bench::working();
            for sum in sums {
                bench.beat(&order.dispatch, *sum);
            }
            bench.rig.record().spent
        };
        let mut turned = sums.clone();
        turned.rotate_left(by.index(sums.len()));
        prop_assert_eq!(spent(&sums), spent(&turned));
        let most = sums.iter().max().copied().unwrap_or(0);
        prop_assert_eq!(spent(&sums).total.tokens(), most);
    }
}
