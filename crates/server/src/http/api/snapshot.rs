//! Everything that the status page shows, at once, and the wait for the next change.
//!
//! Owns what a snapshot holds and its bounds. Subscribes before it looks, so that no change falls
//! between two snapshots.

use std::time::Duration;

use actix_web::HttpResponse;
use rig::{
    Bead, BeadType, Phase, Refused, Rig, RigId, Timestamp,
    town::{Guard, Town},
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{
    answer,
    ctx::Ctx,
    failure::Failure,
    state::State,
    view::{self, Frame},
};

use super::beads::explained;

/// The longest wait for a change, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;
/// Unfinished, failed and reviewed beads of one rig; none of them may disappear before that.
const OPEN_MAX: usize = 1_000;
/// Closed beads of one rig, newest first.
const CLOSED_MAX: usize = 50;

/// `GET /api/snapshot`, `GET /api/snapshot?after=<version>&wait_ms=25000`.
pub(crate) async fn snapshot(ctx: Ctx) -> Result<HttpResponse, Failure> {
    let mut query = ctx.query();
    let after = query.text("after");
    let wait_ms = query.number("wait_ms").unwrap_or(0).min(WAIT_MAX_MS);
    query.finish()?;
    let mut changes = ctx.runtime().changes();
    if let Some(after) = after {
        wait(
            &ctx.state,
            &mut changes,
            &after,
            Duration::from_millis(wait_ms),
        )
        .await?;
    }
    let version = version(&ctx.state, *changes.borrow_and_update());
    let mut towns = Vec::new();
    for row in ctx.directory().all_towns().await? {
        let town = ctx.runtime().town(&row.id)?;
        towns.push(town.look(move |town, now| of_town(&row, town, now)).await?);
    }
    let mut rigs = Vec::new();
    for id in ctx.runtime().rig_ids().await? {
        let shown = id.clone();
        let rig = ctx.runtime().rig(&id)?;
        match rig.look(move |rig, now| of_rig(rig, &shown, now)).await {
            // Only its tombstone is left.
            Err(runtime::Error::Refused(Refused::Deleted)) => {}
            rig => rigs.push(rig?),
        }
    }
    let needs_you: u64 = rigs
        .iter()
        .filter_map(|rig| rig["needs_you"].as_u64())
        .sum();
    let server_time = view::time(Timestamp(jiff::Timestamp::now().as_millisecond()));
    Ok(answer::ok(json!({
        "version": version,
        "server_time": server_time,
        "needs_you": needs_you,
        "towns": towns,
        "rigs": rigs,
    })))
}

/// Opaque to clients. A version of another life of the server is never the current one.
fn version(state: &State, number: u64) -> String {
    format!("{}-{number}", state.life)
}

/// Until something has changed since `after`, the time is over, or the server stops.
async fn wait(
    state: &State,
    changes: &mut watch::Receiver<u64>,
    after: &str,
    time: Duration,
) -> Result<(), Failure> {
    let is_current = |number: &u64| version(state, *number) == after;
    if time.is_zero() || !is_current(&changes.borrow()) {
        return Ok(());
    }
    let Ok(_permit) = state.waits.try_acquire() else {
        let sentence = "too many clients wait for changes; ask without wait_ms, or later";
        return Err(Failure::unavailable("overloaded", sentence, 2));
    };
    tokio::select! {
        _ = changes.wait_for(|number| !is_current(number)) => {}
        () = tokio::time::sleep(time) => {}
        () = state.stopping.cancelled() => {
            return Err(Failure::unavailable("draining", "the server is stopping", 2));
        }
    }
    Ok(())
}

/// A town, and of its breakers those that are not closed.
fn of_town(row: &runtime::Town, town: &Town, now: Timestamp) -> Value {
    let is_shut = |guard: &Guard| !guard.breaker.is_closed();
    let mut shown = view::traffic(town);
    shown["id"] = json!(row.id);
    shown["name"] = json!(row.name);
    shown["breakers"] = view::guards(town, is_shut).collect();
    shown["budget"] = view::town_budget(town, now);
    shown
}

fn of_rig(rig: &Rig, id: &RigId, now: Timestamp) -> Value {
    let frame = Frame::of(rig, now);
    let is_shown = |bead: &&Bead| bead.kind != BeadType::Escalation;
    let (mut open, mut closed) = (0_usize, 0_usize);
    let fits = |bead: &&Bead| {
        let (count, max) = match bead.phase {
            Phase::Closed { .. } => (&mut closed, CLOSED_MAX),
            _ => (&mut open, OPEN_MAX),
        };
        *count += 1;
        *count <= max
    };
    let beads: Vec<Value> = rig
        .beads()
        .rev()
        .filter(is_shown)
        .filter(fits)
        .map(|bead| {
            let mut value = view::bead(bead, frame);
            value["explain"] = explained(rig, bead, now);
            value
        })
        .collect();
    let mut escalations: Vec<&Bead> = rig.open_escalations().collect();
    escalations.reverse();
    let unseen = |bead: &&&Bead| {
        let alert = bead.alert.as_ref();
        alert.is_none_or(|alert| alert.acknowledged.is_none())
    };
    let needs_you = escalations.iter().filter(unseen).count() + rig.open_reviews().count();
    let record = rig.record();
    let config = record.config.as_ref();
    json!({
        "id": id,
        "name": config.map_or(id.as_str(), |config| config.name.as_str()),
        "town_id": config.map(|config| &config.town_id),
        "is_configured": config.is_some(),
        "breaker": view::breaker(&record.breaker),
        "paused": view::pause(record.pause.as_ref()),
        "hold": view::hold(record.hold.as_ref()),
        "budget": view::budget(record, now),
        "agents": rig.agents().map(|agent| view::agent(rig, agent)).collect::<Vec<_>>(),
        "beads": beads,
        "beads_total": open + closed,
        "escalations": escalations.iter().map(|bead| view::escalation(id, bead, frame)).collect::<Vec<_>>(),
        "needs_you": needs_you,
    })
}
