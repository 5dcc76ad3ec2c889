//! What the clock says: deadlines that passed, leases that ran out, and the hourly look around.
//!
//! Owns the witness's patrol: it acts on what it finds in the same step; no list is left that
//! nobody reads. An alarm step uses up every deadline that is due.

use super::{draft::Draft, orders, settle, trip};
use crate::{
    Bead, BeadId, BreakerState, Cause, Class, Failure, Phase, Readiness, Reply, Stage, Timestamp,
    state::PATROL_MS,
};

pub(super) fn alarm(draft: &mut Draft<'_>) -> Reply {
    let now = draft.now();
    draft.record_mut().alarmed_at = Some(now);
    rebase(draft);
    check_deadlines(draft);
    let ids = draft.with_deadlines();
    // Before the deadlines, which ask for themselves.
    if now >= draft.record().patrolled_at.plus_ms(PATROL_MS) {
        look_around(draft, &ids);
        draft.record_mut().patrolled_at = now;
    }
    for id in &ids {
        use_up(draft, id, now);
    }
    Reply::Accepted
}

/// The rig's own deadlines: the checks, and the breaker's probe.
fn check_deadlines(draft: &mut Draft<'_>) {
    let now = draft.now();
    if matches!(&draft.record().readiness, Readiness::Checking { deadline, .. }
        if deadline.is_due(now))
    {
        trip::check_unanswered(draft);
    }
    if matches!(&draft.record().breaker.state, BreakerState::HalfOpen { probe: Some((_, by)), .. }
        if by.is_due(now))
    {
        trip::probe_failed(draft);
    }
}

/// Acts on the first deadline of a bead that is due.
fn use_up(draft: &mut Draft<'_>, id: &BeadId, now: Timestamp) {
    let Some(bead) = draft.bead(id) else { return };
    let due = match &bead.phase {
        Phase::Dispatched { start, .. } if start.is_due(now) => {
            let text = format!("no session within {} s", start.duration_ms / 1_000);
            Failure::new(Class::StartTimeout, Stage::Session, text)
        }
        Phase::Working { live, .. } if live.lease.is_due(now) => {
            let text = format!("no heartbeat for {} s", live.lease.duration_ms / 1_000);
            Failure::new(Class::Lost, Stage::Turn, text)
        }
        Phase::Working { live, .. } if live.progress.is_due(now) => {
            let text = format!("no progress for {} s", live.progress.duration_ms / 1_000);
            Failure::new(Class::Stalled, Stage::Turn, text)
        }
        Phase::Working { live, .. } if live.total.is_due(now) => {
            let text = format!("over the limit of {} s", live.total.duration_ms / 1_000);
            Failure::new(Class::Stalled, Stage::Turn, text)
        }
        Phase::Ending { ending, .. } if ending.over.is_some() => {
            // Never refused: the bead is there.
            let _ = settle::try_settle(draft, id);
            return;
        }
        _ => return,
    };
    let reason = due.text.clone();
    let _ = orders::begin_ending(draft, id, Cause::Expired(due), 0, &reason);
}

/// Once an hour: what only waits for a container's proof is asked for again.
fn look_around(draft: &mut Draft<'_>, ids: &[BeadId]) {
    let unproven: Vec<(BeadId, u64)> = ids
        .iter()
        .filter_map(|id| draft.bead(id))
        .filter_map(|bead| match &bead.phase {
            Phase::Ending { run, ending } if ending.over.is_none() => {
                Some((bead.id.clone(), run.no))
            }
            _ => None,
        })
        .collect();
    for (id, no) in unproven {
        orders::ask_to_stop(draft, &id, no, 0, "patrol: still not proven over");
    }
}

/// The clock jumped or the machine slept: whatever was under way gets its whole time again, once,
/// for nobody knows how much of it has passed. Waits that are over by now are over.
pub(super) fn clock_jumped(draft: &mut Draft<'_>) -> Reply {
    let now = draft.now();
    rebase(draft);
    let live: Vec<BeadId> = draft
        .unfinished()
        .filter(|bead| bead.run().is_some())
        .map(|bead| bead.id.clone())
        .collect();
    for id in live {
        if let Ok(bead) = draft.bead_mut(&id) {
            renew_phase(&mut bead.phase, now);
        }
    }
    let record = draft.record_mut();
    if let Readiness::Checking { deadline, .. } = &mut record.readiness {
        *deadline = deadline.renewed(now);
    }
    if let BreakerState::HalfOpen {
        probe: Some((_, by)),
        ..
    } = &mut record.breaker.state
    {
        *by = by.renewed(now);
    }
    Reply::Accepted
}

fn renew_phase(phase: &mut Phase, now: Timestamp) {
    match phase {
        Phase::Dispatched { start, .. } => *start = start.renewed(now),
        Phase::Working { live, .. } => {
            live.lease = live.lease.renewed(now);
            live.progress = live.progress.renewed(now);
            live.total = live.total.renewed(now);
        }
        Phase::Open
        | Phase::Held
        | Phase::Hooked { .. }
        | Phase::Ending { .. }
        | Phase::Waiting { .. }
        | Phase::InReview { .. }
        | Phase::Closed { .. }
        | Phase::Failed { .. } => {}
    }
}

/// After a jump back no deadline is further away than its own length.
fn rebase(draft: &mut Draft<'_>) {
    let now = draft.now();
    // Waits begin with an event: only a time before the last one can be too early for them.
    let is_back = now < draft.record().latest_at;
    let moved: Vec<BeadId> = draft
        .unfinished_or_running(is_back)
        .filter(|bead| is_beyond(bead, now))
        .map(|b| b.id.clone())
        .collect();
    for id in moved {
        if let Ok(bead) = draft.bead_mut(&id) {
            rebase_phase(&mut bead.phase, now);
        }
    }
    let record = draft.record_mut();
    // From the future they would push the next alarm away with each step.
    record.patrolled_at = record.patrolled_at.min(now);
    record.alarmed_at = record.alarmed_at.map(|at| at.min(now));
    match &mut record.breaker.state {
        BreakerState::Open { next_probe, .. } => *next_probe = next_probe.rebased(now),
        BreakerState::HalfOpen {
            probe: Some((_, by)),
            ..
        } => *by = by.rebased(now),
        BreakerState::HalfOpen { probe: None, .. } | BreakerState::Closed => {}
    }
    if let Readiness::Checking { deadline, .. } = &mut record.readiness {
        *deadline = deadline.rebased(now);
    }
}

fn is_beyond(bead: &Bead, now: Timestamp) -> bool {
    let mut phase = bead.phase.clone();
    rebase_phase(&mut phase, now);
    phase != bead.phase
}

fn rebase_phase(phase: &mut Phase, now: Timestamp) {
    match phase {
        Phase::Dispatched { start, .. } => *start = start.rebased(now),
        Phase::Working { live, .. } => {
            live.lease = live.lease.rebased(now);
            live.progress = live.progress.rebased(now);
            live.total = live.total.rebased(now);
        }
        Phase::Ending { ending, .. } => ending.grace = ending.grace.rebased(now),
        Phase::Waiting { until, .. } => *until = until.rebased(now),
        Phase::Open
        | Phase::Held
        | Phase::Hooked { .. }
        | Phase::InReview { .. }
        | Phase::Closed { .. }
        | Phase::Failed { .. } => {}
    }
}
