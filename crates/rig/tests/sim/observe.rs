//! What a step brought about, for the counters of rare things.
//!
//! Owns the recognition of each. Judges nothing.

use wellhead_rig::{
    Bead, BreakerState, Cause, Change, Effect, EventType, Input, Outcome, Phase, Reply, Rig, Step,
    TurnVerdict,
};

use super::stats::Stats;

/// Counts what a step does to the rig.
pub(crate) fn step(stats: &mut Stats, rig: &Rig, input: &Input, step: &Step) {
    match &step.reply {
        Reply::Repeated => stats.saw("duplicate answered"),
        Reply::Turn(TurnVerdict::Nudge(_)) => stats.saw("nudged"),
        _ => {}
    }
    if let Input::Pause { mode, .. } = input
        && rig.record().pause.is_none()
    {
        stats.saw(mode.as_str());
    }
    let asks = |e: &Effect| matches!(e, Effect::Dispatch(_) | Effect::Preflight { .. });
    if matches!(input, Input::Offered) && step.effects.iter().any(asks) {
        stats.saw("offer taken");
    }
    for effect in &step.effects {
        match effect {
            Effect::Nudge { .. } => stats.saw("nudged by the clock"),
            Effect::BreakerTripped { .. } => stats.saw("breaker opened"),
            Effect::BreakerClosed { .. } => stats.saw("breaker closed"),
            Effect::Dispatch(order) if order.resume.is_some() => stats.saw("lost continued"),
            _ => {}
        }
    }
    for change in &step.changes {
        match change {
            Change::Bead(bead) => count_bead(stats, rig.bead(&bead.id), bead, input),
            Change::Rig(record) => count_breaker(stats, rig, &record.breaker.state),
            Change::Event(event) if event.event_type == EventType::BudgetStopped => {
                stats.saw("budget stopped");
            }
            _ => {}
        }
    }
    let unanswered = matches!(input, Input::Alarm)
        && step.changes.iter().any(|change| {
            matches!(change, Change::Rig(record)
                    if record.breaker.failure().is_some_and(|f| f.text.contains("did not end")))
        });
    if unanswered {
        stats.saw("preflight unanswered");
    }
}

fn count_bead(stats: &mut Stats, old: Option<&Bead>, new: &Bead, input: &Input) {
    let Some(old) = old else { return };
    count_limits(stats, old, new);
    if let Phase::Failed { reason, .. } = &new.phase
        && !old.is_terminal()
    {
        if reason.starts_with("failed") {
            stats.saw("limit by failures");
        } else if reason.starts_with("used all") {
            stats.saw("limit by prompts");
        }
    }
    if new.numbers.prompts < old.numbers.prompts {
        stats.saw("given back");
    }
    if let Phase::Ending { ending, .. } = &old.phase {
        let ended_well = matches!(ending.over, Some(Outcome::Completed { .. }));
        if ended_well && matches!(input, Input::Done { .. }) {
            stats.saw("grace merged done");
        }
        let ordered = matches!(ending.cause, Cause::Ordered(_));
        if ordered && new.run().is_none() {
            stats.saw("order ended a session");
        }
    }
}

fn count_limits(stats: &mut Stats, old: &Bead, new: &Bead) {
    if let Phase::Ending { ending, .. } = &new.phase
        && !matches!(old.phase, Phase::Ending { .. })
        && let Cause::Expired(failure) = &ending.cause
    {
        if failure.text.starts_with("the same tool call") {
            stats.saw("looped tool call");
        } else if failure.text.starts_with("a tool has run") {
            stats.saw("tool limit");
        }
    }
    let is_parked = |bead: &Bead| matches!(&bead.phase, Phase::Waiting { park: Some(_), .. });
    if is_parked(new) && !is_parked(old) {
        stats.saw("parked");
    }
    let settled = new
        .attempts
        .last()
        .filter(|a| Some(a.no) == old.run().map(|run| run.no));
    if settled.is_some_and(|a| matches!(a.outcome, Outcome::Refused { .. })) {
        stats.saw("town refused");
    }
    if let (Some(was), Some(is)) = (&old.alert, &new.alert) {
        if is.told_again > was.told_again {
            stats.saw("told again");
        }
        if is.acknowledged.is_some() && was.acknowledged.is_none() {
            stats.saw("acknowledged");
        }
    }
}

fn count_breaker(stats: &mut Stats, rig: &Rig, new: &BreakerState) {
    let old = &rig.record().breaker.state;
    let BreakerState::HalfOpen { probe: was, .. } = old else {
        return;
    };
    match new {
        BreakerState::HalfOpen {
            probe: Some(probe), ..
        } if was.as_ref() != Some(probe) => stats.saw("probe sent"),
        BreakerState::HalfOpen { probe: None, .. } if was.is_some() => {
            stats.saw("probe given back");
        }
        BreakerState::Open { .. } if was.is_some() => stats.saw("probe failed"),
        _ => {}
    }
}
