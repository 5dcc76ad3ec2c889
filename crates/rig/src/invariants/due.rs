//! I3 and I4: what an alarm may not miss, and what it uses up.
//!
//! Owns an account of every deadline of a rig that does not ask the rig.

use super::Look;
use crate::{Bead, BreakerState, Deadline, Phase, Readiness, Rig, RigRecord, Timestamp};

const HOUR_MS: i64 = 3_600_000;

/// Whatever waits has an alarm that comes no later than the end of its wait.
pub(super) fn awake(rig: &Rig, look: Look) -> Result<(), String> {
    let Look { alarm, now, .. } = look;
    let unfinished = rig.unfinished().next().is_some();
    let Some(at) = alarm else {
        hold!(!unfinished, "I3: unfinished work and no alarm");
        return Ok(());
    };
    hold!(unfinished || has_reason(rig), "I3: an alarm for nothing");
    hold!(
        !unfinished || at <= now.plus_ms(HOUR_MS),
        "I3: the patrol is more than an hour away"
    );
    for bead in rig.unfinished() {
        for deadline in deadlines(bead, rig, now) {
            let due = deadline.rebased(now).at.max(now.plus_ms(1_000));
            hold!(
                at <= due,
                "I3: {} is due at {due:?}, the alarm at {at:?}",
                bead.id
            );
        }
    }
    Ok(())
}

/// Somebody is told again, or a probe may get lost.
fn has_reason(rig: &Rig) -> bool {
    let tells = |bead: &Bead| {
        bead.alert
            .as_ref()
            .is_some_and(|alert| alert.again.is_some())
    };
    rig.open_escalations().any(tells) || rig.record().breaker.probe().is_some()
}

/// C4: a probe whose word gets lost counts as failed one day.
pub(super) fn probe_ends(by: Deadline, now: Timestamp) -> bool {
    by.rebased(now).at <= now.plus_ms(24 * HOUR_MS)
}

/// An alarm uses up whatever is due; what it left would fire it again each second.
pub(super) fn used_up(rig: &Rig, now: Timestamp) -> Result<(), String> {
    for bead in rig.unfinished() {
        let due = deadlines(bead, rig, now).iter().any(|d| d.is_due(now));
        hold!(!due, "I4: an alarm left {} due at {now:?}", bead.id);
    }
    if let Some((id, by)) = rig.record().breaker.probe() {
        hold!(
            rig.is_deleted() || !by.is_due(now),
            "C4: the probe {id} hangs"
        );
    }
    Ok(())
}

/// What the alarm may not miss, in the checks' own words.
fn deadlines(bead: &Bead, rig: &Rig, now: Timestamp) -> Vec<Deadline> {
    match &bead.phase {
        Phase::Dispatched { start, .. } => vec![*start],
        Phase::Working { live, .. } => [live.lease, live.progress, live.total]
            .into_iter()
            .chain(live.nudge)
            .chain(live.tool)
            .collect(),
        Phase::Ending { ending, .. } if ending.over.is_some() => vec![ending.grace],
        Phase::Waiting {
            until, park: None, ..
        } if !until.is_due(now) => vec![*until],
        Phase::Waiting { park: None, .. } | Phase::Hooked { .. } => {
            holds_back(rig.record(), now).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What keeps all ready work of a rig from being dispatched for a time.
fn holds_back(record: &RigRecord, now: Timestamp) -> Option<Deadline> {
    record.config.as_ref()?;
    if let Readiness::Checking { deadline, .. } = &record.readiness {
        return Some(*deadline);
    }
    if record.pause.is_some() {
        return None;
    }
    if record.budget.day.is_reached(&record.spent.on(now)) {
        let (at, duration_ms) = (record.spent.day_ends(now), i64::MAX);
        return Some(Deadline { at, duration_ms });
    }
    if let Some(hold) = record.hold.as_ref().filter(|hold| !hold.until.is_due(now)) {
        return Some(hold.until);
    }
    match &record.breaker.state {
        BreakerState::Open { next_probe, .. } if !next_probe.is_due(now) => Some(*next_probe),
        BreakerState::HalfOpen {
            probe: Some((_, by)),
            ..
        } => Some(*by),
        _ => None,
    }
}
