//! New things: beads, hooks, configuration, escalations by hand.
//!
//! Owns what makes them legal and the one event that each leaves. Dispatches nothing: the gate is
//! asked after every step.

use serde_json::json;

use super::{
    agents, alert,
    draft::{Draft, NewEvent},
};
use crate::{
    AgentId, Bead, BeadId, BeadType, EventType, NewBead, Numbers, Phase, Policy, Readiness,
    Refused, Reply, RigConfig, Role, Usage,
};

pub(super) fn configure(draft: &mut Draft<'_>, config: RigConfig) -> Result<Reply, Refused> {
    let now = draft.now();
    if let Some(old) = &draft.record().config {
        if *old == config {
            return Ok(Reply::Accepted);
        }
        // What runs was granted by that town, and only its container can end it.
        if old.town_id != config.town_id {
            return Err(Refused::Conflict(format!(
                "a rig stays in its town, {}; add it to {} as a new one",
                old.town_id, config.town_id
            )));
        }
    }
    let record = draft.record_mut();
    record.created_at.get_or_insert(now);
    record.updated_at = Some(now);
    record.config = Some(config);
    // Whatever was wrong may be mended: check again, and at once.
    record.hold = None;
    record.readiness = Readiness::Unverified;
    record.breaker.probe_now(now);
    Ok(Reply::Accepted)
}

pub(super) fn set_policy(draft: &mut Draft<'_>, policy: Policy) -> Reply {
    draft.record_mut().policy = policy;
    Reply::Accepted
}

pub(super) fn create_bead(draft: &mut Draft<'_>, new: NewBead) -> Result<Reply, Refused> {
    if let Some(agent) = &new.assignee
        && draft.agent(agent).is_none()
    {
        return Err(Refused::NoAgent(agent.clone()));
    }
    let bead = make_bead(draft, new);
    if let Some(agent) = &bead.assignee {
        let mut event = NewEvent::of(EventType::Assigned, &bead.id);
        event.agent = Some(agent);
        event.new = Some(agent.to_string());
        draft.event(event);
    }
    Ok(Reply::Bead(Box::new(bead)))
}

/// Makes the record and its `created` event.
pub(super) fn make_bead(draft: &mut Draft<'_>, new: NewBead) -> Bead {
    let now = draft.now();
    let created_at = now.max(draft.record().latest_at);
    let id = BeadId::generate(created_at, draft.record().event_no, draft.nonce());
    let bead = Bead {
        id,
        kind: new.kind,
        title: new.title,
        body: new.body,
        priority: new.priority,
        labels: new.labels,
        metadata: new.metadata,
        assignee: new.assignee,
        convoy_id: new.convoy_id,
        created_at,
        updated_at: created_at,
        phase: Phase::Open,
        numbers: Numbers::default(),
        last_failure: None,
        branch: None,
        commit: None,
        resume: None,
        messages: Vec::new(),
        usage: Usage::default(),
        attempts: Vec::new(),
        alert: (new.kind == BeadType::Escalation).then(|| alert::fresh(draft)),
    };
    let mut event = NewEvent::of(EventType::Created, &bead.id);
    event.metadata = json!({ "title": bead.title, "priority": bead.priority });
    draft.event(event);
    if draft.record().patrolled_at < created_at && draft.unfinished().next().is_none() {
        // The first unfinished bead starts the patrol's hour.
        draft.record_mut().patrolled_at = created_at;
    }
    draft.put_bead(bead.clone());
    bead
}

pub(super) fn sling(draft: &mut Draft<'_>, new: NewBead) -> Result<Reply, Refused> {
    let bead = make_bead(draft, new);
    let agent = agents::get_or_create_id(draft, Role::Polecat);
    hook(draft, &agent, &bead.id)?;
    let bead = draft
        .bead(&bead.id)
        .cloned()
        .ok_or(Refused::NoBead(bead.id))?;
    let agent = draft
        .agent(&agent)
        .cloned()
        .ok_or(Refused::NoAgent(agent))?;
    Ok(Reply::Slung {
        bead: Box::new(bead),
        agent: Box::new(agent),
    })
}

/// What is on the agent's hook, or a new bead that is put there.
pub(super) fn start_agent(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    new: NewBead,
) -> Result<Reply, Refused> {
    if draft.agent(agent).is_none() {
        return Err(Refused::NoAgent(agent.clone()));
    }
    let id = if let Some(id) = draft.hook_of(agent) {
        id
    } else {
        let id = make_bead(draft, new).id;
        hook(draft, agent, &id)?;
        id
    };
    let bead = draft.bead(&id).cloned().ok_or(Refused::NoBead(id))?;
    Ok(Reply::Bead(Box::new(bead)))
}

pub(super) fn hook(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    bead: &BeadId,
) -> Result<Reply, Refused> {
    if draft.agent(agent).is_none() {
        return Err(Refused::NoAgent(agent.clone()));
    }
    let record = draft
        .bead(bead)
        .ok_or_else(|| Refused::NoBead(bead.clone()))?;
    if record.hooked_to() == Some(agent) {
        return Ok(Reply::Accepted);
    }
    check_hookable(record)?;
    if let Some(other) = draft.hook_of(agent) {
        return Err(Refused::Conflict(format!(
            "agent {agent} is hooked to bead {other}"
        )));
    }
    let record = draft.bead_mut(bead)?;
    record.phase = Phase::Hooked {
        agent: agent.clone(),
    };
    record.assignee = Some(agent.clone());
    let mut event = NewEvent::of(EventType::Hooked, bead);
    event.agent = Some(agent);
    event.new = Some(agent.to_string());
    draft.event(event);
    Ok(Reply::Accepted)
}

fn check_hookable(bead: &Bead) -> Result<(), Refused> {
    let id = &bead.id;
    let conflict = |text: String| Err(Refused::Conflict(text));
    match bead.kind {
        BeadType::Escalation => return conflict(format!("bead {id} is an escalation, not work")),
        BeadType::Message => return conflict(format!("bead {id} is a message, not work")),
        BeadType::Issue | BeadType::MergeRequest => {}
    }
    match &bead.phase {
        Phase::Open | Phase::Held => Ok(()),
        Phase::Hooked { agent } | Phase::Waiting { agent, .. } => conflict(format!(
            "bead {id} is on the hook of agent {agent}; unhook it first"
        )),
        Phase::Dispatched { run, .. } | Phase::Working { run, .. } | Phase::Ending { run, .. } => {
            conflict(format!("agent {} works on bead {id}", run.agent))
        }
        Phase::InReview { .. } => conflict(format!("bead {id} is in review")),
        Phase::Closed { .. } => conflict(format!("bead {id} is closed")),
        Phase::Failed { .. } => conflict(format!("bead {id} has failed; retry it first")),
    }
}

/// An agent or a person asks for a person. The same words of the same agent are the same cause: an
/// agent in a loop fills no list. A person means each of them.
pub(super) fn escalate(draft: &mut Draft<'_>, new: NewBead) -> Reply {
    let agent = new.metadata.get("agent_id");
    let is_same = |bead: &&Bead| {
        let by_same = agent.is_some() && bead.metadata.get("agent_id") == agent;
        by_same && bead.title == new.title && bead.body == new.body
    };
    let known = draft
        .escalations()
        .find(is_same)
        .map(|bead| bead.id.clone());
    if let Some(id) = known {
        alert::count(draft, &id);
        if let Some(bead) = draft.bead(&id) {
            return Reply::Bead(Box::new(bead.clone()));
        }
    }
    let bead = make_bead(
        draft,
        NewBead {
            kind: BeadType::Escalation,
            assignee: None,
            ..new
        },
    );
    let mut event = NewEvent::of(EventType::Escalated, &bead.id);
    event.new = Some(bead.title.clone());
    draft.event(event);
    Reply::Bead(Box::new(bead))
}
