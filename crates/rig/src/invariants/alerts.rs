//! C13: an open escalation is told again, or silent because somebody has seen it.
//!
//! Owns how often and when.

use super::Look;
use crate::{Bead, Rig};

const AGAIN_MS: i64 = 4 * 3_600_000;
const AGAIN_MAX: u32 = 3;

/// Each open escalation is told again, three times at most, or silent because it was seen.
pub(super) fn told_or_silent(rig: &Rig, look: Look) -> Result<(), String> {
    let Look {
        alarm,
        now,
        was_alarm,
    } = look;
    for bead in rig.open_escalations() {
        let id = &bead.id;
        let Some(alert) = &bead.alert else {
            return Err(format!("{id} has no alert"));
        };
        let is_silent = alert.acknowledged.is_some() || alert.told_again >= AGAIN_MAX;
        hold!(alert.told_again <= AGAIN_MAX, "{id} is told too often");
        hold!(
            alert.again.is_some() != is_silent,
            "C13: {id} is {alert:?} and silent is {is_silent}"
        );
        let Some(again) = alert.again else { continue };
        hold!(again.duration_ms == AGAIN_MS, "{id} is told at {again:?}");
        let due = again.rebased(now).at.max(now.plus_ms(1_000));
        hold!(alarm.is_some_and(|at| at <= due), "I3: {id} is not told");
        hold!(
            !was_alarm || !again.is_due(now),
            "I4: an alarm left {id} untold"
        );
    }
    Ok(())
}

/// What a person has seen stays seen.
pub(super) fn stay_seen(old: &Bead, new: &Bead) -> Result<(), String> {
    let seen = |bead: &Bead| bead.alert.as_ref().and_then(|a| a.acknowledged.clone());
    let told = |bead: &Bead| bead.alert.as_ref().map_or(0, |a| a.told_again);
    if let Some(was) = seen(old) {
        let (id, is) = (&new.id, seen(new));
        hold!(is.as_ref() == Some(&was), "C13: {id} is unseen again");
        hold!(
            told(old) == told(new),
            "C13: {id} is told after it was seen"
        );
    }
    Ok(())
}
