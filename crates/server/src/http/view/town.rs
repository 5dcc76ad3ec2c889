//! Towns and rigs of the directory on the wire. Credentials never show.

use runtime::{RigRow, Town};
use serde_json::{Value, json};

use super::time::text;

/// A town.
pub(crate) fn town(town: &Town) -> Value {
    json!({
        "id": town.id,
        "name": town.name,
        "owner_user_id": town.owner_user_id,
        "created_at": text(town.created_at),
        "updated_at": text(town.updated_at),
    })
}

/// A rig.
pub(crate) fn rig(row: &RigRow) -> Value {
    json!({
        "id": row.id,
        "town_id": row.config.town_id,
        "name": row.config.name,
        "git_url": row.config.git_url,
        "default_branch": row.config.default_branch,
        "model": row.config.model,
        "review": row.config.review,
        "created_at": text(row.created_at),
        "updated_at": text(row.updated_at),
    })
}
