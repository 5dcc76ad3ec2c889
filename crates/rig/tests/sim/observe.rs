//! What a step brought about, for the counters of rare things.
//!
//! Owns the recognition of each. Judges nothing.

use wellhead_rig::{
    Bead, BreakerState, Cause, Change, Effect, Input, Outcome, Phase, Reply, Rig, Step, TurnVerdict,
};

use super::stats::Stats;

/// Counts what a step does to the rig.
pub(crate) fn step(stats: &mut Stats, rig: &Rig, input: &Input, step: &Step) {
    match &step.reply {
        Reply::Repeated => stats.saw("duplicate answered"),
        Reply::Turn(TurnVerdict::Nudge(_)) => stats.saw("nudged"),
        _ => {}
    }
    for effect in &step.effects {
        match effect {
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
