//! What the checks of a rig remember of its past, as of one step.
//!
//! Owns the shape. A step that a crash takes back takes its account with it.

use std::collections::BTreeMap;

use rig::{BeadId, DispatchId, Notice};

/// See the file's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct RigAccount {
    /// Dispatches through the breaker since it last opened.
    pub(crate) probes: u32,
    /// The highest limit that ever held.
    pub(crate) attempts_max: u32,
    /// What each session had cost when a budget was first found used up.
    pub(crate) over: BTreeMap<DispatchId, u64>,
    /// What each bead's session had cost when the bead's own budget was first found used up.
    pub(crate) bead_over: BTreeMap<BeadId, (u64, u64)>,
    /// Every notice that was heeded.
    pub(crate) notices: BTreeMap<u64, Notice>,
}
