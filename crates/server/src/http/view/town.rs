//! Towns and rigs of the directory on the wire, and a town's state. Credentials never show.

use rig::{
    Pause, Timestamp,
    town::{Town as TownState, TownOrder, Waiter},
};
use runtime::{RigRow, Town};
use serde_json::{Value, json};

use super::{
    budget,
    control::{self, pause},
    time::text,
};

/// A town.
pub(crate) fn town(town: &Town) -> Value {
    json!({
        "id": town.id,
        "name": town.name,
        "owner_user_id": town.owner_user_id,
        "created_at": text(town.created_at),
        "updated_at": text(town.updated_at),
    })
}

/// A rig, and whether it is held back.
pub(crate) fn rig(row: &RigRow, held: Option<&Pause>) -> Value {
    json!({
        "id": row.id,
        "town_id": row.config.town_id,
        "name": row.config.name,
        "git_url": row.config.git_url,
        "default_branch": row.config.default_branch,
        "model": row.config.model,
        "review": row.config.review,
        "paused": control::pause(held),
        "created_at": text(row.created_at),
        "updated_at": text(row.updated_at),
    })
}

/// A town's slots, and who waits for what, in turn.
pub(crate) fn traffic(town: &TownState) -> Value {
    let record = town.record();
    let mut waiters: Vec<&Waiter> = record.waiters.iter().collect();
    waiters.sort_by_key(|waiter| waiter.no);
    json!({
        "paused": pause(record.pause.as_ref()),
        "orders": record.orders.iter().rev().map(order).collect::<Vec<_>>(),
        "slots": { "used": town.taken_count(), "max": record.policy.slots_max },
        "waiting": waiters.into_iter().map(waiter).collect::<Vec<_>>(),
    })
}

fn waiter(waiter: &Waiter) -> Value {
    json!({
        "rig_id": waiter.rig,
        "scope": waiter.scope,
        "offered_until": waiter.offer.map(|offer| text(offer.at)),
    })
}

/// A town's budget of the day.
pub(crate) fn town_budget(town: &TownState, now: Timestamp) -> Value {
    let record = town.record();
    budget::day(record.policy.day, &record.spent, now)
}

/// What a person ordered.
fn order(order: &TownOrder) -> Value {
    json!({ "at": text(order.at), "by": order.by, "what": order.what })
}
