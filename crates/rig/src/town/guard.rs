//! The breakers of shared scopes: what opens, checks, probes and closes them.
//!
//! Owns what each report of a dispatch and each check of ours means for them. The breaker's own
//! rules are in `breaker`; who is let through is decided in `admit`, who is offered what in `drive`.

use super::{Ask, Berth, Guard, Ticket, TownEffect, TownReply, admit, draft::Draft};
use crate::{
    Breaker, Class, Deadline, DispatchId, Failure, Moved, Notice, Outcome, Report, RigConfig,
    RigId, Scope, Scopes, Stage,
};

/// More breakers than this are not remembered; those that nobody needs leave first.
const GUARDS_MAX: usize = 64;

/// A dispatch is over: its failure speaks against a scope, its output for all of them.
pub(super) fn ended(draft: &mut Draft<'_>, ticket: &Ticket, berth: &Berth, report: &Report) {
    let failure = match &report.outcome {
        Outcome::Failed { failure, .. } => Some(failure),
        Outcome::Completed { .. } | Outcome::Refused { .. } | Outcome::NeverStarted => None,
    };
    let against = failure.and_then(|failure| berth.scopes.against(failure.class));
    if report.output && !berth.output && against.is_none() {
        speak_for(draft, ticket, berth);
    }
    if let (Some(failure), Some(scope)) = (failure, &against) {
        let was_probe = is_probe(draft, scope, ticket);
        feed(
            draft,
            scope,
            failure,
            was_probe,
            &ticket.rig,
            berth.sample.as_ref(),
        );
    }
    let proves_nothing = failure
        .is_some_and(|failure| matches!(failure.class, Class::Interrupted | Class::BudgetStop));
    for scope in berth.scopes.all() {
        if against.as_ref() == Some(&scope) || !is_probe(draft, &scope, ticket) {
            continue;
        }
        if proves_nothing {
            if let Some(guard) = draft.guard_mut(&scope) {
                guard.breaker.release_probe(ticket);
            }
        } else {
            probe_failed(draft, &scope);
        }
    }
}

fn is_probe(draft: &Draft<'_>, scope: &Scope, ticket: &Ticket) -> bool {
    let guard = draft.record().guard(scope);
    guard.is_some_and(|guard| guard.breaker.probe().is_some_and(|(is, _)| is == ticket))
}

/// A check without an answer, or a probe without output in its time.
pub(super) fn expired(draft: &mut Draft<'_>, scope: &Scope) {
    let (now, pace, random) = (draft.now(), draft.record().policy.pace(), draft.random());
    if let Some(guard) = draft.guard_mut(scope) {
        guard.check = None;
        guard.breaker.probe_expired(now, &pace, random);
    }
}

/// The same wait again, doubled.
pub(super) fn probe_failed(draft: &mut Draft<'_>, scope: &Scope) {
    let (now, pace, random) = (draft.now(), draft.record().policy.pace(), draft.random());
    if let Some(guard) = draft.guard_mut(scope) {
        guard.check = None;
        guard.breaker.probe_failed(now, &pace, random);
    }
}

/// A failure is fed to the breaker of its scope; the rig that brought it tells the people.
fn feed(
    draft: &mut Draft<'_>,
    scope: &Scope,
    failure: &Failure,
    was_probe: bool,
    rig: &RigId,
    sample: Option<&RigConfig>,
) {
    let (now, pace, random) = (draft.now(), draft.record().policy.pace(), draft.random());
    ensure(draft, scope, sample);
    let Some(guard) = draft.guard_mut(scope) else {
        return;
    };
    let moved = guard.breaker.failed(failure, was_probe, now, &pace, random);
    if moved == Moved::No {
        return;
    }
    guard.check = None;
    // A gateway that asks for patience needs no person.
    if moved == Moved::Tripped && failure.class != Class::RateLimited {
        guard.told_by = Some(rig.clone());
        tripped(draft, scope, failure, rig);
    }
}

fn tripped(draft: &mut Draft<'_>, scope: &Scope, failure: &Failure, rig: &RigId) {
    let guard = draft.record().guard(scope);
    let next = guard.and_then(|guard| match &guard.breaker.state {
        crate::BreakerState::Open { next_probe, .. } => Some(next_probe.at),
        crate::BreakerState::Closed | crate::BreakerState::HalfOpen { .. } => None,
    });
    let notice = Notice::Tripped {
        scope: scope.clone(),
        failure: failure.clone(),
        next_probe_at: next.unwrap_or_else(|| draft.now()),
    };
    draft.notify(rig.clone(), notice);
}

/// A breaker of its own for the scope; without a configuration to check it with there is none.
fn ensure(draft: &mut Draft<'_>, scope: &Scope, sample: Option<&RigConfig>) {
    let Some(sample) = sample else { return };
    if let Some(guard) = draft.guard_mut(scope) {
        guard.sample = sample.clone();
        return;
    }
    if draft.record().guards.len() >= GUARDS_MAX {
        make_room(draft);
    }
    draft.record_mut().guards.push(Guard {
        scope: scope.clone(),
        breaker: Breaker::default(),
        check: None,
        sample: sample.clone(),
        told_by: None,
    });
}

/// The oldest closed one leaves, else the oldest that nobody needs.
fn make_room(draft: &mut Draft<'_>) {
    let guards = &draft.record().guards;
    let closed = guards.iter().position(|guard| guard.breaker.is_closed());
    let unneeded = || {
        guards
            .iter()
            .position(|guard| !draft.is_needed(&guard.scope))
    };
    if let Some(at) = closed.or_else(unneeded) {
        draft.record_mut().guards.remove(at);
    }
}

/// The model of a dispatch has written.
pub(super) fn output(draft: &mut Draft<'_>, rig: &RigId, dispatch: &DispatchId) -> TownReply {
    let Some(berth) = draft.berth(rig, dispatch).cloned() else {
        return TownReply::Accepted;
    };
    if berth.output && berth.offline.is_none() {
        return TownReply::Accepted;
    }
    draft.change_berth(rig, dispatch, |berth| {
        berth.output = true;
        berth.offline = None;
    });
    let ticket = Ticket {
        rig: rig.clone(),
        dispatch: dispatch.clone(),
    };
    speak_for(draft, &ticket, &berth);
    TownReply::Accepted
}

/// Model output alone closes a breaker.
fn speak_for(draft: &mut Draft<'_>, ticket: &Ticket, berth: &Berth) {
    let (now, sample) = (draft.now(), berth.sample.as_ref());
    for scope in berth.scopes.all() {
        if matches!(scope, Scope::Gateway { .. }) {
            // Half of the outcomes count there, so that the good ones have to be counted too.
            ensure(draft, &scope, sample);
        }
        let Some(guard) = draft.guard_mut(&scope) else {
            continue;
        };
        let told_by = guard.told_by.clone();
        if guard.breaker.output(ticket, now) == Moved::Closed {
            guard.check = None;
            guard.told_by = None;
            closed(draft, &scope, told_by);
        }
    }
    forget_closed(draft);
}

/// Everyone who waited for the scope may go on.
fn closed(draft: &mut Draft<'_>, scope: &Scope, told_by: Option<RigId>) {
    if let Some(rig) = told_by {
        let scope = scope.clone();
        draft.notify(rig, Notice::Closed { scope });
    }
    let waiting: Vec<Ticket> = draft.waiting_offline(scope).collect();
    for Ticket { rig, dispatch } in waiting {
        // Its wait is over; one that finds no gateway all the same begins another.
        draft.change_berth(&rig, &dispatch, |berth| berth.offline = None);
        draft.effect(TownEffect::AnswerOffline { rig, dispatch });
    }
    // From here on they wait for a slot, in their old order.
    let has_waiters = |waiter: &super::Waiter| waiter.scope.as_ref() == Some(scope);
    if draft.record().waiters.iter().any(has_waiters) {
        for waiter in &mut draft.record_mut().waiters {
            if waiter.scope.as_ref() == Some(scope) {
                (waiter.scope, waiter.offer) = (None, None);
            }
        }
    }
}

/// Closed breakers with nothing to remember are as new.
fn forget_closed(draft: &mut Draft<'_>) {
    let now = draft.now();
    let is_new = |guard: &Guard| guard.check.is_none() && guard.breaker.is_as_new(now);
    if draft.record().guards.iter().any(is_new) {
        draft.record_mut().guards.retain(|guard| !is_new(guard));
    }
}

/// A session can not reach its gateway: the breaker opens at once, the session keeps its slot.
pub(super) fn offline(
    draft: &mut Draft<'_>,
    rig: &RigId,
    dispatch: &DispatchId,
    text: &str,
) -> TownReply {
    let Some(berth) = draft.berth(rig, dispatch).cloned() else {
        return TownReply::Accepted;
    };
    let until = Deadline::after(draft.now(), draft.record().policy.offline_ms);
    draft.change_berth(rig, dispatch, |berth| {
        berth.offline.get_or_insert(until);
    });
    let failure = Failure {
        offline: true,
        ..Failure::new(Class::Gateway, Stage::Turn, text)
    };
    let Some(scope) = berth.scopes.against(Class::Gateway) else {
        return TownReply::Accepted;
    };
    let ticket = Ticket {
        rig: rig.clone(),
        dispatch: dispatch.clone(),
    };
    let was_probe = is_probe(draft, &scope, &ticket);
    feed(
        draft,
        &scope,
        &failure,
        was_probe,
        rig,
        berth.sample.as_ref(),
    );
    TownReply::Accepted
}

/// A rig's own check is through. What speaks against a shared scope shuts it for all.
pub(super) fn checked(
    draft: &mut Draft<'_>,
    rig: &RigId,
    ask: &Ask,
    failure: Option<Failure>,
) -> TownReply {
    let against = failure
        .as_ref()
        .and_then(|failure| ask.scopes.against(failure.class));
    if let (Some(failure), Some(scope)) = (failure, against) {
        // One failed check shuts it at once; a second one that was under way says nothing new.
        let guard = draft.record().guard(&scope);
        if !guard.is_some_and(|guard| guard.breaker.is_open()) {
            feed(draft, &scope, &failure, true, rig, Some(&ask.config));
        }
    }
    admit::ask_check(draft, rig, &ask.scopes)
}

/// A check of ours is through: passing makes the breaker half-open, never closed.
pub(super) fn scope_checked(draft: &mut Draft<'_>, no: u64, failure: Option<Failure>) -> TownReply {
    let mut guards = draft.record().guards.iter();
    let found = guards.find(|guard| guard.check.is_some_and(|check| check.no == no));
    let Some(scope) = found.map(|guard| guard.scope.clone()) else {
        return TownReply::Accepted;
    };
    match failure {
        None => {
            if let Some(guard) = draft.guard_mut(&scope) {
                guard.check = None;
                guard.breaker.check_passed();
            }
        }
        Some(failure) if speaks_of(&scope, &failure) => {
            let (now, pace, random) = (draft.now(), draft.record().policy.pace(), draft.random());
            if let Some(guard) = draft.guard_mut(&scope) {
                guard.check = None;
                guard.breaker.failed(&failure, true, now, &pace, random);
            }
        }
        Some(_) => probe_failed(draft, &scope),
    }
    TownReply::Accepted
}

fn speaks_of(scope: &Scope, failure: &Failure) -> bool {
    use crate::Reach;
    matches!(
        (scope, failure.class.reach()),
        (Scope::Credential { .. }, Reach::Credential)
            | (Scope::Gateway { .. }, Reach::Gateway)
            | (Scope::Model { .. }, Reach::Model)
            | (Scope::Container, Reach::Container)
    )
}

/// A person's reset: look again, at once.
pub(super) fn reset(draft: &mut Draft<'_>, scopes: Option<&Scopes>) -> TownReply {
    let now = draft.now();
    let all = scopes.map(Scopes::all);
    let is_meant = |guard: &Guard| all.as_ref().is_none_or(|all| all.contains(&guard.scope));
    if draft.record().guards.iter().any(is_meant) {
        for guard in &mut draft.record_mut().guards {
            if is_meant(guard) {
                guard.check = None;
                guard.breaker.probe_now(now);
            }
        }
    }
    TownReply::Accepted
}
