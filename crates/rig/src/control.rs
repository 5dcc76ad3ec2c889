//! Who gave a command, and what a pause is.
//!
//! Owns these two words. A pause is part of the record: it stays until somebody takes it back,
//! whatever restarts come between.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Who gave a command: a person's name, an agent's id, or a part of the system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Who(pub String);

impl Who {
    /// By that name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How much a pause holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseMode {
    /// Nothing new is dispatched; what runs goes on to its end.
    Pause,
    /// What runs is ended too, its work saved; it is continued after the resume.
    Stop,
}

impl PauseMode {
    /// As a word of people.
    pub fn as_str(self) -> &'static str {
        match self {
            PauseMode::Pause => "paused",
            PauseMode::Stop => "stopped",
        }
    }
}

/// Dispatch is held back until a person resumes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// How much.
    pub mode: PauseMode,
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: Who,
    /// Why, if that was said.
    #[serde(default)]
    pub reason: Option<String>,
}
