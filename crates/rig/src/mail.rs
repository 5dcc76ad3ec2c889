//! What agents are told and what they tell of themselves: mail, and their own event log.
//!
//! Owns the shape of both. Mail waits in memory until it is read; delivered mail and event logs are
//! history: on disk only.

use serde::{Deserialize, Serialize};

use crate::{AgentId, MailId, Timestamp};

/// The most mails that may wait for one agent.
pub const MAIL_UNDELIVERED_MAX: usize = 1_000;

/// A mail to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMail {
    /// Who writes; it need not be an agent of this rig.
    pub from: AgentId,
    /// Which agent of this rig is to read it.
    pub to: AgentId,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
}

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its id; ids are ordered by time.
    pub id: MailId,
    /// Who wrote it.
    pub from: AgentId,
    /// Who is to read it.
    pub to: AgentId,
    /// One line.
    pub subject: String,
    /// The text.
    pub body: String,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When its reader asked for it.
    pub delivered_at: Option<Timestamp>,
}

/// One line of an agent's own event log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentEvent {
    /// Rising in the rig, from 1.
    pub no: u64,
    /// Whose log.
    pub agent: AgentId,
    /// What happened, in the agent's word.
    pub event_type: String,
    /// Details.
    pub data: serde_json::Map<String, serde_json::Value>,
    /// When. Non-decreasing within a rig.
    pub created_at: Timestamp,
}
