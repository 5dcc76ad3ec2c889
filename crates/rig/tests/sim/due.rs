//! What an alarm may not miss, in the checks' own words.
//!
//! Owns an account of every deadline of a rig that does not ask the rig. Called by `checks`.

use wellhead_rig::{Bead, BreakerState, Deadline, Phase, Readiness, Rig, Timestamp};

use super::checks::hold;

/// An alarm uses up whatever is due; what it left would fire it again each second.
pub(super) fn used_up(rig: &Rig, now: Timestamp) -> Result<(), String> {
    for bead in rig.unfinished() {
        let due = deadlines(bead, rig, now).iter().any(|d| d.is_due(now));
        hold!(!due, "I4: an alarm left {} due at {now:?}", bead.id);
    }
    if let BreakerState::HalfOpen {
        probe: Some((id, by)),
        ..
    } = &rig.record().breaker.state
    {
        hold!(!by.is_due(now), "C4: the probe {id} hangs");
    }
    Ok(())
}

/// What the alarm may not miss, in the checks' own words.
pub(super) fn deadlines(bead: &Bead, rig: &Rig, now: Timestamp) -> Vec<Deadline> {
    match &bead.phase {
        Phase::Dispatched { start, .. } => vec![*start],
        Phase::Working { live, .. } => [live.lease, live.progress, live.total]
            .into_iter()
            .chain(live.nudge)
            .chain(live.tool)
            .collect(),
        Phase::Ending { ending, .. } if ending.over.is_some() => vec![ending.grace],
        Phase::Waiting { park: Some(_), .. } => Vec::new(),
        Phase::Waiting { until, .. } if !until.is_due(now) => vec![*until],
        Phase::Waiting { .. } | Phase::Hooked { .. } if rig.record().config.is_some() => {
            if let Readiness::Checking { deadline, .. } = &rig.record().readiness {
                return vec![*deadline];
            }
            if rig.record().pause.is_some() {
                return Vec::new();
            }
            let spent = &rig.record().spent;
            if rig.record().budget.day.is_reached(&spent.on(now)) {
                let (at, duration_ms) = (spent.day_ends(now), i64::MAX);
                return vec![Deadline { at, duration_ms }];
            }
            if let Some(hold) = &rig.record().hold
                && !hold.until.is_due(now)
            {
                return vec![hold.until];
            }
            match &rig.record().breaker.state {
                BreakerState::Open { next_probe, .. } if !next_probe.is_due(now) => {
                    vec![*next_probe]
                }
                BreakerState::HalfOpen {
                    probe: Some((_, by)),
                    ..
                } => vec![*by],
                _ => Vec::new(),
            }
        }
        _ => Vec::new(),
    }
}

pub(super) fn has_probe(rig: &Rig) -> bool {
    matches!(
        rig.record().breaker.state,
        BreakerState::HalfOpen { probe: Some(_), .. }
    )
}
