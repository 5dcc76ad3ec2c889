//! The newest dispatch of one bead, as its container remembers it.
//!
//! Owns the shape of that record. It stays after the end: a number that is not above it is never
//! run again.

use serde::{Deserialize, Serialize};

use crate::{Deadline, DispatchId, Report, RigConfig, RigId, Scopes, Usage};

/// The server and directory of a session. The boot, the pid and the start time together name one
/// process for ever, so that a later life can end it and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Which boot of the machine.
    pub boot_id: String,
    /// The server's process.
    pub pid: u32,
    /// When that process began, in clock ticks since boot.
    pub start_time: u64,
    /// The server's port.
    pub port: u16,
    /// The directory of the session.
    pub worktree: std::path::PathBuf,
}

/// A dispatch that occupies a slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Berth {
    /// Its session, once that is known.
    pub session: Option<String>,
    /// Where it runs, once that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it depends on.
    pub scopes: Scopes,
    /// With which its scopes can be checked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<RigConfig>,
    /// Whether its model has written anything: each dispatch speaks for its scopes once.
    pub output: bool,
    /// What it has cost so far.
    pub usage: Usage,
    /// It waits for its gateway, and until when that is let go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offline: Option<Deadline>,
    /// The container was told to end it.
    pub ending: bool,
}

impl Berth {
    /// Whether it waits for its gateway, and nobody ends it.
    pub(super) fn waits_offline(&self) -> bool {
        self.offline.is_some() && !self.ending
    }
}

/// Where a dispatch stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum EntryState {
    /// An agent runs it, or did when the process died.
    Taken(Box<Berth>),
    /// It is over; the report is repeated until `told`.
    Over {
        /// The report.
        report: Box<Report>,
        /// Whether the rig has taken it.
        told: bool,
    },
}

/// See the file's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose bead.
    pub rig: RigId,
    /// Its newest dispatch.
    pub dispatch: DispatchId,
    /// Where it stands.
    pub state: EntryState,
}

impl Entry {
    /// Its place on board, while it is taken.
    pub fn berth(&self) -> Option<&Berth> {
        match &self.state {
            EntryState::Taken(berth) => Some(berth),
            EntryState::Over { .. } => None,
        }
    }

    /// Whether the rig has not taken its report yet.
    pub fn is_untold(&self) -> bool {
        matches!(self.state, EntryState::Over { told: false, .. })
    }

    /// The name under which it is kept: one per bead.
    pub fn key(&self) -> String {
        key_of(&self.rig, &self.dispatch)
    }
}

pub(super) fn key_of(rig: &RigId, dispatch: &DispatchId) -> String {
    format!("{rig}/{}", dispatch.bead)
}
