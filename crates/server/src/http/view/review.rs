//! An entry of the review queue on the wire.

use rig::ReviewEntry;
use serde_json::{Value, json};

use super::time::text;

/// A review entry.
pub(crate) fn review(entry: &ReviewEntry) -> Value {
    json!({
        "id": entry.id,
        "agent_id": entry.agent,
        "bead_id": entry.bead,
        "branch": entry.branch,
        "pr_url": entry.pr_url,
        "status": entry.status,
        "summary": entry.summary,
        "message": entry.message,
        "commit_sha": entry.commit,
        "created_at": text(entry.created_at),
        "processed_at": entry.processed_at.map(text),
    })
}
