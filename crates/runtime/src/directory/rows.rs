//! The rows of the directory: towns, rigs, and what may be changed of them.
//!
//! Owns their shape. Knows neither who stores them nor who asks.

use rig::{CredentialSource, ReviewMode, RigConfig, RigId, Timestamp, TownId};
use serde::{Deserialize, Serialize};

/// A town: rigs that share a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Town {
    /// Its id.
    pub id: TownId,
    /// A name for people.
    pub name: String,
    /// Whose it is.
    pub owner_user_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A rig's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RigRow {
    /// Its id.
    pub id: RigId,
    /// Whose it is.
    pub owner_user_id: String,
    /// Its configuration.
    pub config: RigConfig,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What may be changed of a rig; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RigPatch {
    /// A name for people.
    pub name: Option<String>,
    /// The branch that work starts from.
    pub default_branch: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Whether work is reviewed.
    pub review: Option<ReviewMode>,
    /// Where credentials come from.
    pub credentials: Option<CredentialSource>,
}

/// A rig's row has changed or is gone: the newest configuration, or the end, has to reach the rig.
/// Names the rig alone, so that a repetition can never bring back an older configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configured {
    pub(crate) rig: RigId,
}
