//! The one decision of a town: a dispatch is granted, or refused until then.
//!
//! Owns the order of the questions: pause, budget, breakers, slots. A refusal costs its bead
//! nothing, and whoever was refused waits in turn.

use super::{Ask, Ticket, TownReply, Waiter, draft::Draft};
use crate::{BreakerState, Class, Deadline, Refusal, RigId, Scope, Scopes, Timestamp};

/// Whoever finds no slot asks again after this long; mostly it is offered one before.
const FULL_MS: i64 = 30 * 1_000;
/// A pause ends with an offer; this is for the case that the offer finds nobody.
const PAUSED_MS: i64 = 60 * 60 * 1_000;

/// A rig that has not asked again so long after its time has nothing to run any more.
const LAPSE_MS: i64 = 10 * 60 * 1_000;

/// No wait is longer: rigs ask again after a day.
const WAIT_MAX_MS: i64 = 24 * 60 * 60 * 1_000;

/// Why, and when to ask again at the latest.
pub(super) type Refused = (Refusal, Timestamp);

/// Grants the dispatch, or says why not and lets its rig wait.
pub(super) fn admit(draft: &mut Draft<'_>, ticket: &Ticket, ask: &Ask) -> Result<(), Refused> {
    if let Some(refused) = of_town(draft) {
        return Err(wait(draft, &ticket.rig, None, ask.prompts, refused));
    }
    if let Some((scope, refused)) = of_scopes(draft, &ask.scopes) {
        return Err(wait(draft, &ticket.rig, Some(scope), ask.prompts, refused));
    }
    if !has_slot_for(draft, &ticket.rig) {
        let slots = draft.record().policy.slots_max;
        let refused = (Refusal::Full { slots }, draft.now().plus_ms(FULL_MS));
        return Err(wait(draft, &ticket.rig, None, ask.prompts, refused));
    }
    begin_probes(draft, ticket, &ask.scopes);
    leave(draft, &ticket.rig);
    Ok(())
}

/// Whether a rig may be checked now: not while the answer would help nobody.
pub(super) fn ask_check(draft: &mut Draft<'_>, rig: &RigId, scopes: &Scopes) -> TownReply {
    let refused = match of_town(draft) {
        Some(refused) => Some((None, refused)),
        None => of_scopes(draft, scopes).map(|(scope, refused)| (Some(scope), refused)),
    };
    let held = refused.map(|(scope, refused)| wait(draft, rig, scope, u32::MAX, refused));
    if held.is_none() {
        prolong(draft, rig);
    }
    TownReply::Held(held)
}

/// What holds for the whole town.
fn of_town(draft: &Draft<'_>) -> Option<Refused> {
    let (record, now) = (draft.record(), draft.now());
    if let Some(pause) = &record.pause {
        let by = pause.by.clone();
        return Some((Refusal::Paused { by }, now.plus_ms(PAUSED_MS)));
    }
    let limit = record.policy.day;
    limit
        .is_reached(&record.spent.on(now))
        .then(|| (Refusal::Budget { limit }, record.spent.day_ends(now)))
}

/// The first scope that does not let it pass.
fn of_scopes(draft: &Draft<'_>, scopes: &Scopes) -> Option<(Scope, Refused)> {
    let mut scopes = scopes.all().into_iter();
    scopes.find_map(|scope| of_scope(draft, &scope).map(|refused| (scope, refused)))
}

/// What the breaker of one scope says.
pub(super) fn of_scope(draft: &Draft<'_>, scope: &Scope) -> Option<Refused> {
    let (record, now) = (draft.record(), draft.now());
    let guard = record.guard(scope)?;
    let check_ms = record.policy.check_ms;
    match &guard.breaker.state {
        BreakerState::Closed | BreakerState::HalfOpen { probe: None, .. } => None,
        BreakerState::Open {
            failure,
            next_probe,
            ..
        } => {
            // Its time, and that of the check which follows; it is offered before, if all is well.
            let until = next_probe.rebased(now).at.max(now).plus_ms(check_ms);
            let (class, text) = (failure.class, failure.text.clone());
            let scope = scope.clone();
            Some((Refusal::Breaker { scope, class, text }, until))
        }
        BreakerState::HalfOpen {
            failure,
            probe: Some((_, by)),
            ..
        } => {
            let (scope, class) = (scope.clone(), failure.class);
            let until = by.rebased(now).at.max(now.plus_ms(1_000));
            Some((Refusal::Probing { scope, class }, until))
        }
    }
}

/// A slot that is not kept for another rig.
fn has_slot_for(draft: &Draft<'_>, rig: &RigId) -> bool {
    let record = draft.record();
    let offered = record.waiters.iter();
    let offered = offered.filter(|w| w.scope.is_none() && w.offer.is_some() && w.rig != *rig);
    let used = draft.taken().count() + offered.count();
    used < usize::try_from(record.policy.slots_max).unwrap_or(usize::MAX)
}

/// A dispatch that passes half-open breakers is their probe.
fn begin_probes(draft: &mut Draft<'_>, ticket: &Ticket, scopes: &Scopes) {
    let (now, pace) = (draft.now(), draft.record().policy.pace());
    for scope in scopes.all() {
        if let Some(guard) = draft.guard_mut(&scope) {
            guard.breaker.begin_probe(ticket.clone(), now, &pace);
        }
    }
}

/// A rig waits once, and keeps its place as long as it waits for the same.
fn wait(
    draft: &mut Draft<'_>,
    rig: &RigId,
    scope: Option<Scope>,
    prompts: u32,
    refused: Refused,
) -> Refused {
    let now = draft.now();
    // It asks again then, if it still wants to.
    let wait_ms = refused.1.since_ms(now).clamp(0, WAIT_MAX_MS);
    let lapse = Deadline::after(now, wait_ms.saturating_add(LAPSE_MS));
    let record = draft.record_mut();
    let known = record.waiters.iter_mut().find(|waiter| waiter.rig == *rig);
    if let Some(waiter) = known.filter(|waiter| waiter.scope == scope) {
        waiter.prompts = waiter.prompts.min(prompts);
        (waiter.offer, waiter.lapse) = (None, lapse);
        return refused;
    }
    record.waiters.retain(|waiter| waiter.rig != *rig);
    record.waiter_no += 1;
    let no = record.waiter_no;
    let rig = rig.clone();
    record.waiters.push(Waiter {
        rig,
        no,
        scope,
        prompts,
        offer: None,
        lapse,
    });
    refused
}

fn leave(draft: &mut Draft<'_>, rig: &RigId) {
    if draft.record().waiters.iter().any(|w| w.rig == *rig) {
        let waiters = &mut draft.record_mut().waiters;
        waiters.retain(|waiter| waiter.rig != *rig);
    }
}

/// The offer to a rig that is being checked stands until the check is through.
fn prolong(draft: &mut Draft<'_>, rig: &RigId) {
    let now = draft.now();
    let mut waiters = draft.record().waiters.iter();
    if waiters.any(|waiter| waiter.rig == *rig && waiter.offer.is_some()) {
        for waiter in &mut draft.record_mut().waiters {
            if waiter.rig == *rig {
                waiter.offer = waiter.offer.map(|offer| offer.renewed(now));
            }
        }
    }
}

/// Whether a scope that was shut for this class is asked before the first dispatch passes. A
/// gateway that named its pause needs no question.
pub(super) fn needs_check(class: Class) -> bool {
    class != Class::RateLimited
}
