//! Escalations over the wire: seen by a person, resolved by one, and what that silences.

use serde_json::{Value, json};

use crate::{
    house::{House, jwt, send, text},
    stage::types,
};

/// As an agent asks for a person; the same words of it again are counted.
async fn escalation(house: &House, rig: &str) -> String {
    let body = json!({"title": "help", "body": "now"});
    let path = format!("/api/rigs/{rig}/escalations");
    let request = house.with_token(&jwt("agent-1", rig), "POST", &path);
    let made = send(request.json(&body)).await.data(201);
    text(&made["id"]).to_owned()
}

async fn needs_you(house: &House) -> Value {
    house.get("/api/snapshot").await.data(200)["needs_you"].clone()
}

#[tokio::test]
async fn what_was_seen_is_silent_and_still_open_also_after_a_restart() {
    let house = House::new().await;
    escalation(&house, "rig-1").await;
    let id = escalation(&house, "rig-2").await;
    assert_eq!(
        id,
        escalation(&house, "rig-2").await,
        "the same again is counted"
    );
    let list = house.get("/api/escalations").await.data(200);
    let fresh = &list[0];
    assert_eq!(
        (&fresh["id"], &fresh["rig_id"], &fresh["count"]),
        (&json!(id), &json!("rig-2"), &json!(2))
    );
    assert_eq!(
        (&fresh["acknowledged"], &fresh["told_again"]),
        (&Value::Null, &json!(0))
    );
    assert!(fresh["next_told_at"].is_string(), "{fresh}");
    assert_eq!(fresh["cause"], Value::Null, "a caller names none");
    assert_eq!(needs_you(&house).await, json!(2));

    let path = format!("/api/escalations/{id}/ack");
    let seen = house.post(&path, &json!({})).await.data(200);
    assert_eq!(seen["acknowledged"]["by"], "admin");
    assert!(seen["acknowledged"]["at"].is_string());
    assert_eq!(
        (&seen["status"], &seen["next_told_at"]),
        (&json!("open"), &Value::Null)
    );
    assert_eq!(
        house.post(&path, &json!({})).await.data(200),
        seen,
        "the first one stays"
    );
    assert_eq!(needs_you(&house).await, json!(1));
    let events = house.get("/api/rigs/rig-2/events").await.data(200);
    let told = types(&events)
        .iter()
        .filter(|one| **one == "acknowledged")
        .count();
    assert_eq!(told, 1, "{events:#}");

    let house = house.restarted().await;
    let list = house.get("/api/escalations").await.data(200);
    assert_eq!(list[0], seen);
    let shown = house.get("/api/snapshot").await.data(200);
    assert_eq!(shown["rigs"][1]["escalations"][0], seen);
    assert_eq!(
        (&shown["needs_you"], &shown["rigs"][1]["needs_you"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test]
async fn what_was_resolved_is_closed_with_the_name_of_who_did_it() {
    let house = House::new().await;
    let id = escalation(&house, "rig-1").await;
    let path = format!("/api/escalations/{id}/resolve");
    let keyed = || send(house.admin("POST", &path).header("idempotency-key", "k"));
    let resolved = keyed().await.data(200);
    assert_eq!(
        (&resolved["status"], &resolved["result"]),
        (&json!("closed"), &json!("by_hand"))
    );
    assert_eq!(
        (&resolved["acknowledged"]["by"], &resolved["next_told_at"]),
        (&json!("admin"), &Value::Null)
    );
    assert_eq!(keyed().await.data(200), resolved);
    assert_eq!(house.post(&path, &json!({})).await.data(200), resolved);
    let ack = format!("/api/escalations/{id}/ack");
    assert_eq!(house.post(&ack, &json!({})).await.data(200), resolved);
    assert_eq!(house.get("/api/escalations").await.data(200), json!([]));
    assert_eq!(needs_you(&house).await, json!(0));
    let events = house.get("/api/rigs/rig-1/events").await.data(200);
    let (seen, closed) = (
        &events[events.as_array().unwrap().len() - 2],
        &types(&events),
    );
    assert_eq!(seen["metadata"]["by"], "admin");
    assert_eq!(closed[closed.len() - 2..], ["acknowledged", "closed"]);
}

#[tokio::test]
async fn only_an_escalation_is_seen_or_resolved_and_a_failed_one_stays() {
    let house = House::new().await;
    let work = text(&house.bead("rig-1", "x").await["id"]).to_owned();
    for id in [work.as_str(), "nope", "no%20id"] {
        for verb in ["ack", "resolve"] {
            let answer = house
                .post(&format!("/api/escalations/{id}/{verb}"), &json!({}))
                .await;
            assert_eq!(answer.error(404), "Escalation not found", "{id}");
        }
    }
    let id = escalation(&house, "rig-1").await;
    let cancel = format!("/api/rigs/rig-1/beads/{id}/cancel");
    house.post(&cancel, &json!({})).await.data(200);
    let path = format!("/api/escalations/{id}/resolve");
    house.post(&path, &json!({})).await.error(409);
    send(house.admin("POST", &path).body("nope"))
        .await
        .error(400);
}
