//! An agent on the wire: its record, and what its hook says of it.

use rig::{Agent, AgentStatus, Rig};
use serde_json::{Value, json};

use super::time::text;

/// An agent. It works while a session of it starts, runs or ends; on a hook alone it is idle.
pub(crate) fn agent(rig: &Rig, agent: &Agent) -> Value {
    let hooked = rig.hook_of(&agent.id);
    json!({
        "id": agent.id,
        "role": agent.role,
        "name": agent.name,
        "identity": agent.identity,
        "status": status(rig, agent),
        "current_hook_bead_id": hooked.map(|bead| &bead.id),
        "dispatch_attempts": hooked.map_or(0, |bead| bead.numbers.failures),
        "last_activity_at": agent.last_activity_at.map(text),
        "checkpoint": agent.checkpoint,
        "created_at": text(agent.created_at),
    })
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
