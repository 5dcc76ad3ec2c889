//! Policy, breaker and escalations of a rig.

use serde_json::{Value, json};

use crate::house::{House, send, text};

#[tokio::test]
async fn a_policy_is_read_replaced_and_checked() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/policy";
    let put = |body: Value| send(house.admin("PUT", path).json(&body));
    let default = house.get(path).await.data(200);
    assert_eq!(default["attempts_max"], json!(5));
    let changed = put(json!({"attempts_max": 3, "unknown": 1}))
        .await
        .data(200);
    assert_eq!(changed["attempts_max"], json!(3));
    assert_eq!(changed["prompts_max"], default["prompts_max"]);
    assert_eq!(house.get(path).await.data(200), changed);
    let refused = put(json!({"attempts_max": 0, "lease_ms": "x", "backoff_ms": [5, 1]})).await;
    refused.error(400);
    let mut issues = refused.issues();
    issues.sort();
    assert_eq!(issues, ["attempts_max", "backoff_ms", "lease_ms"]);
    assert_eq!(
        house.get(path).await.data(200),
        changed,
        "a refused policy changes nothing"
    );
    let bead = house.bead("rig-1", "x").await;
    assert_eq!(
        bead["attempts_max"],
        json!(3),
        "the bead shows its rig's limit"
    );
}

#[tokio::test]
async fn a_breaker_is_shown_and_reset() {
    let house = House::new().await;
    let breaker = house.get("/api/rigs/rig-1/breaker").await.data(200);
    assert_eq!(
        (&breaker["state"], &breaker["reason"]),
        (&json!("closed"), &Value::Null)
    );
    let reset = house
        .post("/api/rigs/rig-1/breaker/reset", &json!({}))
        .await
        .data(200);
    assert_eq!(reset["state"], json!("closed"));
}

#[tokio::test]
async fn escalations_of_all_rigs_are_in_one_list() {
    let house = House::new().await;
    for rig in ["rig-1", "rig-2"] {
        let body = json!({"title": format!("help {rig}"), "priority": "high", "body": "b"});
        let bead = house
            .post(&format!("/api/rigs/{rig}/escalations"), &body)
            .await
            .data(201);
        assert_eq!(
            (&bead["type"], &bead["status"]),
            (&json!("escalation"), &json!("open"))
        );
    }
    house.bead("rig-1", "work").await;
    let list = house.get("/api/escalations").await.data(200);
    let of: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|e| text(&e["rig_id"]))
        .collect();
    assert_eq!(of, ["rig-2", "rig-1"], "newest first");
    let close = format!("/api/rigs/rig-1/beads/{}/close", text(&list[1]["id"]));
    house
        .post(&close, &json!({"agent_id": null}))
        .await
        .data(200);
    let open = house.get("/api/escalations").await.data(200);
    assert_eq!(open.as_array().unwrap().len(), 1);
    let closed = house.get("/api/escalations?status=closed").await.data(200);
    assert_eq!(closed.as_array().unwrap().len(), 1);
    house.get("/api/escalations?status=nope").await.error(400);
    house.get("/api/escalations?limit=-1").await.error(400);
}

#[tokio::test]
async fn a_dead_letter_that_is_none_is_unknown() {
    let house = House::new().await;
    assert_eq!(house.get("/api/dead-letters").await.data(200), json!([]));
    for path in ["rig/rig-1/1", "town/x/1", "rig/rig-1/none", "else/rig-1/1"] {
        for order in ["retry", "drop"] {
            let path = format!("/api/dead-letters/{path}/{order}");
            send(house.admin("POST", &path)).await.error(404);
        }
    }
}
