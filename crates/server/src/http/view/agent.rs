//! An agent on the wire: its record, and what its hook says of it.

use rig::{Agent, AgentId, AgentStatus, BeadId, Rig, Role};
use serde::Serialize;
use serde_json::{Value, json};

use super::time::text;

/// An agent. It works while a session of it starts, runs or ends; on a hook alone it is idle.
#[derive(Serialize)]
pub(crate) struct AgentView<'a> {
    id: &'a AgentId,
    role: Role,
    name: &'a str,
    identity: &'a str,
    status: AgentStatus,
    current_hook_bead_id: Option<&'a BeadId>,
    dispatch_attempts: u32,
    last_activity_at: Option<String>,
    checkpoint: Option<&'a Value>,
    created_at: String,
}

impl<'a> AgentView<'a> {
    /// `agent` may be a later or an earlier record than the rig's own.
    pub(crate) fn of(rig: &'a Rig, agent: &'a Agent) -> Self {
        let hooked = rig.hook_of(&agent.id);
        Self {
            id: &agent.id,
            role: agent.role,
            name: &agent.name,
            identity: &agent.identity,
            status: status(rig, agent),
            current_hook_bead_id: hooked.map(|bead| &bead.id),
            dispatch_attempts: hooked.map_or(0, |bead| bead.numbers.failures),
            last_activity_at: agent.last_activity_at.map(text),
            checkpoint: agent.checkpoint.as_ref(),
            created_at: text(agent.created_at),
        }
    }
}

/// The same as a value.
pub(crate) fn agent(rig: &Rig, agent: &Agent) -> Value {
    json!(AgentView::of(rig, agent))
}

/// An agent's status alone.
pub(crate) fn status(rig: &Rig, agent: &Agent) -> AgentStatus {
    let works = rig
        .hook_of(&agent.id)
        .is_some_and(|bead| bead.run().is_some());
    if works {
        AgentStatus::Working
    } else {
        AgentStatus::Idle
    }
}
