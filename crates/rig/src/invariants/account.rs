//! What the checks remember of the past, as of one step.
//!
//! Owns the shapes. A step that a crash takes back takes its account with it.

use std::collections::BTreeMap;

use crate::{BeadId, DispatchId, Notice, Scope, town::Ticket};

/// Of a rig.
#[derive(Clone, Debug, Default)]
pub struct RigAccount {
    /// Dispatches through the breaker since it last opened.
    pub(super) probes: u32,
    /// The highest limit that ever held.
    pub(super) attempts_max: u32,
    /// What each session had cost when a budget was first found used up.
    pub(super) over: BTreeMap<DispatchId, u64>,
    /// What each bead's session had cost when the bead's own budget was first found used up.
    pub(super) bead_over: BTreeMap<BeadId, (u64, u64)>,
    /// Every notice that was heeded.
    pub(super) notices: BTreeMap<u64, Notice>,
    /// A bead that is gone has taken its share of the spend with it.
    pub(super) has_deleted: bool,
}

/// Of a town.
#[derive(Clone, Debug, Default)]
pub struct TownAccount {
    /// Dispatches granted through a breaker that is not closed, since it last opened.
    pub(super) granted: BTreeMap<Scope, u32>,
    /// Slots that were taken before the step.
    pub(super) taken: usize,
    /// What each session had cost when the day's budget was first found used up.
    pub(super) over: BTreeMap<Ticket, u64>,
}
