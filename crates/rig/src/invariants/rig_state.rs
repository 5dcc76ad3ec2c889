//! A rig's state after a step.
//!
//! Owns the order of the checks, and that nothing runs which a person or a budget has stopped.

use super::{Look, RigAccount, alerts, due, spending, views};
use crate::{Bead, PauseMode, Phase, Rig, Timestamp};

/// Judges the state that a step has led to.
///
/// # Errors
/// What is broken, in words.
pub fn rig_state(rig: &Rig, look: Look, account: &RigAccount) -> Result<(), String> {
    let now = look.now;
    look.is_armed(rig.next_alarm(now))?;
    if look.was_alarm {
        due::used_up(rig, now)?;
    }
    if let Some((id, by)) = rig.record().breaker.probe() {
        hold!(
            due::probe_ends(*by, now),
            "C4: the probe {id} never counts as lost"
        );
    }
    if !rig.is_deleted() {
        due::awake(rig, look)?;
        alerts::told_or_silent(rig, look)?;
        stopped(rig, now)?;
        let live = rig.unfinished().filter(|b| b.run().is_some()).count();
        hold!(
            rig.running().count() == live,
            "the view of what runs is wrong"
        );
        if !account.has_deleted {
            spending::adds_up(rig)?;
        }
    }
    views::views(rig)
}

fn runs(bead: &Bead) -> bool {
    matches!(bead.phase, Phase::Dispatched { .. } | Phase::Working { .. })
}

/// A stop and a used budget end what runs.
fn stopped(rig: &Rig, now: Timestamp) -> Result<(), String> {
    let record = rig.record();
    let mode = record.pause.as_ref().map(|pause| pause.mode);
    // A clock that was set back into a day that is used up ends what runs with the next word of it.
    let newest = now.max(record.latest_at);
    let is_spent = record.budget.day.is_reached(&record.spent.on(newest));
    for bead in rig.running().filter(|bead| runs(bead)) {
        let id = &bead.id;
        hold!(mode != Some(PauseMode::Stop), "{id} runs in a stopped rig");
        hold!(!is_spent, "I13: {id} runs on a used budget");
        let run = bead.run().map(|run| run.usage).unwrap_or_default();
        let used = bead.usage.plus(run);
        hold!(
            !record.budget.bead.is_reached(&used),
            "I13: {id} runs beyond its own budget"
        );
    }
    Ok(())
}
