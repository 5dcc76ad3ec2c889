//! Which rare things a step of a rig was.
//!
//! Owns the recognition of them, for the counters. Judges nothing.

use rig::{
    Bead, BreakerState, Change, Class, Effect, EventType, Input, Outcome, PauseMode, Phase,
    Preflight, Reply, Rig, Step, TurnVerdict,
};

use crate::stats::Stats;

/// Counts what the step was.
pub(crate) fn see(old: &Rig, input: &Input, step: &Step, stats: &mut Stats) {
    for change in &step.changes {
        match change {
            Change::Rig(new) => breaker(old, &new.breaker, stats),
            Change::Bead(new) => bead(old.bead(&new.id), new, stats),
            Change::Event(event) => event_of(event, stats),
            _ => {}
        }
    }
    for effect in &step.effects {
        match effect {
            Effect::Dispatch(order) if order.resume.is_some() => {
                stats.saw("lost dispatch continued");
            }
            Effect::Nudge { .. } => stats.saw("nudged by the clock"),
            _ => {}
        }
    }
    match (input, &step.reply) {
        (Input::AgentDone(_), Reply::Repeated) => stats.saw("duplicate answered"),
        (
            Input::PreflightDone {
                result: Preflight::Failed(_),
                ..
            },
            Reply::Accepted,
        ) => stats.saw("check failed"),
        (Input::TurnEnded { dispatch, report }, Reply::Turn(TurnVerdict::Nudge(_))) => {
            let before = old.bead(&dispatch.bead).and_then(Bead::run);
            let known = before.and_then(|run| run.nudged_after.max(run.told_after));
            if known != Some(report.turn_no) {
                stats.saw("nudged after a turn");
            }
        }
        (Input::Message { .. }, _) => stats.saw("message told"),
        (Input::Pause { mode, .. }, _) => stats.saw(match mode {
            PauseMode::Pause => "paused",
            PauseMode::Stop => "stopped",
        }),
        (Input::Resume { .. }, _) if old.record().pause.is_some() => stats.saw("resumed"),
        (Input::ContainerStarted { .. }, _) if old.running().next().is_some() => {
            stats.saw("two lives");
        }
        _ => {}
    }
}

fn breaker(old: &Rig, new: &rig::Breaker, stats: &mut Stats) {
    let was = &old.record().breaker;
    match (was.class(), new.class()) {
        (None, Some(Class::Git)) => stats.saw("breaker opened: git"),
        (None, Some(_)) => stats.saw("breaker opened: rig"),
        (Some(Class::Git), None) => stats.saw("breaker closed: git"),
        (Some(_), None) => stats.saw("breaker closed: rig"),
        _ => {}
    }
    if was.probe().is_none() && new.probe().is_some() {
        stats.saw("probe sent");
    }
    if was.probe().is_some() && matches!(new.state, BreakerState::Open { .. }) {
        stats.saw("probe failed");
    }
}

fn bead(old: Option<&Bead>, new: &Bead, stats: &mut Stats) {
    let Some(old) = old else { return };
    if old.attempts.last().map(|a| a.no) != new.attempts.last().map(|a| a.no)
        && let Some(attempt) = new.attempts.last()
    {
        match &attempt.outcome {
            Outcome::Refused { .. } => stats.saw("given back"),
            Outcome::NeverStarted => stats.saw("never started"),
            Outcome::Completed { .. } | Outcome::Failed { .. } => {}
        }
    }
    let text = new
        .last_failure
        .as_ref()
        .filter(|_| new.last_failure != old.last_failure);
    if let Some(text) = text.map(|last| last.failure.text.as_str()) {
        if text.contains("a tool has run") {
            stats.saw("tool limit");
        } else if text.contains("the same tool call") {
            stats.saw("looped call");
        } else if text.contains("no progress for") {
            stats.saw("stalled");
        }
    }
    if let (false, Phase::Failed { reason, .. }) = (old.is_terminal(), &new.phase) {
        if reason.starts_with("failed ") {
            stats.saw("limit by failures");
        } else if reason.starts_with("used all") {
            stats.saw("limit by prompts");
        }
    }
    let count = |bead: &Bead| {
        bead.metadata
            .get("count")
            .and_then(serde_json::Value::as_u64)
    };
    if count(new) > count(old) {
        stats.saw("escalation counted");
    }
}

fn event_of(event: &rig::BeadEvent, stats: &mut Stats) {
    let of_town = event.new_value.as_deref() == Some("town_day");
    match event.event_type {
        EventType::Retried => stats.saw("retried"),
        EventType::Cancelled => stats.saw("cancelled"),
        EventType::DeadLettered => stats.saw("dead-lettered"),
        EventType::Acknowledged => stats.saw("escalation acknowledged"),
        EventType::Escalated if event.metadata.get("told_again").is_some() => {
            stats.saw("escalation told again");
        }
        EventType::Escalated if event.metadata["cause"] == "budget:rig" => {
            stats.saw("budget stopped: rig");
        }
        EventType::Escalated if is_of_bead_budget(event) => stats.saw("budget stopped: bead"),
        EventType::BudgetWarned if !of_town => stats.saw("budget warned: rig"),
        _ => {}
    }
}

fn is_of_bead_budget(event: &rig::BeadEvent) -> bool {
    let cause = event.metadata["cause"].as_str();
    cause.is_some_and(|cause| cause.starts_with("budget:bead:"))
}
