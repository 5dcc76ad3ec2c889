//! What people order by hand: cancel, close, delete, unhook, retry, status, hooks. And that the
//! three numbers of a bead survive all of it.

#![expect(
    clippy::expect_used,
    reason = "the bench's own expectations are the test"
)]

mod support;

use support::{Bench, MINUTE_MS, commit, completed, config, failed};
use wellhead_rig::{
    Bead, BeadId, Class, Completion, DispatchOrder, Effect, EventType, Input, NewBead, Outcome,
    Phase, Policy, Refused, Reply, Resolution, RigConfig, Role, Status, TownId,
};

fn patch(bead: &BeadId, status: Status) -> Input {
    let (bead, by) = (bead.clone(), None);
    Input::SetStatus { bead, status, by }
}

fn order_inputs(order: &DispatchOrder) -> [(Input, &'static str); 5] {
    let bead = order.dispatch.bead.clone();
    let agent = order.agent.clone();
    let close = Input::Close {
        bead: bead.clone(),
        by: None,
    };
    [
        (close, "closed"),
        (
            Input::Cancel {
                bead: bead.clone(),
                by: support::person(),
            },
            "failed",
        ),
        (Input::Unhook { agent }, "open"),
        (Input::DeleteBead { bead: bead.clone() }, "gone"),
        (patch(&bead, Status::Open), "open"),
    ]
}

fn status_of(bench: &Bench, bead: &BeadId) -> &'static str {
    let bead = bench.rig.bead(bead);
    bead.map_or("gone", |bead| bead.status().as_str())
}

#[test]
fn an_order_for_a_live_bead_waits_for_the_proof_and_then_holds() {
    for outcome in [
        completed(commit()),
        failed(Class::Interrupted),
        failed(Class::Crash),
        Outcome::NeverStarted,
    ] {
        for n in 0..5 {
            let (mut bench, order) = Bench::working();
            let bead = order.dispatch.bead.clone();
            let (input, end) = order_inputs(&order)[n].clone();
            bench.ok(input);
            assert_eq!(
                bench.stops(),
                std::slice::from_ref(&order.dispatch),
                "{end}"
            );
            assert_eq!(status_of(&bench, &bead), "in_progress", "not proven over");
            assert_eq!(
                bench.hook_of(&order.agent),
                Some(bead.clone()),
                "no second session before the first is over"
            );
            bench.ok(Bench::over(&order.dispatch, outcome.clone()));
            assert_eq!(status_of(&bench, &bead), end, "{outcome:?}");
            assert_eq!(bench.hook_of(&order.agent), None);
            bench.run_for(60 * MINUTE_MS);
            assert_eq!(bench.dispatch(), None, "{end}: never dispatched again");
        }
    }
}

#[test]
fn a_late_word_of_the_session_does_not_undo_an_order() {
    for n in 0..5 {
        let (mut bench, order) = Bench::working();
        let bead = order.dispatch.bead.clone();
        let (input, end) = order_inputs(&order)[n].clone();
        bench.ok(input);
        bench.refused(Bench::done(&order));
        let reason = Some("late".to_owned());
        for completion in [Completion::Completed, Completion::Failed { reason }] {
            bench.refused(Input::Completed {
                agent: order.agent.clone(),
                dispatch: Some(order.dispatch.clone()),
                completion,
            });
        }
        bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
        assert_eq!(status_of(&bench, &bead), end);
        assert_eq!(bench.dispatch(), None);
    }
}

#[test]
fn a_bead_that_is_to_be_removed_is_removed_whatever_is_ordered_next() {
    let (mut bench, order) = Bench::working();
    let bead = order.dispatch.bead.clone();
    bench.ok(Input::DeleteBead { bead: bead.clone() });
    bench.refused(Input::Unhook {
        agent: order.agent.clone(),
    });
    bench.refused(patch(&bead, Status::Closed));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
    assert_eq!(bench.rig.bead(&bead), None);
}

#[test]
fn an_agent_that_unhooks_itself_does_not_undo_a_persons_order() {
    for n in 0..2 {
        let (mut bench, order) = Bench::working();
        let (input, end) = order_inputs(&order)[n].clone();
        bench.ok(input);
        bench.refused(Input::Unhook {
            agent: order.agent.clone(),
        });
        bench.ok(Bench::over(&order.dispatch, failed(Class::Interrupted)));
        assert_eq!(status_of(&bench, &order.dispatch.bead), end);
    }
}

#[test]
fn an_order_before_the_session_began_costs_no_prompt() {
    let (mut bench, order) = Bench::dispatched();
    bench.ok(Input::Unhook {
        agent: order.agent.clone(),
    });
    bench.ok(Bench::over(&order.dispatch, Outcome::NeverStarted));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.status(), Status::Open);
    assert_eq!((bead.numbers.dispatch_no, bead.numbers.prompts), (1, 0));
}

#[test]
fn orders_for_a_bead_without_a_session_take_effect_at_once() {
    for n in 0..5 {
        let mut bench = Bench::new();
        let Reply::Slung { bead, agent } = bench.ok(Input::Sling(NewBead::issue("it"))) else {
            panic!("not slung");
        };
        let order = DispatchOrder {
            dispatch: wellhead_rig::DispatchId {
                bead: bead.id.clone(),
                no: 1,
            },
            agent: agent.id.clone(),
            ..any_order()
        };
        let (input, end) = order_inputs(&order)[n].clone();
        bench.ok(input);
        assert_eq!(status_of(&bench, &bead.id), end);
        assert_eq!(bench.hook_of(&agent.id), None);
        assert_eq!(bench.stops(), []);
    }
}

fn any_order() -> DispatchOrder {
    Bench::dispatched().1
}

/// A bead that used up all of its prompts.
fn failed_bead(policy: Policy) -> (Bench, DispatchOrder) {
    let new = NewBead::issue("the task");
    let (mut bench, mut order) = Bench::dispatched_with(config(), policy, new);
    loop {
        bench.start(&order.dispatch);
        bench.ok(Bench::over(&order.dispatch, failed(Class::Lost)));
        match bench.dispatch() {
            Some(next) => order = next,
            None => return (bench, order),
        }
    }
}

#[test]
fn a_retry_grants_prompts_and_forgets_none() {
    let policy = Policy {
        prompts_max: 3,
        ..Policy::default()
    };
    let (mut bench, order) = failed_bead(policy);
    let bead = order.dispatch.bead;
    assert_eq!(bench.bead(&bead).status(), Status::Failed);
    assert_eq!(bench.bead(&bead).numbers.prompts, 3);
    bench.ok(Input::Retry {
        bead: bead.clone(),
        by: support::person(),
    });
    let mut sent = 0;
    while let Some(next) = bench.dispatch() {
        sent += 1;
        assert_eq!(next.dispatch.no, 3 + sent);
        bench.start(&next.dispatch);
        bench.ok(Bench::over(&next.dispatch, failed(Class::Lost)));
    }
    assert_eq!(sent, 3);
    let numbers = bench.bead(&bead).numbers;
    assert_eq!((numbers.prompts, numbers.retries), (6, 1));
    assert_eq!(bench.count(EventType::Retried), 1);
}

#[test]
fn only_failed_work_is_retried() {
    let (mut bench, order) = Bench::working();
    let bead = order.dispatch.bead.clone();
    let retry = Input::Retry {
        bead: bead.clone(),
        by: support::person(),
    };
    assert!(matches!(bench.refused(retry.clone()), Refused::Conflict(_)));
    bench.ok(Bench::done(&order));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    assert!(matches!(bench.refused(retry), Refused::Conflict(_)));
    let Reply::Bead(escalation) = bench.ok(Input::Escalate(NewBead::issue("help"))) else {
        panic!("no escalation");
    };
    let bead = escalation.id;
    bench.ok(Input::Cancel {
        bead: bead.clone(),
        by: support::person(),
    });
    assert!(matches!(
        bench.refused(Input::Retry {
            bead,
            by: support::person()
        }),
        Refused::Conflict(_)
    ));
}

fn polecat(bench: &mut Bench, name: &str) -> wellhead_rig::AgentId {
    let (role, name) = (Role::Polecat, name.to_owned());
    let identity = format!("polecats/{name}");
    let registered = bench.ok(Input::RegisterAgent {
        role,
        name,
        identity,
    });
    match registered {
        Reply::Agent(agent) => agent.id,
        other => panic!("no agent: {other:?}"),
    }
}

#[test]
fn another_agent_and_another_hook_keep_the_numbers() {
    let (mut bench, order) = Bench::working();
    let bead = order.dispatch.bead.clone();
    bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
    bench.run_for(5_000);
    bench.ok(Input::Unhook {
        agent: order.agent.clone(),
    });
    let before = bench.bead(&bead).numbers;
    assert_eq!((before.failures, before.prompts), (1, 1));
    let agent = polecat(&mut bench, "other");
    bench.ok(Input::Hook {
        agent: agent.clone(),
        bead: bead.clone(),
    });
    let next = bench.dispatch().expect("dispatched at once");
    assert_eq!((next.agent, next.dispatch.no, next.failures), (agent, 2, 1));
    assert_eq!(
        next.base_branch,
        Some(order.branch),
        "it goes on where the other stopped"
    );
    assert_eq!(bench.bead(&bead).numbers.failures, 1);
}

#[test]
fn a_hook_is_taken_once() {
    let (mut bench, order) = Bench::working();
    let (agent, bead) = (order.agent.clone(), order.dispatch.bead.clone());
    let again = Input::Hook {
        agent: agent.clone(),
        bead: bead.clone(),
    };
    assert_eq!(bench.ok(again), Reply::Accepted, "the same hook again");
    let other = polecat(&mut bench, "other");
    let taken = Input::Hook { agent: other, bead };
    assert!(matches!(bench.refused(taken), Refused::Conflict(_)));
    let Reply::Slung { agent: second, .. } = bench.ok(Input::Sling(NewBead::issue("two"))) else {
        panic!("not slung");
    };
    assert_ne!(second.id, agent, "a second sling gets its own agent");
}

/// Beads in every state that a status may be set on, by name.
fn in_state(state: &str) -> (Bench, BeadId) {
    if matches!(
        state,
        "waiting" | "dispatched" | "working" | "ending" | "closed"
    ) {
        let (mut bench, order) = if state == "dispatched" {
            Bench::dispatched()
        } else {
            Bench::working()
        };
        match state {
            "waiting" => {
                bench.ok(Bench::over(&order.dispatch, failed(Class::AgentFailed)));
                bench.run_for(5_000);
            }
            "ending" => {
                bench.ok(Bench::done(&order));
            }
            "closed" => {
                bench.ok(Bench::done(&order));
                bench.ok(Bench::over(&order.dispatch, completed(commit())));
            }
            _ => {}
        }
        return (bench, order.dispatch.bead);
    }
    let mut bench = Bench::new();
    let new = NewBead::issue("it");
    let reply = if state == "hooked" {
        bench.ok(Input::Sling(new))
    } else {
        bench.ok(Input::CreateBead(new))
    };
    let (Reply::Bead(bead) | Reply::Slung { bead, .. }) = reply else {
        panic!("no bead: {reply:?}");
    };
    let status = match state {
        "held" => Some(Status::InProgress),
        "review" => Some(Status::InReview),
        "failed" => Some(Status::Failed),
        _ => None,
    };
    if let Some(status) = status {
        bench.ok(patch(&bead.id, status));
    }
    (bench, bead.id)
}

fn phase_name(bead: &Bead) -> &'static str {
    match bead.phase {
        Phase::Open => "open",
        Phase::Held => "held",
        Phase::Hooked { .. } => "hooked",
        Phase::Dispatched { .. } => "dispatched",
        Phase::Working { .. } => "working",
        Phase::Ending { .. } => "ending",
        Phase::Waiting { .. } => "waiting",
        Phase::InReview { .. } => "review",
        Phase::Closed { .. } => "closed",
        Phase::Failed { .. } => "failed",
    }
}

#[test]
fn every_status_set_by_hand_moves_the_bead_or_is_refused() {
    // For open, in_progress, in_review, closed, failed: the next state, or "-" for refused.
    let table = [
        ("open", ["open", "held", "review", "closed", "failed"]),
        ("held", ["open", "held", "review", "closed", "failed"]),
        ("hooked", ["open", "hooked", "review", "closed", "failed"]),
        ("waiting", ["open", "waiting", "review", "closed", "failed"]),
        (
            "dispatched",
            ["ending", "dispatched", "-", "ending", "ending"],
        ),
        ("working", ["ending", "working", "-", "ending", "ending"]),
        ("ending", ["ending", "ending", "-", "ending", "ending"]),
        ("review", ["open", "held", "review", "closed", "failed"]),
        ("closed", ["-", "-", "-", "closed", "-"]),
        ("failed", ["-", "-", "-", "-", "failed"]),
    ];
    let statuses = [
        Status::Open,
        Status::InProgress,
        Status::InReview,
        Status::Closed,
        Status::Failed,
    ];
    for (state, row) in table {
        for (status, expected) in statuses.into_iter().zip(row) {
            let (mut bench, bead) = in_state(state);
            assert_eq!(phase_name(bench.bead(&bead)), state);
            if expected == "-" {
                let refused = bench.refused(patch(&bead, status));
                assert!(
                    matches!(refused, Refused::Conflict(_)),
                    "{state} {status:?}"
                );
            } else {
                bench.ok(patch(&bead, status));
                let is = phase_name(bench.bead(&bead));
                assert_eq!(is, expected, "{state} to {status:?}");
            }
        }
    }
}

#[test]
fn what_a_person_closes_is_closed_by_hand() {
    let (mut bench, bead) = in_state("hooked");
    let by = None;
    bench.ok(Input::Close {
        bead: bead.clone(),
        by,
    });
    assert!(matches!(
        bench.bead(&bead).phase,
        Phase::Closed {
            resolution: Resolution::ByHand,
            ..
        }
    ));
}

#[test]
fn a_rig_stays_in_its_town() {
    let (mut bench, order) = Bench::working();
    let moved = RigConfig {
        town_id: TownId::new("elsewhere").expect("an id"),
        ..config()
    };
    let refused = bench.refused(Input::Configure(moved));
    assert!(matches!(refused, Refused::Conflict(_)), "{refused:?}");
    let (bead, by) = (order.dispatch.bead.clone(), support::person());
    bench.ok(Input::Cancel { bead, by });
    let town = config().town_id;
    let stops = bench.effects.iter().filter_map(|effect| match effect {
        Effect::StopAgent { town, .. } => Some(town),
        _ => None,
    });
    assert_eq!(stops.collect::<Vec<_>>(), [&town]);
}
