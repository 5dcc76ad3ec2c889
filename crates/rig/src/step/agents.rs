//! Who works: agents registered, found for a role, and removed; what an agent saves for itself.
//!
//! Owns names and identities, and that an agent's end never touches a terminal bead. What an agent
//! works on is a view of the beads.

use super::{draft::Draft, orders};
use crate::{
    Agent, AgentId, BeadId, Cause, Change, Order, Phase, Refused, Reply, Role, agent::polecat_name,
};

pub(super) fn register(
    draft: &mut Draft<'_>,
    role: Role,
    name: String,
    identity: String,
) -> Result<Reply, Refused> {
    if draft.is_identity(&identity) {
        return Err(Refused::IdentityTaken(identity));
    }
    let agent = make(draft, role, name, identity);
    Ok(Reply::Agent(Box::new(agent)))
}

pub(super) fn get_or_create(draft: &mut Draft<'_>, role: Role) -> Reply {
    let agent = match fitting(draft, role) {
        Some(agent) => agent.clone(),
        None => make_for(draft, role),
    };
    Reply::Agent(Box::new(agent))
}

/// The same by id alone.
pub(super) fn get_or_create_id(draft: &mut Draft<'_>, role: Role) -> AgentId {
    match fitting(draft, role) {
        Some(agent) => agent.id.clone(),
        None => make_for(draft, role).id,
    }
}

/// The oldest agent that can take the role's next piece of work.
fn fitting<'d>(draft: &'d Draft<'_>, role: Role) -> Option<&'d Agent> {
    let is_singleton = matches!(role, Role::Witness | Role::Refinery);
    draft.oldest(role, !is_singleton)
}

fn make_for(draft: &mut Draft<'_>, role: Role) -> Agent {
    let mut count = draft.of_role(role);
    loop {
        let (name, identity) = names(role, count);
        if !draft.is_identity(&identity) {
            return make(draft, role, name, identity);
        }
        count += 1;
    }
}

/// Name and identity of the `count`-th agent of a role.
fn names(role: Role, count: usize) -> (String, String) {
    let word = match role {
        Role::Polecat => {
            let name = polecat_name(count);
            let identity = format!("polecats/{name}");
            return (name, identity);
        }
        Role::Refinery => "refinery",
        Role::Mayor => "mayor",
        Role::Witness => "witness",
    };
    let name = match count {
        0 => word.to_owned(),
        more => format!("{word}-{}", more + 1),
    };
    (name.clone(), name)
}

fn make(draft: &mut Draft<'_>, role: Role, name: String, identity: String) -> Agent {
    let now = draft.now();
    let count = u64::try_from(draft.of_role(role)).unwrap_or(0);
    let agent = Agent {
        id: AgentId::generate(now, count, draft.nonce()),
        role,
        name,
        identity,
        checkpoint: None,
        created_at: now,
        last_activity_at: Some(now),
    };
    draft.put_agent(agent.clone());
    agent
}

pub(super) fn touch(draft: &mut Draft<'_>, agent: &AgentId) -> Reply {
    if let Some(mut agent) = draft.agent(agent).cloned() {
        agent.last_activity_at = agent.last_activity_at.max(Some(draft.now()));
        draft.put_agent(agent);
    }
    Reply::Accepted
}

pub(super) fn checkpoint(
    draft: &mut Draft<'_>,
    id: &AgentId,
    data: Option<serde_json::Value>,
) -> Result<Reply, Refused> {
    let mut agent = existing(draft, id)?.clone();
    agent.checkpoint = data;
    draft.put_agent(agent);
    Ok(Reply::Accepted)
}

/// Removes an agent: its bead is unhooked (a live one when its session is proven over), and what
/// nobody is there to do or to read any more is let go.
pub(super) fn delete(draft: &mut Draft<'_>, id: &AgentId) -> Result<Reply, Refused> {
    existing(draft, id)?;
    draft.delete_agent(id);
    if let Some(bead) = draft.hook_of(id) {
        release(draft, &bead)?;
    }
    let given: Vec<BeadId> = draft
        .unfinished()
        .filter(|bead| bead.assignee.as_ref() == Some(id) && bead.run().is_none())
        .map(|bead| bead.id.clone())
        .collect();
    for bead in given {
        draft.bead_mut(&bead)?.assignee = None;
    }
    for mail in draft.mail_of(id) {
        let (to, id) = (mail.to.clone(), mail.id.clone());
        draft.append(Change::MailDeleted { to, id });
    }
    Ok(Reply::Accepted)
}

fn release(draft: &mut Draft<'_>, id: &BeadId) -> Result<(), Refused> {
    let phase = draft.bead(id).map(|bead| &bead.phase);
    match phase {
        Some(Phase::Dispatched { .. } | Phase::Working { .. }) => {
            let cause = Cause::Ordered(Order::Unhook);
            orders::begin_ending(draft, id, cause, 0, "its agent was deleted")
        }
        // What it said before counts; without an agent to try again the bead will be open.
        Some(Phase::Ending { .. }) | None => Ok(()),
        Some(_) => orders::carry_out(draft, id, Order::Unhook, None),
    }
}

fn existing<'d>(draft: &'d Draft<'_>, id: &AgentId) -> Result<&'d Agent, Refused> {
    draft.agent(id).ok_or_else(|| Refused::NoAgent(id.clone()))
}
