//! An event of a rig on the wire.

use rig::{BeadEvent, RigId};
use serde_json::{Value, json};

use super::time::text;

/// An event. Its id rises within its rig and can be given as `since`.
pub(crate) fn event(rig: &RigId, event: &BeadEvent) -> Value {
    json!({
        "id": event.no.to_string(),
        "rig_id": rig,
        "bead_id": event.bead_id,
        "agent_id": event.agent_id,
        "event_type": event.event_type,
        "old_value": event.old_value,
        "new_value": event.new_value,
        "metadata": event.metadata,
        "created_at": text(event.created_at),
    })
}
