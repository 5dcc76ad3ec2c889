//! Mail and agents' own events on the wire.

use rig::{AgentEvent, Mail};
use serde_json::{Value, json};

use super::time::text;

/// A mail.
pub(crate) fn mail(mail: &Mail) -> Value {
    json!({
        "id": mail.id,
        "from_agent_id": mail.from,
        "to_agent_id": mail.to,
        "subject": mail.subject,
        "body": mail.body,
        "delivered": mail.delivered_at.is_some(),
        "created_at": text(mail.created_at),
        "delivered_at": mail.delivered_at.map(text),
    })
}

/// One line of an agent's own log.
pub(crate) fn agent_event(event: &AgentEvent) -> Value {
    json!({
        "id": event.no,
        "agent_id": event.agent,
        "event_type": event.event_type,
        "data": event.data,
        "created_at": text(event.created_at),
    })
}
