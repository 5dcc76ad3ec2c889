//! Breakers over the wire: whom they hold, what a person's reset does, and what alone closes them.

use serde_json::{Value, json};
use wellhead::demo::sample::create_sample_repo;

use crate::{
    house::{House, send, text},
    stage::{Stage, TOKEN, types},
};

/// So long that no clock tries again in a test: only a person does.
const LONG_MS: i64 = 600_000;

/// The town's breaker of the credential.
fn credential(breakers: &Value) -> &Value {
    let found = breakers.as_array().unwrap().iter();
    let mut found = found.filter(|breaker| breaker["scope"]["kind"] == "credential");
    found.next().unwrap_or(&Value::Null)
}

/// Waits until the breaker is open for a further cooldown than before.
async fn until_open_again(
    stage: &Stage,
    path: &str,
    of: fn(&Value) -> &Value,
    before: &Value,
) -> Value {
    let is_later = |seen: &Value| {
        let at = |breaker: &Value| breaker["next_probe_at"].as_str().map(str::to_owned);
        at(of(seen)) > at(before)
    };
    let seen = stage.until(path, "open breaker after a reset", is_later);
    of(&seen.await).clone()
}

fn place(types: &[&str], kind: &str) -> usize {
    let last = types.iter().rposition(|one| *one == kind);
    last.unwrap_or_else(|| panic!("no {kind} in {types:?}"))
}

/// Every reset names its actor; the breaker closed after the probe's session had begun, and not by
/// the reset or the check.
async fn assert_closed_by_output(stage: &Stage, rig: &str, resets: usize) {
    let path = format!("/api/rigs/{rig}/events?limit=1000");
    let is_closed = |events: &Value| types(events).contains(&"breaker_closed");
    let events = stage.until(&path, "closed breaker", is_closed).await;
    let made = events.as_array().unwrap().iter();
    let made: Vec<_> = made
        .filter(|event| event["event_type"] == "breaker_reset")
        .collect();
    assert_eq!(made.len(), resets, "{events:#}");
    assert!(made.iter().all(|event| event["metadata"]["by"] == "admin"));
    let types = types(&events);
    assert!(
        place(&types, "breaker_reset") < place(&types, "dispatched"),
        "{types:?}"
    );
    assert!(
        place(&types, "agent_spawned") < place(&types, "breaker_closed"),
        "{types:?}"
    );
    let closed = types.iter().filter(|one| **one == "breaker_closed");
    assert_eq!(closed.count(), 1, "{types:?}");
}

/// C6, for a breaker that rigs share.
#[tokio::test]
async fn a_reset_looks_again_and_a_shared_breaker_closes_by_output_alone() {
    let stage = Stage::new().await;
    let town = format!("/api/towns/{}", stage.town);
    let policy = json!({"cooldown_ms": LONG_MS, "cooldown_max_ms": LONG_MS});
    stage.put(&format!("{town}/policy"), &policy).await;
    let rig = stage.rig("an-old-token").await;
    let base = format!("/api/rigs/{rig}");
    let bead = stage.sling(&rig, "[[fake: sleep 3000]]").await;
    let breakers = format!("{town}/breakers");
    let open = |seen: &Value| credential(seen)["state"] == "open";
    let opened = stage.until(&breakers, "open breaker", open).await;
    let opened = credential(&opened);
    assert_eq!(
        (
            &opened["reason"]["class"],
            &opened["probe"],
            &opened["check"]
        ),
        (&json!("credentials"), &Value::Null, &Value::Null)
    );
    assert!(text(&opened["reason"]["fix"]).contains("kilocode_token"));
    assert!(text(&opened["name"]).starts_with("credential "));
    assert!(opened["opened_at"].is_string() && opened["next_probe_at"].is_string());

    // The rig's own one is closed; it is held by the shared one, and says so.
    let is_held = |seen: &Value| seen["hold"]["refusal"]["is"] == "breaker";
    let own = stage
        .until(&format!("{base}/breaker"), "hold", is_held)
        .await;
    assert_eq!(own["state"], "closed");
    let scopes = own["scopes"].as_array().unwrap();
    let kinds: Vec<_> = scopes
        .iter()
        .map(|one| text(&one["scope"]["kind"]))
        .collect();
    assert_eq!(kinds, ["credential", "gateway", "model", "container"]);
    let states: Vec<_> = scopes.iter().map(|one| text(&one["state"])).collect();
    assert_eq!(states, ["open", "closed", "closed", "closed"]);
    assert_eq!(scopes[0]["scope"], opened["scope"]);
    let waits = stage.get(&bead).await;
    let why = stage.get(&format!("{bead}/explain")).await;
    assert_eq!(
        (&waits["waiting_on"], &waits["dispatches"]),
        (&json!("breaker"), &json!(0))
    );
    assert_eq!(waits["next_attempt_at"], why["at"]);
    assert!(
        text(&why["cause"]).contains("the breaker of credential"),
        "{why}"
    );
    let shown = stage.get("/api/snapshot").await;
    assert_eq!(
        credential(&shown["towns"][0]["breakers"])["waiting"],
        json!(1)
    );
    assert_eq!(shown["rigs"][0]["hold"], own["hold"]);

    // As long as the cause is there it opens again, whoever asks.
    let reset = stage
        .order(&format!("{base}/breaker/reset"), &json!({}))
        .await;
    assert_eq!(reset["state"], "closed", "the answer shows the rig's own");
    let again = until_open_again(&stage, &breakers, credential, opened).await;
    let all = stage.order(&format!("{breakers}/reset"), &json!({})).await;
    assert_ne!(credential(&all)["state"], "closed");
    let again = until_open_again(&stage, &breakers, credential, &again).await;
    assert_eq!(again["opened_at"], opened["opened_at"], "it never closed");
    assert_eq!(stage.get(&bead).await["dispatches"], json!(0));
    let escalations = stage.get("/api/escalations").await;
    assert_eq!(escalations.as_array().unwrap().len(), 1, "{escalations:#}");
    assert!(text(&escalations[0]["cause"]).starts_with("scope:credential"));

    stage.gateway.set_token("an-old-token".to_owned().into());
    stage
        .order(&format!("{base}/breaker/reset"), &json!({}))
        .await;
    let is_probed = |seen: &Value| credential(seen)["probe"]["rig_id"] == json!(rig);
    let probed = stage.until(&breakers, "probe", is_probed).await;
    assert_eq!(credential(&probed)["state"], "half_open");
    stage.until_closed(&bead).await;
    assert_closed_by_output(&stage, &rig, 2).await;
    let open = stage.get("/api/escalations").await;
    assert_eq!(open, json!([]), "its cause is gone");
    let own = stage.get(&format!("{base}/breaker")).await;
    assert_eq!(
        (&own["hold"], &own["scopes"][0]["state"]),
        (&Value::Null, &json!("closed"))
    );
    stage.end().await;
}

/// C6, for the rig's own breaker.
#[tokio::test]
async fn a_reset_looks_again_and_a_rigs_own_breaker_closes_by_output_alone() {
    let stage = Stage::new().await;
    let later = stage.house.dir().join("later");
    let rig = stage.rig_on(TOKEN, &later).await;
    let base = format!("/api/rigs/{rig}");
    let policy = json!({
        "cooldown_ms": LONG_MS, "cooldown_max_ms": LONG_MS, "idle_grace_ms": 300,
        "end_grace_ms": 100,
    });
    stage.put(&format!("{base}/policy"), &policy).await;
    let bead = stage.sling(&rig, "[[fake: ok]]").await;
    let breaker = format!("{base}/breaker");
    let open = |seen: &Value| seen["state"] == "open";
    let opened = stage.until(&breaker, "open breaker", open).await;
    assert_eq!(opened["reason"]["class"], "git");
    let waits = stage.get(&bead).await;
    assert_eq!(
        (&waits["waiting_on"], &waits["next_attempt_at"]),
        (&json!("breaker"), &opened["next_probe_at"])
    );
    stage.order(&format!("{breaker}/reset"), &json!({})).await;
    until_open_again(&stage, &breaker, |own| own, &opened).await;
    assert_eq!(stage.get(&bead).await["dispatches"], json!(0));
    create_sample_repo(later).await.unwrap();
    stage.order(&format!("{breaker}/reset"), &json!({})).await;
    stage.until_closed(&bead).await;
    assert_closed_by_output(&stage, &rig, 2).await;
    let own = stage.get(&breaker).await;
    assert_eq!(
        (&own["state"], &own["trips"]),
        (&json!("closed"), &json!(0))
    );
    stage.end().await;
}

#[tokio::test]
async fn without_a_configuration_a_rig_depends_on_nothing() {
    let house = House::new().await;
    let breaker = house.get("/api/rigs/rig-1/breaker").await.data(200);
    assert_eq!(
        (&breaker["scopes"], &breaker["hold"]),
        (&json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn a_towns_policy_is_read_replaced_and_checked() {
    let house = House::new().await;
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let base = format!("/api/towns/{}", text(&town.data(201)["id"]));
    let path = format!("{base}/policy");
    let put = |body: Value| send(house.admin("PUT", &path).json(&body));
    let default = house.get(&path).await.data(200);
    assert_eq!(
        (&default["slots_max"], &default["day"]),
        (&json!(8), &json!({"usd": null, "tokens": null}))
    );
    let changed = json!({"slots_max": 3, "day": {"usd": 2.5}, "unknown": 1});
    let changed = put(changed).await.data(200);
    assert_eq!(
        (&changed["slots_max"], &changed["day"]["usd"]),
        (&json!(3), &json!(2.5))
    );
    assert_eq!(changed["offline_ms"], default["offline_ms"]);
    let bad = json!({
        "slots_max": 0, "cooldown_ms": "x", "day": {"usd": -1, "tokens": "5"}, "offer_ms": 1,
    });
    let refused = put(bad).await;
    refused.error(400);
    let mut issues = refused.issues();
    issues.sort();
    assert_eq!(
        issues,
        [
            "cooldown_ms",
            "day.tokens",
            "day.usd",
            "offer_ms",
            "slots_max"
        ]
    );
    // The limit of the day alone.
    let budget = send(
        house
            .admin("PUT", &format!("{base}/budget"))
            .json(&json!({"day": {"tokens": 9}})),
    );
    let budget = budget.await.data(200);
    assert_eq!(budget["day"], json!({"usd": null, "tokens": 9}));
    let now = house.get(&path).await.data(200);
    assert_eq!(
        (&now["slots_max"], &now["day"]),
        (&json!(3), &budget["day"])
    );
    let house = house.restarted().await;
    assert_eq!(house.get(&path).await.data(200), now);
}
