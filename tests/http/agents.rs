//! Agents over the wire, without a live dispatch.

use serde_json::{Value, json};

use crate::house::{House, jwt, send, text};

#[tokio::test]
async fn agents_are_registered_listed_and_shown() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/agents";
    let agent = house.agent("rig-1", "amber").await;
    let mut fields: Vec<_> = agent
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    let expected = [
        "checkpoint",
        "created_at",
        "current_hook_bead_id",
        "dispatch_attempts",
        "id",
        "identity",
        "last_activity_at",
        "name",
        "role",
        "status",
    ];
    assert_eq!(fields, expected);
    assert_eq!(agent["status"], json!("idle"));
    assert!(agent["last_activity_at"].is_string(), "set at registration");
    let id = text(&agent["id"]);
    assert_eq!(house.get(&format!("{path}/{id}")).await.data(200), agent);
    house
        .post(
            path,
            &json!({"role": "witness", "name": "w", "identity": "w"}),
        )
        .await
        .data(201);
    let listed = async |query: &str| {
        house
            .get(&format!("{path}{query}"))
            .await
            .data(200)
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(listed("").await, 2);
    assert_eq!(listed("?role=witness").await, 1);
    assert_eq!(listed("?status=working").await, 0);
    house.get(&format!("{path}?role=nope")).await.error(400);
    house.get(&format!("{path}?status=nope")).await.error(400);
    let same = json!({"role": "polecat", "name": "other", "identity": "id-amber"});
    let answer = house.post(path, &same).await;
    answer.error(409);
    assert_eq!(answer.code(), "identity_taken");
}

#[tokio::test]
async fn a_hook_holds_one_bead() {
    let house = House::new().await;
    let (agent, bead) = (
        house.agent("rig-1", "amber").await,
        house.bead("rig-1", "x").await,
    );
    let hook = format!("/api/rigs/rig-1/agents/{}/hook", text(&agent["id"]));
    let body = json!({"bead_id": bead["id"]});
    for _ in 0..2 {
        assert_eq!(
            house.post(&hook, &body).await.data(200),
            json!({"hooked": true})
        );
    }
    let other = house.bead("rig-1", "y").await;
    house
        .post(&hook, &json!({"bead_id": other["id"]}))
        .await
        .error(409);
    for kind in ["escalation", "message"] {
        let path = "/api/rigs/rig-1/beads";
        let odd = house
            .post(path, &json!({"type": kind, "title": "x"}))
            .await
            .data(201);
        house
            .post(&hook, &json!({"bead_id": odd["id"]}))
            .await
            .error(409);
    }
    house
        .post(&hook, &json!({"bead_id": "no such one"}))
        .await
        .error(404);
    house
        .post("/api/rigs/rig-1/agents/nobody/hook", &body)
        .await
        .error(404);
    let token = jwt(text(&agent["id"]), "rig-1");
    let unhooked = send(house.with_token(&token, "DELETE", &hook)).await;
    assert_eq!(unhooked.data(200), json!({"unhooked": true}));
    let shown = house
        .get(&format!("/api/rigs/rig-1/beads/{}", text(&bead["id"])))
        .await
        .data(200);
    assert_eq!(shown["status"], json!("open"));
}

async fn hooked(house: &House, name: &str) -> (Value, Value, String) {
    let agent = house.agent("rig-1", name).await;
    let bead = house.bead("rig-1", name).await;
    let path = format!("/api/rigs/rig-1/agents/{}", text(&agent["id"]));
    house
        .post(&format!("{path}/hook"), &json!({"bead_id": bead["id"]}))
        .await
        .data(200);
    (agent, bead, path)
}

#[tokio::test]
async fn without_a_dispatch_reports_act_on_the_hook() {
    let house = House::new().await;
    let status = async |bead: &Value| {
        let path = format!("/api/rigs/rig-1/beads/{}", text(&bead["id"]));
        house.get(&path).await.data(200)["status"].clone()
    };
    let (agent, bead, path) = hooked(&house, "amber").await;
    let token = jwt(text(&agent["id"]), "rig-1");
    let done = house.with_token(&token, "POST", &format!("{path}/done"));
    let answer = send(done.json(&json!({"branch": "work", "summary": "s"}))).await;
    assert_eq!(answer.data(200), json!({"done": true}));
    assert_eq!(
        status(&bead).await,
        json!("in_review"),
        "an unconfigured rig always reviews"
    );
    assert_eq!(
        house.get(&path).await.data(200)["current_hook_bead_id"],
        Value::Null
    );

    for (name, word, expected) in [("b", "completed", "closed"), ("c", "failed", "failed")] {
        let (_, bead, path) = hooked(&house, name).await;
        let body = json!({"status": word, "reason": "because"});
        let answer = house.post(&format!("{path}/completed"), &body).await;
        assert_eq!(answer.data(200), json!({"completed": true}));
        assert_eq!(status(&bead).await, json!(expected));
    }
    let (_, _, path) = hooked(&house, "d").await;
    let named = json!({"branch": "b", "dispatch_id": "x.1"});
    let answer = house.post(&format!("{path}/done"), &named).await;
    answer.error(409);
    assert_eq!(answer.code(), "stale_dispatch");
    house
        .post(&format!("{path}/completed"), &json!({"status": "nope"}))
        .await
        .error(400);
    house
        .post(&format!("{path}/done"), &json!({}))
        .await
        .error(400);
}

#[tokio::test]
async fn a_heartbeat_may_be_empty_and_may_not_lie() {
    let house = House::new().await;
    let agent = house.agent("rig-1", "amber").await;
    let id = text(&agent["id"]);
    let path = format!("/api/rigs/rig-1/agents/{id}/heartbeat");
    let token = jwt(id, "rig-1");
    let beat = |body: &str| {
        send(
            house
                .with_token(&token, "POST", &path)
                .body(body.to_owned()),
        )
    };
    let full = json!({
        "agentId": id, "rigId": "rig-1", "townId": "town-1", "status": "running",
        "timestamp": "2026-01-01T00:00:00.000Z",
    });
    for body in ["", "{}", &full.to_string(), r#"{"timestamp":1}"#] {
        assert_eq!(
            beat(body).await.data(200),
            json!({"heartbeat": true}),
            "{body}"
        );
    }
    beat("{").await.error(400);
    beat(r#"{"agentId":7}"#).await.error(400);
    let sentence = "agent_id does not match authenticated agent";
    assert_eq!(beat(r#"{"agentId":"other"}"#).await.error(403), sentence);
    let sentence = "Token rigId does not match route";
    assert_eq!(beat(r#"{"rigId":"other"}"#).await.error(403), sentence);
    let unknown = house
        .post("/api/rigs/rig-9/agents/nobody/heartbeat", &json!({}))
        .await;
    assert_eq!(unknown.data(200), json!({"heartbeat": true}));
}
