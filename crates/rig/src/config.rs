//! What a rig is told about its project: town, repository, branch, model, credentials.
//!
//! Owns the shape. A credential is only ever an id here; its value never enters the core.

use serde::{Deserialize, Serialize};

use crate::TownId;

/// Whether finished work is reviewed before its bead closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReviewMode {
    /// Completed beads close, the branch is kept.
    #[default]
    Off,
    /// Completed beads wait for a person's review.
    Manual,
}

/// Where a rig's credentials come from. Values stay outside of the core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum CredentialSource {
    /// From the environment of the process.
    #[default]
    Environment,
    /// Explicitly none: nothing is ever spawned for this rig.
    None,
    /// Stored by the container under this id; a new value gets a new id.
    Stored {
        /// The id, which is no secret.
        id: String,
    },
}

/// The configuration without which nothing is dispatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RigConfig {
    /// The town whose container runs its agents.
    pub town_id: TownId,
    /// A name for people.
    pub name: String,
    /// Where to clone from.
    pub git_url: String,
    /// The branch that work starts from.
    pub default_branch: String,
    /// The model, as the gateway names it; none means the container's default.
    #[serde(default)]
    pub model: Option<String>,
    /// See [`ReviewMode`].
    #[serde(default)]
    pub review: ReviewMode,
    /// See [`CredentialSource`].
    #[serde(default)]
    pub credentials: CredentialSource,
}
