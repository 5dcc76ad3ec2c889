//! Which rare things a step of a town was.
//!
//! Owns the recognition of them, for the counters. Judges nothing.

use rig::{
    BreakerState, Class, Notice, PauseMode, Refusal, Scope,
    town::{Guard, Taken, Town, TownEffect, TownInput, TownReply, TownStep},
};

use crate::stats::Stats;

/// Counts what the step was.
pub(crate) fn see(old: &Town, input: &TownInput, step: &TownStep, stats: &mut Stats) {
    let record = step.record(old);
    for guard in &record.guards {
        turned(old.record().guard(&guard.scope), guard, input, stats);
    }
    for was in &old.record().guards {
        let is_closed = record
            .guard(&was.scope)
            .is_none_or(|guard| guard.breaker.is_closed());
        if !was.breaker.is_closed() && is_closed {
            stats.saw(closed(&was.scope));
        }
    }
    for effect in &step.effects {
        effect_of(effect, stats);
    }
    for entry in step.entries() {
        if let rig::town::EntryState::Over { report, .. } = &entry.state
            && let rig::Outcome::Refused { refusal, .. } = &report.outcome
            && matches!(refusal, Refusal::Full { .. })
            && matches!(input, TownInput::Take { .. })
        {
            stats.saw("town full");
        }
    }
    words(old, input, step, stats);
    let waits =
        |town: &rig::town::TownRecord| town.waiters.iter().filter(|w| w.scope.is_none()).count();
    if waits(record) > waits(old.record()) {
        stats.saw("slot waited");
    }
}

fn words(old: &Town, input: &TownInput, step: &TownStep, stats: &mut Stats) {
    match input {
        TownInput::Take { rig, .. } if step.reply == TownReply::Taken(Taken::Fresh) => {
            let mut waiters = old.record().waiters.iter();
            if waiters.any(|w| w.rig == *rig && w.scope.is_none() && w.offer.is_some()) {
                stats.saw("slot offered and taken");
            }
        }
        TownInput::Alarm => {
            let after = &step.record(old).waiters;
            let gone = |was: &rig::town::Waiter| {
                was.offer.is_some() && !after.iter().any(|is| is.rig == was.rig)
            };
            if old.record().waiters.iter().any(gone) {
                stats.saw("offer expired");
            }
        }
        TownInput::ScopeChecked {
            no,
            failure: Some(_),
        } => {
            let mut guards = old.record().guards.iter();
            if guards.any(|guard| guard.check.is_some_and(|check| check.no == *no)) {
                stats.saw("check failed");
            }
        }
        TownInput::Pause { mode, .. } => stats.saw(match mode {
            PauseMode::Pause => "paused",
            PauseMode::Stop => "stopped",
        }),
        TownInput::Resume { .. } if old.record().pause.is_some() => stats.saw("resumed"),
        _ => {}
    }
}

fn turned(was: Option<&Guard>, is: &Guard, input: &TownInput, stats: &mut Stats) {
    let was_open = was.is_some_and(|was| !was.breaker.is_closed());
    if !was_open && !is.breaker.is_closed() {
        stats.saw(opened(&is.scope));
        if is.breaker.class() == Some(Class::RateLimited) {
            stats.saw("rate limited pause");
        }
    }
    let (probe_was, probe_is) = (was.and_then(|was| was.breaker.probe()), is.breaker.probe());
    if probe_was.is_none() && probe_is.is_some() {
        stats.saw("probe sent");
        if !matches!(input, TownInput::Take { .. }) {
            stats.saw("probe was an offline session");
        }
    }
    let is_open = matches!(is.breaker.state, BreakerState::Open { .. });
    if probe_was.is_some() && is_open {
        let is_lost = matches!(input, TownInput::Boot);
        stats.saw(if is_lost {
            "probe lost"
        } else {
            "probe failed"
        });
    }
    if matches!(input, TownInput::Alarm)
        && was.is_some_and(|was| was.check.is_some())
        && is.check != was.and_then(|was| was.check)
    {
        stats.saw("check unanswered");
    }
}

fn effect_of(effect: &TownEffect, stats: &mut Stats) {
    match effect {
        TownEffect::AnswerOffline { .. } => stats.saw("offline answered"),
        TownEffect::EndSession { failure, .. } if failure.offline => stats.saw("offline ended"),
        TownEffect::Notify { notice, .. } => match notice {
            Notice::BudgetWarned { .. } => stats.saw("budget warned: town"),
            Notice::BudgetStopped { .. } => stats.saw("budget stopped: town"),
            _ => {}
        },
        _ => {}
    }
}

fn opened(scope: &Scope) -> &'static str {
    match scope {
        Scope::Credential { .. } => "breaker opened: credential",
        Scope::Gateway { .. } => "breaker opened: gateway",
        Scope::Model { .. } => "breaker opened: model",
        Scope::Container => "breaker opened: container",
    }
}

fn closed(scope: &Scope) -> &'static str {
    match scope {
        Scope::Credential { .. } => "breaker closed: credential",
        Scope::Gateway { .. } => "breaker closed: gateway",
        Scope::Model { .. } => "breaker closed: model",
        Scope::Container => "breaker closed: container",
    }
}
