//! The end of a rig: its sessions are stopped, and whatever arrives afterwards meets the tombstone.
//!
//! Owns what a deleted rig still takes. Its beads and its clone stay where they are; only what has
//! a session goes, as soon as that is proven over.

use super::{draft::Draft, orders};
use crate::{Bead, BeadId, Input, Order, Refused, Reply, Rig};

/// What the tombstone says to an input.
pub(super) enum Met {
    /// It changes nothing, and this is the answer.
    Settled(Reply),
    /// It belongs to a session that is still being stopped.
    Ends,
}

/// Ends every live dispatch and puts the tombstone up.
pub(super) fn delete_rig(draft: &mut Draft<'_>) -> Result<Reply, Refused> {
    let live: Vec<BeadId> = draft
        .unfinished()
        .filter(|bead| bead.run().is_some())
        .map(|bead| bead.id.clone())
        .collect();
    for id in live {
        orders::order(draft, &id, Order::Delete, None)?;
    }
    let now = draft.now();
    draft.record_mut().deleted_at = Some(now);
    Ok(Reply::Accepted)
}

/// Asked first for every input of a deleted rig.
pub(super) fn meet(rig: &Rig, input: &Input) -> Result<Met, Refused> {
    let is_live = || rig.unfinished().any(|bead: &Bead| bead.run().is_some());
    match input {
        Input::Alarm | Input::ClockJumped if is_live() => Ok(Met::Ends),
        // The same order again, and a result that nobody waits for any more.
        Input::DeleteRig
        | Input::PreflightDone { .. }
        | Input::ContainerStarted { .. }
        | Input::Offered
        | Input::Noticed { .. }
        | Input::Undeliverable { .. }
        | Input::Alarm
        | Input::ClockJumped => Ok(Met::Settled(Reply::Accepted)),
        // Fenced by their dispatch: the one of a session that is over is stale.
        Input::AgentStarted { .. }
        | Input::Heartbeat(_)
        | Input::TurnEnded { .. }
        | Input::AgentDone(_) => Ok(Met::Ends),
        _ => Err(Refused::Deleted),
    }
}
