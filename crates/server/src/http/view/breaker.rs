//! Breakers on the wire: a rig's own one, and those of scopes that rigs share.

use rig::{
    Breaker, BreakerState, Failure, Scope,
    town::{Guard, Ticket, Town, Waiter},
};
use serde_json::{Value, json};

use super::time::text;

/// A rig's own breaker: where it stands, why, and when it is tried next.
pub(crate) fn breaker(breaker: &Breaker) -> Value {
    let mut value = state(breaker);
    let probe = breaker.probe().map(|(dispatch, _)| dispatch.to_string());
    value["probe_dispatch_id"] = json!(probe);
    value
}

fn state<P: Clone + PartialEq>(breaker: &Breaker<P>) -> Value {
    let (word, opened_at, next_probe_at) = match &breaker.state {
        BreakerState::Closed => ("closed", None, None),
        BreakerState::Open {
            opened_at,
            next_probe,
            ..
        } => ("open", Some(*opened_at), Some(next_probe.at)),
        BreakerState::HalfOpen { opened_at, .. } => ("half_open", Some(*opened_at), None),
    };
    json!({
        "state": word,
        "reason": breaker.failure().map(reason),
        "opened_at": opened_at.map(text),
        "next_probe_at": next_probe_at.map(text),
        "trips": breaker.trips,
    })
}

fn reason(failure: &Failure) -> Value {
    json!({
        "class": failure.class,
        "phase": failure.stage,
        "text": failure.text,
        "fix": failure.class.fix(),
    })
}

/// The breaker of a shared scope; one that is as new is not kept and shows as closed.
pub(crate) fn shared(scope: &Scope, guard: Option<&Guard>) -> Value {
    let new = Breaker::<Ticket>::default();
    let breaker = guard.map_or(&new, |guard| &guard.breaker);
    let mut value = state(breaker);
    value["scope"] = json!(scope);
    value["name"] = json!(scope.to_string());
    value["probe"] = breaker.probe().map_or(Value::Null, |(ticket, by)| {
        json!({
            "rig_id": ticket.rig,
            "dispatch_id": ticket.dispatch.to_string(),
            "until": text(by.at),
        })
    });
    let check = guard.and_then(|guard| guard.check);
    value["check"] = check.map_or(
        Value::Null,
        |check| json!({ "until": text(check.deadline.at) }),
    );
    value
}

/// The breakers that a town keeps, the opened ones first.
pub(crate) fn guards<'t>(
    town: &'t Town,
    is_wanted: impl Fn(&Guard) -> bool + 't,
) -> impl Iterator<Item = Value> + 't {
    let mut guards: Vec<&Guard> = town.record().guards.iter().collect();
    guards.sort_by_key(|guard| guard.breaker.is_closed());
    let wanted = guards.into_iter().filter(move |guard| is_wanted(guard));
    wanted.map(|guard| {
        let waits = |waiter: &&Waiter| waiter.scope.as_ref() == Some(&guard.scope);
        let mut value = shared(&guard.scope, Some(guard));
        value["waiting"] = json!(town.record().waiters.iter().filter(waits).count());
        value
    })
}
