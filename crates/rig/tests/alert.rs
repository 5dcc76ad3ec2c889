//! What tells a person: one escalation per cause, told again while nobody has seen it, silent once
//! somebody has.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{
    Bench, DAY_MS, HOUR_MS, MINUTE_MS, beat_of, config, failed, failure, gateway, person,
};
use wellhead_rig::{
    Bead, BeadId, Beat, CAUSES_OPEN_MAX, Class, EventType, Input, Limit, NewBead, Notice, Priority,
    Refused, Reply, Resolution, Scope,
};

const AGAIN_MS: i64 = 4 * HOUR_MS;

fn tripped(class: Class) -> Notice {
    Notice::Tripped {
        scope: gateway(),
        failure: failure(class),
        next_probe_at: wellhead_rig::Timestamp(support::EPOCH_MS),
    }
}

fn notice(no: u64, notice: Notice) -> Input {
    Input::Noticed { no, notice }
}

/// A configured rig that was told once that its gateway is down.
fn told() -> (Bench, BeadId) {
    let mut bench = Bench::new();
    bench.ok(Input::Configure(config()));
    bench.ok(notice(1, tripped(Class::Gateway)));
    let id = only(&bench).id.clone();
    (bench, id)
}

#[track_caller]
fn only(bench: &Bench) -> &Bead {
    let open: Vec<_> = bench.rig.open_escalations().collect();
    assert_eq!(open.len(), 1);
    open[0]
}

fn count(bead: &Bead) -> Option<u64> {
    bead.metadata.get("count")?.as_u64()
}

fn acknowledge(id: &BeadId) -> Input {
    let (bead, by) = (id.clone(), person());
    Input::Acknowledge { bead, by }
}

/// C12.
#[test]
fn a_hundred_equal_failures_are_one_escalation_with_a_count() {
    let (mut bench, _) = told();
    for no in 2..=100 {
        bench.pass(1_000);
        bench.ok(notice(no, tripped(Class::Gateway)));
    }
    assert_eq!(count(only(&bench)), Some(100));
    assert_eq!(bench.count(EventType::Escalated), 1, "told once");
}

#[test]
fn a_repeated_notice_changes_nothing() {
    let (mut bench, _) = told();
    let before = bench.rig.clone();
    let again = bench.ok(notice(1, tripped(Class::Gateway)));
    assert_eq!(again, Reply::Repeated);
    assert_eq!(bench.rig, before);
}

#[test]
fn what_nobody_has_seen_is_told_three_times_more_four_hours_apart_and_then_no_more() {
    let (mut bench, id) = told();
    let began = bench.now;
    bench.alarms.clear();
    bench.run_for(7 * DAY_MS);
    let gaps: Vec<i64> = bench.alarms.iter().map(|at| at.since_ms(began)).collect();
    assert_eq!(gaps, [AGAIN_MS, 2 * AGAIN_MS, 3 * AGAIN_MS]);
    assert_eq!(bench.count(EventType::Escalated), 4);
    assert_eq!(bench.bead(&id).priority, Priority::Critical);
    assert_eq!(bench.alarm, None);
}

/// C13.
#[test]
fn what_a_person_has_seen_is_silent_and_another_class_of_the_same_scope_is_told() {
    let (mut bench, id) = told();
    bench.run_for(5 * HOUR_MS);
    bench.ok(acknowledge(&id));
    assert_eq!(bench.alarm, None);
    let escalated = bench.count(EventType::Escalated);
    bench.ok(notice(2, tripped(Class::Gateway)));
    assert_eq!(count(bench.bead(&id)), Some(2), "counted");
    bench.run_for(2 * DAY_MS);
    assert_eq!(bench.count(EventType::Escalated), escalated, "and silent");
    bench.ok(notice(3, tripped(Class::RateLimited)));
    assert_eq!(bench.count(EventType::Escalated), escalated + 1);
    assert_eq!(bench.rig.open_escalations().count(), 2);
    assert!(bench.alarm.is_some());
}

#[test]
fn it_is_recorded_who_saw_it_first_and_when() {
    let (mut bench, id) = told();
    bench.pass(MINUTE_MS);
    let at = bench.now;
    bench.ok(acknowledge(&id));
    bench.pass(MINUTE_MS);
    bench.ok(Input::Acknowledge {
        bead: id.clone(),
        by: wellhead_rig::Who::named("bob"),
    });
    let alert = bench.bead(&id).alert.clone().expect("an alert");
    let seen = alert.acknowledged.expect("seen");
    assert_eq!((seen.by, seen.at), (person(), at));
    assert_eq!(bench.count(EventType::Acknowledged), 1);
    bench.restart();
    let work = Input::CreateBead(NewBead::issue("work"));
    let Reply::Bead(work) = bench.ok(work) else {
        panic!("no bead");
    };
    let refused = bench.refused(acknowledge(&work.id));
    assert!(matches!(refused, Refused::Conflict(_)), "{refused:?}");
}

#[test]
fn what_is_over_closes_its_escalation_and_wakes_nobody() {
    let (mut bench, id) = told();
    bench.ok(notice(2, Notice::Closed { scope: gateway() }));
    let phase = &bench.bead(&id).phase;
    let healed = matches!(
        phase,
        wellhead_rig::Phase::Closed {
            resolution: Resolution::Healed,
            ..
        }
    );
    assert!(healed, "{phase:?}");
    assert_eq!(bench.alarm, None);
    let limit = Limit::default();
    bench.ok(notice(3, Notice::BudgetStopped { limit }));
    assert_eq!(bench.causes(), ["budget:town"]);
    bench.ok(notice(4, Notice::BudgetFree));
    assert_eq!(bench.causes(), Vec::<String>::new());
}

/// Messages overtake each other: the older news does not undo the newer.
#[test]
fn news_of_an_older_closing_leaves_a_newer_escalation_open() {
    let mut bench = Bench::new();
    bench.ok(notice(1, tripped(Class::Gateway)));
    bench.ok(notice(3, tripped(Class::Gateway)));
    bench.ok(notice(2, Notice::Closed { scope: gateway() }));
    assert_eq!(count(only(&bench)), Some(2));
    let scope = Scope::Container;
    bench.ok(notice(4, Notice::Closed { scope }));
    only(&bench);
    bench.ok(notice(5, Notice::Closed { scope: gateway() }));
    assert_eq!(bench.causes(), Vec::<String>::new());
}

/// A session that ran already when a breaker opened proves nothing; one that was let pass does.
#[test]
fn only_output_of_a_later_dispatch_closes_what_was_told_of_a_scope() {
    let (mut bench, order) = Bench::working();
    bench.pass(1_000);
    bench.ok(notice(1, tripped(Class::Gateway)));
    let writes = |dispatch| {
        Input::Heartbeat(Beat {
            output: true,
            ..beat_of(dispatch)
        })
    };
    bench.pass(1_000);
    bench.ok(writes(&order.dispatch));
    only(&bench);
    let next = bench.another("another task");
    bench.start(&next.dispatch);
    bench.ok(writes(&next.dispatch));
    assert_eq!(bench.causes(), Vec::<String>::new());
}

#[test]
fn the_same_words_of_an_agent_are_counted() {
    let mut bench = Bench::new();
    let by = |agent: &str, title: &str| {
        let mut new = NewBead::issue(title);
        let agent = serde_json::Value::from(agent);
        new.metadata.insert("agent_id".to_owned(), agent);
        Input::Escalate(new)
    };
    for _ in 0..5 {
        bench.ok(by("amber", "help"));
    }
    assert_eq!(count(only(&bench)), Some(5));
    bench.ok(by("amber", "more help"));
    bench.ok(by("basil", "help"));
    assert_eq!(bench.rig.open_escalations().count(), 3);
    for _ in 0..2 {
        bench.ok(Input::Escalate(NewBead::issue("help")));
    }
    assert_eq!(
        bench.rig.open_escalations().count(),
        5,
        "a person means each"
    );
}

/// C14: what was given up is told; nothing waits for it.
#[test]
fn a_message_that_nobody_takes_is_told_once() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.ok(Input::Undeliverable {
            what: "breaker_tripped",
            reason: "the receiver answers 500".to_owned(),
        });
    }
    assert_eq!(count(only(&bench)), Some(3));
    assert_eq!(bench.count(EventType::DeadLettered), 3);
}

#[test]
fn more_causes_than_anybody_reads_are_one_more_and_no_longer_list() {
    let mut bench = Bench::new();
    for no in 0..u64::try_from(CAUSES_OPEN_MAX).expect("small") + 50 {
        let origin = format!("https://{no}.example");
        let tripped = Notice::Tripped {
            scope: Scope::Gateway { origin },
            failure: failure(Class::Gateway),
            next_probe_at: bench.now,
        };
        bench.ok(notice(no + 1, tripped));
    }
    let open = bench.rig.open_escalations().count();
    assert_eq!(open, CAUSES_OPEN_MAX + 1);
    let overflow = bench.rig.open_escalations().filter_map(count);
    assert_eq!(overflow.max(), Some(50));
}

/// E2.
#[test]
fn after_a_jump_back_people_are_told_four_hours_later_at_most() {
    let (mut bench, id) = told();
    bench.pass(-DAY_MS);
    bench.ok(Input::ClockJumped);
    bench.alarms.clear();
    bench.run_for(AGAIN_MS);
    let told = bench.bead(&id).alert.clone().expect("an alert").told_again;
    assert_eq!(told, 1);
    assert_eq!(bench.alarms.len(), 1);
}

/// B11: the dead letter of a bead is one escalation, whatever else happens to it.
#[test]
fn a_bead_that_was_given_up_is_one_escalation_and_is_told_again_until_somebody_looks() {
    let policy = wellhead_rig::Policy {
        attempts_max: 1,
        ..wellhead_rig::Policy::default()
    };
    let new = NewBead::issue("the task");
    let (mut bench, order) = Bench::dispatched_with(config(), policy, new);
    bench.start(&order.dispatch);
    bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
    bench.run_for(MINUTE_MS);
    let id = only(&bench).id.clone();
    bench.run_for(AGAIN_MS);
    bench.ok(acknowledge(&id));
    bench.run_for(2 * DAY_MS);
    assert_eq!(bench.count(EventType::Escalated), 2);
    assert_eq!(bench.alarm, None);
}
