//! An agent of a rig: an identity that beads are hooked to.
//!
//! Owns who it is. Whether it works, and on what, is a view of the beads (`Rig::hook_of`): it is
//! stored nowhere else, so the two can not disagree.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp};

/// What an agent is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Works on beads.
    Polecat,
    /// Merges finished branches; one per rig.
    Refinery,
    /// Talks to people and slings work.
    Mayor,
    /// Watches; one per rig.
    Witness,
}

/// The API's view of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentStatus {
    /// No session.
    Idle,
    /// A session is starting, working or ending.
    Working,
    /// Waits for a person.
    Blocked,
    /// Gone.
    Dead,
}

/// An agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// What it is for.
    pub role: Role,
    /// A name for people.
    pub name: String,
    /// Unique in the rig.
    pub identity: String,
    /// What the agent last saved for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<serde_json::Value>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Moved by a heartbeat.
    pub last_activity_at: Option<Timestamp>,
}

/// Names for polecats that are made on demand; a number follows once all are taken.
const NAMES: [&str; 16] = [
    "amber", "birch", "cedar", "dahlia", "elm", "fern", "ginkgo", "hazel", "iris", "juniper",
    "kelp", "linden", "maple", "nettle", "olive", "poplar",
];

/// The name of the `count`-th polecat of a rig.
pub(crate) fn polecat_name(count: usize) -> String {
    let name = NAMES.get(count % NAMES.len()).copied().unwrap_or("polecat");
    match count / NAMES.len() {
        0 => name.to_owned(),
        round => format!("{name}-{}", round + 1),
    }
}
