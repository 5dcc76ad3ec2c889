//! The fence: a report of a dispatch that is not current changes nothing, the same one twice gets
//! the same answer.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, commit, completed, done_report, failed};
use wellhead_rig::{
    Beat, Class, Completion, DispatchId, DispatchOrder, Incarnation, Input, Outcome, Refused,
    Reply, Usage,
};

/// The second dispatch runs; the first one's reports are still under way.
fn second_dispatch() -> (Bench, DispatchOrder, DispatchOrder) {
    let (mut bench, first) = Bench::working();
    bench.ok(Bench::over(&first.dispatch, failed(Class::Lost)));
    let second = bench.dispatch().expect("the second dispatch");
    assert_eq!(second.dispatch.no, 2);
    bench.start(&second.dispatch);
    (bench, first, second)
}

/// D13: what the state has forgotten with a restored backup is told apart by its number.
#[test]
fn after_a_restore_no_number_is_given_out_that_may_have_been_given_before() {
    let (mut bench, first) = Bench::working();
    bench.rig = bench.rig.clone().numbering_from(1_000);
    bench.ok(Bench::over(&first.dispatch, failed(Class::Lost)));
    let second = bench.dispatch().expect("the second dispatch").dispatch;
    assert_eq!(second.no, 1_000);
    bench.start(&second);
    let forgotten = DispatchId {
        no: 2,
        ..second.clone()
    };
    let stale = Err(Refused::Stale(forgotten.clone()));
    let late = bench.step(Bench::over(&forgotten, failed(Class::AgentFailed)));
    assert_eq!(late, stale);
    bench.ok(Bench::over(&second, failed(Class::Lost)));
    let third = bench.dispatch().expect("the third dispatch").dispatch;
    assert_eq!(third.no, 1_001);
    assert_eq!(bench.bead(&third.bead).numbers.dispatches(), 3);
}

#[test]
fn late_reports_of_the_first_dispatch_change_nothing_while_the_second_runs() {
    let (mut bench, first, _) = second_dispatch();
    let stale = Refused::Stale(first.dispatch.clone());
    let dispatch = first.dispatch.clone();
    let late = [
        Bench::over(&dispatch, completed(commit())),
        Bench::over(&dispatch, Outcome::NeverStarted),
        Bench::started(&dispatch),
        Bench::done(&first),
        Input::Heartbeat(Beat {
            dispatch: dispatch.clone(),
            incarnation: Incarnation::new("life-1").expect("a valid id"),
            progress_at: Some(bench.now),
            tool_since: Some(bench.now),
            repeats: 0,
            output: true,
            usage: Usage::default(),
        }),
        Input::TurnEnded {
            dispatch: dispatch.clone(),
            report: wellhead_rig::TurnReport {
                turn_no: 1,
                work: commit(),
                output: true,
            },
        },
        Input::Completed {
            agent: first.agent.clone(),
            dispatch: Some(dispatch),
            completion: Completion::Completed,
        },
    ];
    for input in late {
        assert_eq!(bench.refused(input.clone()), stale, "{input:?}");
    }
}

#[test]
fn the_same_report_twice_gets_the_same_answer_and_changes_nothing() {
    let (mut bench, first, second) = second_dispatch();
    for report in [
        Bench::over(&first.dispatch, failed(Class::Lost)),
        Bench::started(&second.dispatch),
    ] {
        let before = bench.rig.clone();
        assert_eq!(bench.ok(report), Reply::Repeated);
        assert_eq!(bench.rig, before);
    }
    bench.ok(Bench::done(&second));
    bench.ok(Bench::over(&second.dispatch, completed(commit())));
    let before = bench.rig.clone();
    assert_eq!(bench.ok(Bench::done(&second)), Reply::Repeated);
    assert_eq!(bench.rig, before);
    let other = Input::Done {
        agent: second.agent.clone(),
        dispatch: Some(second.dispatch.clone()),
        report: wellhead_rig::DoneReport::default(),
    };
    assert_eq!(bench.refused(other), Refused::Stale(second.dispatch));
}

#[test]
fn a_report_without_a_dispatch_is_refused_while_one_is_live() {
    let (mut bench, order) = Bench::working();
    let (agent, dispatch) = (order.agent.clone(), None);
    let report = done_report();
    let done = Input::Done {
        agent,
        dispatch,
        report,
    };
    assert_eq!(bench.refused(done), Refused::DispatchRequired(order.agent));
}

#[test]
fn a_completion_that_is_repeated_after_its_dispatch_is_settled_gets_the_same_answer() {
    for completion in [
        Completion::Completed,
        Completion::Failed {
            reason: Some("lost".to_owned()),
        },
    ] {
        let (mut bench, order) = Bench::working();
        let word = Input::Completed {
            agent: order.agent.clone(),
            dispatch: Some(order.dispatch.clone()),
            completion,
        };
        assert_eq!(bench.ok(word.clone()), Reply::Accepted);
        bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
        let before = bench.bead(&order.dispatch.bead).clone();
        assert_eq!(bench.ok(word), Reply::Repeated);
        let other = Input::Completed {
            agent: order.agent.clone(),
            dispatch: Some(order.dispatch.clone()),
            completion: Completion::Failed {
                reason: Some("another story".to_owned()),
            },
        };
        assert_eq!(bench.refused(other), Refused::Stale(order.dispatch.clone()));
        assert_eq!(*bench.bead(&order.dispatch.bead), before);
    }
}
