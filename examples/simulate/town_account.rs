//! What the checks of a town remember of its past, as of one step.
//!
//! Owns the shape. A step that a crash takes back takes its account with it.

use std::collections::BTreeMap;

use rig::{Scope, town::Ticket};

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct TownAccount {
    /// Dispatches granted through a breaker that is not closed, since it last opened.
    pub(crate) granted: BTreeMap<Scope, u32>,
    /// What each session had cost when the day's budget was first found used up.
    pub(crate) over: BTreeMap<Ticket, u64>,
}
