//! Agents found, removed and written to: what is left of their beads, their mail and their log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use support::{Bench, MINUTE_MS, commit, completed, failed};
use wellhead_rig::{
    Agent, AgentId, BeadId, Class, EventType, Input, MAIL_UNDELIVERED_MAX, NewBead, NewMail, Phase,
    Refused, Reply, Role, Status,
};

fn get_or_create(bench: &mut Bench, role: Role) -> Agent {
    match bench.ok(Input::GetOrCreateAgent { role }) {
        Reply::Agent(agent) => *agent,
        other => panic!("no agent: {other:?}"),
    }
}

fn bead_for(bench: &mut Bench, agent: &AgentId) -> BeadId {
    let new = NewBead::issue("the task");
    let Reply::Bead(bead) = bench.ok(Input::CreateBead(new)) else {
        panic!("no bead");
    };
    let (agent, id) = (agent.clone(), bead.id);
    let bead = id.clone();
    bench.ok(Input::Hook { agent, bead });
    id
}

fn delete(agent: &AgentId) -> Input {
    let agent = agent.clone();
    Input::DeleteAgent { agent }
}

fn mail(from: &AgentId, to: &AgentId, subject: &str) -> Input {
    Input::SendMail(NewMail {
        from: from.clone(),
        to: to.clone(),
        subject: subject.to_owned(),
        body: "b".to_owned(),
    })
}

fn read(bench: &mut Bench, agent: &AgentId) -> Vec<String> {
    let agent = agent.clone();
    match bench.ok(Input::ReadMail { agent }) {
        Reply::Mail(mail) => {
            assert!(mail.iter().all(|mail| mail.delivered_at.is_none()));
            mail.into_iter().map(|mail| mail.subject).collect()
        }
        other => panic!("no mail: {other:?}"),
    }
}

#[test]
fn singletons_are_shared_and_polecats_are_not() {
    let mut bench = Bench::new();
    for role in [Role::Witness, Role::Refinery] {
        let agent = get_or_create(&mut bench, role);
        let again = get_or_create(&mut bench, role);
        assert_eq!(agent.id, again.id);
    }
    let refinery = get_or_create(&mut bench, Role::Refinery).id;
    bead_for(&mut bench, &refinery);
    let again = get_or_create(&mut bench, Role::Refinery).id;
    assert_eq!(again, refinery, "also with a bead on its hook");
    let first = get_or_create(&mut bench, Role::Polecat).id;
    assert_eq!(get_or_create(&mut bench, Role::Polecat).id, first);
    bead_for(&mut bench, &first);
    let second = get_or_create(&mut bench, Role::Polecat).id;
    assert_ne!(second, first);
}

#[test]
fn a_deleted_agent_leaves_its_bead_open_and_a_terminal_one_as_it_is() {
    let mut bench = Bench::new();
    let agent = get_or_create(&mut bench, Role::Polecat).id;
    let closed = bead_for(&mut bench, &agent);
    let (bead, by) = (closed.clone(), None);
    bench.ok(Input::Close { bead, by });
    let before = bench.bead(&closed).clone();
    let open = bead_for(&mut bench, &agent);
    bench.ok(delete(&agent));
    assert_eq!(*bench.bead(&closed), before);
    assert_eq!(bench.bead(&open).phase, Phase::Open);
    assert_eq!(bench.bead(&open).assignee, None);
    assert_eq!(bench.count(EventType::Unhooked), 1);
    let gone = Refused::NoAgent(agent.clone());
    assert_eq!(bench.refused(delete(&agent)), gone);
    assert_eq!(bench.refused(mail(&agent, &agent, "x")), gone);
    let hook = Input::Hook {
        agent: agent.clone(),
        bead: open,
    };
    assert_eq!(bench.refused(hook), gone);
}

#[test]
fn a_live_bead_of_a_deleted_agent_is_open_when_its_session_is_over() {
    let (mut bench, order) = Bench::working();
    let id = &order.dispatch.bead;
    bench.ok(delete(&order.agent));
    assert_eq!(bench.bead(id).status(), Status::InProgress);
    assert!(bench.stops().contains(&order.dispatch));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    assert_eq!(bench.bead(id).phase, Phase::Open);
    assert_eq!(bench.bead(id).assignee, None);
    bench.run_for(10 * MINUTE_MS);
    assert!(
        bench.dispatch().is_none(),
        "nobody is there to dispatch it to"
    );
}

#[test]
fn a_session_that_fails_after_its_agent_was_deleted_waits_for_nobody() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::done(&order));
    bench.ok(delete(&order.agent));
    bench.ok(Bench::over(&order.dispatch, failed(Class::Crash)));
    bench.run_for(MINUTE_MS);
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.phase, Phase::Open);
}

#[test]
fn work_that_was_called_done_counts_although_its_agent_is_deleted() {
    let (mut bench, order) = Bench::working();
    bench.ok(Bench::done(&order));
    bench.ok(delete(&order.agent));
    bench.ok(Bench::over(&order.dispatch, completed(commit())));
    let bead = bench.bead(&order.dispatch.bead);
    assert_eq!(bead.status(), Status::Closed);
}

#[test]
fn a_retry_does_not_wake_a_deleted_agent() {
    let mut bench = Bench::new();
    let agent = get_or_create(&mut bench, Role::Polecat).id;
    let bead = bead_for(&mut bench, &agent);
    bench.ok(Input::Cancel {
        bead: bead.clone(),
        by: support::person(),
    });
    bench.ok(delete(&agent));
    bench.ok(Input::Retry {
        bead: bead.clone(),
        by: support::person(),
    });
    assert_eq!(bench.bead(&bead).phase, Phase::Open);
}

#[test]
fn mail_is_delivered_once_in_its_order() {
    let mut bench = Bench::new();
    let (a, b) = (
        get_or_create(&mut bench, Role::Witness).id,
        get_or_create(&mut bench, Role::Refinery).id,
    );
    for subject in ["one", "two", "three"] {
        bench.ok(mail(&a, &b, subject));
    }
    assert_eq!(bench.count(EventType::MailSent), 3);
    assert!(read(&mut bench, &a).is_empty());
    assert_eq!(read(&mut bench, &b), ["one", "two", "three"]);
    assert!(read(&mut bench, &b).is_empty());
    bench.ok(mail(&a, &b, "four"));
    assert_eq!(read(&mut bench, &b), ["four"]);
}

#[test]
fn mail_that_waits_is_bounded_and_goes_with_its_reader() {
    let mut bench = Bench::new();
    let (a, b) = (
        get_or_create(&mut bench, Role::Witness).id,
        get_or_create(&mut bench, Role::Refinery).id,
    );
    for _ in 0..MAIL_UNDELIVERED_MAX {
        bench.ok(mail(&a, &b, "x"));
    }
    let refused = bench.refused(mail(&a, &b, "x"));
    assert!(refused.to_string().contains("1000 undelivered"));
    bench.ok(mail(&b, &a, "the other way"));
    bench.ok(delete(&b));
    assert_eq!(bench.rig.mail_of(&b).len(), 0);
    assert_eq!(read(&mut bench, &a), ["the other way"]);
}

#[test]
fn a_checkpoint_is_kept_and_forgotten() {
    let mut bench = Bench::new();
    let agent = get_or_create(&mut bench, Role::Polecat).id;
    let data = serde_json::json!([1, {"a": null}]);
    for data in [Some(data), None] {
        let saved = data.clone();
        bench.ok(Input::Checkpoint {
            agent: agent.clone(),
            data,
        });
        assert_eq!(bench.rig.agent(&agent).unwrap().checkpoint, saved);
    }
}
