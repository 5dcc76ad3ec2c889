//! Everything that a rig can ask for.
//!
//! Owns the vocabulary of effects: messages that leave once the step is durable, and again until
//! they were taken. Knows no transport and no receiver.

use serde::{Deserialize, Serialize};

use crate::{AgentId, DispatchId, Failure, RigConfig, Role, Timestamp, Who};

/// What a container needs to run one dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DispatchOrder {
    /// The fence.
    pub dispatch: DispatchId,
    /// Who works.
    pub agent: AgentId,
    /// Its name.
    pub agent_name: String,
    /// Its identity.
    pub identity: String,
    /// Its role.
    pub role: Role,
    /// The bead's title.
    pub title: String,
    /// The bead's text.
    pub body: Option<String>,
    /// The branch to work on.
    pub branch: String,
    /// The branch that it starts from when it does not exist yet, if not the default one.
    pub base_branch: Option<String>,
    /// The session to continue, where the last dispatch was lost.
    pub resume: Option<String>,
    /// Which try this is, for the prompt: charged failures so far.
    pub failures: u32,
    /// Prompts that the bead has cost, this one included: a probe costs least where least was spent.
    #[serde(default)]
    pub prompts: u32,
    /// From so many identical tool calls in a row on, the rig wants to know at once.
    #[serde(default)]
    pub repeats_max: u32,
    /// The rig's configuration.
    pub config: RigConfig,
    /// How long a turn has to be quiet before it is judged, in milliseconds.
    pub idle_grace_ms: i64,
    /// How long the start may take, in milliseconds.
    pub start_deadline_ms: i64,
    /// How far heartbeats may be apart, in milliseconds.
    pub heartbeat_ms: i64,
}

/// Everything that a rig can ask for. Each is kept until its receiver has taken it durably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Run an agent.
    Dispatch(Box<DispatchOrder>),
    /// Make this dispatch be over, prove it, and report it; a dispatch never seen is refused for
    /// good. Also the way to ask what became of one.
    StopAgent {
        /// The fence.
        dispatch: DispatchId,
        /// Whose container.
        town: crate::TownId,
        /// How long a running turn may go on, in milliseconds.
        grace_ms: i64,
        /// Why, for the log.
        reason: String,
    },
    /// Stop the turn that stands still and prompt the session once more. Only for a session that
    /// still runs; twice is once.
    Nudge {
        /// The fence.
        dispatch: DispatchId,
        /// Whose container.
        town: crate::TownId,
        /// The prompt's number within its bead: a session heeds each once.
        no: u32,
        /// What it is told.
        text: String,
    },
    /// Look at the shared scopes of this configuration again, at once.
    ResetScopes {
        /// Whose scopes; their town as well.
        config: RigConfig,
        /// Who asks.
        by: Who,
    },
    /// Check credentials, program, model and git without a session.
    Preflight {
        /// The check's number, to be repeated in the answer.
        no: u64,
        /// What to check.
        config: RigConfig,
    },
    /// The breaker opened: tell the container and subscribers.
    BreakerTripped {
        /// Whose container.
        town: crate::TownId,
        /// Why.
        failure: Failure,
        /// When the next probe may be made.
        next_probe_at: Timestamp,
    },
    /// The breaker closed.
    BreakerClosed {
        /// Whose container.
        town: crate::TownId,
    },
}
