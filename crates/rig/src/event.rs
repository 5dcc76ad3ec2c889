//! The record of what happened to beads: what the API lists and the dashboard streams.
//!
//! Owns the event's shape. Events are appended by steps and never read by them.

use serde::{Deserialize, Serialize};

use crate::{AgentId, BeadId, Timestamp};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// A bead was made.
    Created,
    /// It was given to an agent at its creation.
    Assigned,
    /// It went onto a hook.
    Hooked,
    /// It left its hook.
    Unhooked,
    /// Its status was set by hand.
    StatusChanged,
    /// It was closed.
    Closed,
    /// It needs a person.
    Escalated,
    /// A mail was sent.
    MailSent,
    /// Its work was submitted to review.
    ReviewSubmitted,
    /// A review was completed.
    ReviewCompleted,
    /// A session began.
    AgentSpawned,
    /// A session was proven over.
    AgentExited,
    /// A dispatch was sent.
    Dispatched,
    /// An attempt failed.
    AttemptFailed,
    /// The rig's breaker opened.
    BreakerTripped,
    /// The rig's breaker closed.
    BreakerClosed,
    /// A person retried it.
    Retried,
    /// A budget came near.
    BudgetWarned,
    /// A budget is used up: nothing is dispatched on it.
    BudgetStopped,
    /// A person set the budget.
    BudgetSet,
    /// A person reset the breaker.
    BreakerReset,
    /// Dispatch is held back.
    Paused,
    /// Dispatch goes on.
    Resumed,
    /// A person gave the bead up.
    Cancelled,
    /// A person has seen an escalation.
    Acknowledged,
    /// A session that stood still was prompted once more.
    Nudged,
    /// A message was given up after too many tries.
    DeadLettered,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeadEvent {
    /// Rising in the rig, from 1.
    pub no: u64,
    /// The bead it is about; none for the rig's own events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bead_id: Option<BeadId>,
    /// Who did it, if an agent did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// What happened.
    pub event_type: EventType,
    /// What was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_value: Option<String>,
    /// What is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_value: Option<String>,
    /// Details.
    pub metadata: serde_json::Value,
    /// When. Non-decreasing within a rig.
    pub created_at: Timestamp,
}
