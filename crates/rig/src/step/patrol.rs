//! What the clock says: deadlines that passed, leases that ran out, and the hourly look around.
//!
//! Owns the witness's patrol: it acts on what it finds in the same step; no list is left that
//! nobody reads. An alarm step uses up every deadline that is due.

use super::{
    alert,
    draft::{Draft, NewEvent},
    orders, settle, trip,
};
use crate::{
    Bead, BeadId, BreakerState, Cause, Class, DispatchId, Effect, EventType, Failure, Phase,
    Readiness, Reply, Stage, Timestamp, state::PATROL_MS,
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
    for id in draft.to_tell_again() {
        alert::tell_again(draft, &id);
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
        trip::probe_expired(draft);
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
        Phase::Working { live, .. } if live.tool.is_some_and(|tool| tool.is_due(now)) => {
            let ran = live.tool.map_or(0, |tool| tool.duration_ms / 1_000);
            Failure::new(
                Class::Stalled,
                Stage::Turn,
                format!("a tool has run for {ran} s"),
            )
        }
        Phase::Working { live, .. } if live.progress.is_due(now) => {
            let text = format!("no progress for {} s", live.progress.duration_ms / 1_000);
            Failure::new(Class::Stalled, Stage::Turn, text)
        }
        Phase::Working { live, .. } if live.total.is_due(now) => {
            let text = format!("over the limit of {} s", live.total.duration_ms / 1_000);
            Failure::new(Class::Stalled, Stage::Turn, text)
        }
        Phase::Working { live, .. } if live.nudge.is_some_and(|nudge| nudge.is_due(now)) => {
            nudge(draft, id);
            return;
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

/// Nothing has moved for a while: the turn is stopped and the session prompted once more, if the
/// bead has a prompt left. The longer deadline goes on meanwhile.
fn nudge(draft: &mut Draft<'_>, id: &BeadId) {
    let Some(bead) = draft.bead(id) else { return };
    let has_prompt =
        bead.numbers.prompts < settle::prompts_limit(&draft.record().policy, &bead.numbers);
    let town = draft.record().config.as_ref().map(|c| c.town_id.clone());
    let text = format!(
        "Nothing has happened in this session for a while, so your turn was stopped. The task is \
         still: {}\nGo on with it: look at what is there, finish it, and commit it on your branch.",
        bead.title
    );
    let Ok(bead) = draft.bead_mut(id) else { return };
    let mut sent = None;
    if let Phase::Working { run, live } = &mut bead.phase {
        live.nudge = None;
        if has_prompt && !run.is_over {
            bead.numbers.prompts = bead.numbers.prompts.saturating_add(1);
            sent = Some((run.no, run.agent.clone(), bead.numbers.prompts));
        }
    }
    let (Some((no, agent, prompt_no)), Some(town)) = (sent, town) else {
        return;
    };
    let mut event = NewEvent::of(EventType::Nudged, id);
    event.agent = Some(&agent);
    draft.event(event);
    let dispatch = DispatchId {
        bead: id.clone(),
        no,
    };
    draft.effect(Effect::Nudge {
        dispatch,
        town,
        no: prompt_no,
        text,
    });
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
    record.breaker.renew_probe(now);
    Reply::Accepted
}

fn renew_phase(phase: &mut Phase, now: Timestamp) {
    match phase {
        Phase::Dispatched { start, .. } => *start = start.renewed(now),
        Phase::Working { live, .. } => {
            live.lease = live.lease.renewed(now);
            live.progress = live.progress.renewed(now);
            live.nudge = live.nudge.map(|nudge| nudge.renewed(now));
            live.tool = live.tool.map(|tool| tool.renewed(now));
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
    if is_back {
        rebase_alerts(draft);
    }
    let record = draft.record_mut();
    // From the future they would push the next alarm away with each step.
    record.patrolled_at = record.patrolled_at.min(now);
    record.alarmed_at = record.alarmed_at.map(|at| at.min(now));
    record.breaker.rebase(now);
    record.spent.rebase(now);
    if let Some(hold) = &mut record.hold {
        hold.until = hold.until.rebased(now);
    }
    if let Readiness::Checking { deadline, .. } = &mut record.readiness {
        *deadline = deadline.rebased(now);
    }
}

fn rebase_alerts(draft: &mut Draft<'_>) {
    let now = draft.now();
    let again = |bead: &Bead| bead.alert.as_ref().and_then(|alert| alert.again);
    let is_moved = |bead: &&Bead| again(bead).is_some_and(|at| at.rebased(now) != at);
    let moved = draft.escalations().filter(is_moved);
    let moved: Vec<BeadId> = moved.map(|bead| bead.id.clone()).collect();
    for id in moved {
        if let Ok(bead) = draft.bead_mut(&id)
            && let Some(alert) = &mut bead.alert
        {
            alert.again = alert.again.map(|again| again.rebased(now));
        }
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
            live.nudge = live.nudge.map(|nudge| nudge.rebased(now));
            live.tool = live.tool.map(|tool| tool.rebased(now));
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
