//! What has become free is offered in turn: checks are made when their time has come, half-open
//! breakers get their probe, freed slots their next rig.
//!
//! Owns the one function that is asked at the end of every step, and what the alarm uses up. It
//! offers and never grants: that is `admit`'s.

use super::{
    Check, Guard, Ticket, TownEffect, TownReply, Waiter, admit::needs_check, draft::Draft, guard,
    spend,
};
use crate::{BreakerState, Class, Deadline, Failure, RigId, Scope, Stage};

/// Asked at the end of every step.
pub(super) fn drive(draft: &mut Draft<'_>) {
    let shut = draft.record().guards.iter();
    let shut = shut.filter(|guard| !guard.breaker.is_closed());
    let shut: Vec<Scope> = shut.map(|guard| guard.scope.clone()).collect();
    for scope in shut {
        check_when_due(draft, &scope);
        offer_probe(draft, &scope);
    }
    offer_slots(draft);
}

/// An open breaker whose cooldown is over is checked, if anybody waits for it.
fn check_when_due(draft: &mut Draft<'_>, scope: &Scope) {
    let now = draft.now();
    let Some(guard) = draft.record().guard(scope) else {
        return;
    };
    let class = match &guard.breaker.state {
        BreakerState::Open {
            failure,
            next_probe,
            ..
        } if guard.check.is_none() && next_probe.is_due(now) => failure.class,
        _ => return,
    };
    if !draft.is_needed(scope) {
        return;
    }
    if !needs_check(class) {
        if let Some(guard) = draft.guard_mut(scope) {
            guard.breaker.check_passed();
        }
        return;
    }
    let record = draft.record_mut();
    record.check_no += 1;
    let no = record.check_no;
    let deadline = Deadline::after(now, record.policy.check_ms);
    let Some(guard) = draft.guard_mut(scope) else {
        return;
    };
    guard.check = Some(Check { no, deadline });
    let (scope, config) = (guard.scope.clone(), guard.sample.clone());
    draft.effect(TownEffect::CheckScope { no, scope, config });
}

/// A half-open breaker's probe: a session that waits offline already, else the rig whose bead has
/// cost least.
fn offer_probe(draft: &mut Draft<'_>, scope: &Scope) {
    let is_free = draft.record().guard(scope).is_some_and(|guard| {
        matches!(
            guard.breaker.state,
            BreakerState::HalfOpen { probe: None, .. }
        )
    });
    if !is_free {
        return;
    }
    let offline = match scope {
        Scope::Gateway { .. } => draft.waiting_offline(scope).next(),
        Scope::Credential { .. } | Scope::Model { .. } | Scope::Container => None,
    };
    if let Some(ticket) = offline {
        let (now, pace) = (draft.now(), draft.record().policy.pace());
        if let Some(guard) = draft.guard_mut(scope) {
            guard.breaker.begin_probe(ticket.clone(), now, &pace);
        }
        let Ticket { rig, dispatch } = ticket;
        return draft.effect(TownEffect::AnswerOffline { rig, dispatch });
    }
    if draft.record().pause.is_some() {
        return;
    }
    let waits = |waiter: &&Waiter| waiter.scope.as_ref() == Some(scope);
    let mut waiters = draft.record().waiters.iter().filter(waits);
    if waiters.clone().any(|waiter| waiter.offer.is_some()) {
        return;
    }
    let Some(no) = waiters
        .by_ref()
        .min_by_key(|waiter| (waiter.prompts, waiter.no))
        .map(|waiter| waiter.no)
    else {
        return;
    };
    let policy = &draft.record().policy;
    // It may have to check its repository first.
    let offer_ms = policy.offer_ms.saturating_add(policy.check_ms);
    offer(draft, no, offer_ms);
}

/// Freed slots are offered to waiting rigs in turn, as many as there are.
fn offer_slots(draft: &mut Draft<'_>) {
    let record = draft.record();
    if record.pause.is_some() || record.policy.day.is_reached(&record.spent.on(draft.now())) {
        return;
    }
    let waits = |waiter: &&Waiter| waiter.scope.is_none();
    let waiting = record.waiters.iter().filter(waits);
    let offered = waiting.clone().filter(|waiter| waiter.offer.is_some());
    let used = offered.count() + draft.taken().count();
    let slots = usize::try_from(record.policy.slots_max).unwrap_or(usize::MAX);
    let mut next: Vec<u64> = waiting
        .filter(|waiter| waiter.offer.is_none())
        .map(|waiter| waiter.no)
        .collect();
    next.sort_unstable();
    next.truncate(slots.saturating_sub(used));
    let offer_ms = record.policy.offer_ms;
    for no in next {
        offer(draft, no, offer_ms);
    }
}

fn offer(draft: &mut Draft<'_>, no: u64, offer_ms: i64) {
    let now = draft.now();
    let mut waiters = draft.record_mut().waiters.iter_mut();
    let Some(waiter) = waiters.find(|waiter| waiter.no == no) else {
        return;
    };
    waiter.offer = Some(Deadline::after(now, offer_ms));
    let rig = waiter.rig.clone();
    draft.effect(TownEffect::Offer { rig });
}

/// The town's alarm: uses up every deadline that is due.
pub(super) fn alarm(draft: &mut Draft<'_>) -> TownReply {
    let now = draft.now();
    rebase(draft);
    draft.record_mut().alarmed_at = Some(now);
    expire_guards(draft);
    // Who does not take an offer has nothing to run now; it asks again by itself.
    let is_over = |waiter: &Waiter| {
        let offer = waiter.offer.is_some_and(|offer| offer.is_due(now));
        offer || waiter.lapse.is_due(now)
    };
    draft.record_mut().waiters.retain(|waiter| !is_over(waiter));
    expire_offline(draft);
    spend::new_day(draft);
    TownReply::Accepted
}

/// Checks without an answer, and probes without output.
fn expire_guards(draft: &mut Draft<'_>) {
    let now = draft.now();
    let is_over = |guard: &&Guard| {
        guard.check.is_some_and(|check| check.deadline.is_due(now))
            || guard.breaker.probe().is_some_and(|(_, by)| by.is_due(now))
    };
    let over = draft.record().guards.iter().filter(is_over);
    let over: Vec<Scope> = over.map(|guard| guard.scope.clone()).collect();
    for scope in over {
        guard::expired(draft, &scope);
    }
}

/// A wait for a gateway that lasts too long is ended: others need the slot.
fn expire_offline(draft: &mut Draft<'_>) {
    let now = draft.now();
    let is_over = |berth: &super::Berth| {
        berth.waits_offline() && berth.offline.is_some_and(|until| until.is_due(now))
    };
    let over = draft.taken().filter(|(_, berth)| is_over(berth));
    let over: Vec<Ticket> = over
        .map(|(entry, _)| Ticket {
            rig: entry.rig.clone(),
            dispatch: entry.dispatch.clone(),
        })
        .collect();
    let minutes = draft.record().policy.offline_ms / 60_000;
    for ticket in over {
        let text = format!("its gateway could not be reached for {minutes} minutes");
        let failure = Failure {
            offline: true,
            ..Failure::new(Class::Gateway, Stage::Turn, text)
        };
        end_session(draft, ticket, failure);
    }
}

/// Tells the container to end a session, once.
pub(super) fn end_session(draft: &mut Draft<'_>, ticket: Ticket, failure: Failure) {
    let Ticket { rig, dispatch } = ticket;
    draft.change_berth(&rig, &dispatch, |berth| berth.ending = true);
    draft.effect(TownEffect::EndSession {
        rig,
        dispatch,
        failure,
    });
}

/// After a jump back no deadline is further away than its own length.
fn rebase(draft: &mut Draft<'_>) {
    let now = draft.now();
    move_deadlines(draft, |deadline| deadline.rebased(now), false);
    let record = draft.record_mut();
    record.alarmed_at = record.alarmed_at.map(|at| at.min(now));
    record.spent.rebase(now);
    for guard in &mut record.guards {
        guard.breaker.rebase(now);
    }
}

/// The clock jumped or the machine slept: what was under way has its whole time again, once.
pub(super) fn clock_jumped(draft: &mut Draft<'_>) -> TownReply {
    let now = draft.now();
    rebase(draft);
    move_deadlines(draft, |deadline| deadline.renewed(now), true);
    for guard in &mut draft.record_mut().guards {
        guard.breaker.renew_probe(now);
    }
    TownReply::Accepted
}

fn move_deadlines(draft: &mut Draft<'_>, to: impl Fn(Deadline) -> Deadline, offline: bool) {
    let record = draft.record_mut();
    for guard in &mut record.guards {
        if let Some(check) = &mut guard.check {
            check.deadline = to(check.deadline);
        }
    }
    for waiter in &mut record.waiters {
        waiter.offer = waiter.offer.map(&to);
        waiter.lapse = to(waiter.lapse);
    }
    let waits = |berth: &super::Berth| {
        berth
            .offline
            .is_some_and(|until| offline || to(until) != until)
    };
    let moved = draft.taken().filter(|(_, berth)| waits(berth));
    let moved: Vec<(RigId, crate::DispatchId)> = moved
        .map(|(entry, _)| (entry.rig.clone(), entry.dispatch.clone()))
        .collect();
    for (rig, dispatch) in moved {
        draft.change_berth(&rig, &dispatch, |berth| {
            berth.offline = berth.offline.map(&to);
        });
    }
}
