//! Beads over the wire: records, lists, orders by hand.

use serde_json::{Value, json};

use crate::house::{House, send, text};

fn fields(value: &Value) -> Vec<&str> {
    let mut fields: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn a_bead_has_every_field_of_the_contract() {
    let house = House::new().await;
    let body = json!({
        "type": "issue", "title": "  Fix it  ", "body": "text", "priority": "high",
        "labels": ["a"], "metadata": {"k": [1, {"deep": true}]}, "convoy_id": "c1",
        "unknown": "ignored",
    });
    let bead = house.post("/api/rigs/rig-1/beads", &body).await.data(201);
    let expected = [
        "assignee_agent_id",
        "attempts",
        "attempts_max",
        "body",
        "branch",
        "closed_at",
        "commit",
        "convoy_id",
        "created_at",
        "dispatch_id",
        "dispatches",
        "id",
        "labels",
        "last_failure",
        "metadata",
        "molecule_id",
        "next_attempt_at",
        "priority",
        "prompts",
        "reason",
        "result",
        "session_id",
        "status",
        "title",
        "type",
        "updated_at",
        "usage",
        "waiting_on",
    ];
    assert_eq!(fields(&bead), expected);
    assert_eq!(bead["title"], json!("Fix it"));
    assert_eq!(bead["status"], json!("open"));
    assert_eq!(bead["metadata"], json!({"k": [1, {"deep": true}]}));
    assert_eq!(
        (&bead["attempts"], &bead["attempts_max"]),
        (&json!(0), &json!(5))
    );
    assert_eq!(
        fields(&bead["usage"]),
        ["cost_usd", "estimated", "input_tokens", "output_tokens"]
    );
    let created = text(&bead["created_at"]);
    assert!(
        created.ends_with('Z') && created.len() == "2026-01-01T00:00:00.000Z".len(),
        "{created}"
    );
    let id = text(&bead["id"]);
    assert_eq!(
        house
            .get(&format!("/api/rigs/rig-1/beads/{id}"))
            .await
            .data(200),
        bead
    );
}

#[tokio::test]
async fn defaults_are_medium_and_empty() {
    let house = House::new().await;
    let bead = house.bead("rig-1", "x").await;
    assert_eq!(bead["priority"], json!("medium"));
    assert_eq!(bead["labels"], json!([]));
    assert_eq!(bead["metadata"], json!({}));
    for absent in [
        "body",
        "assignee_agent_id",
        "convoy_id",
        "molecule_id",
        "closed_at",
        "dispatch_id",
    ] {
        assert_eq!(bead[absent], Value::Null, "{absent}");
    }
}

#[tokio::test]
async fn lists_are_newest_first_filtered_and_paged() {
    let house = House::new().await;
    let agent = house.agent("rig-1", "amber").await;
    for (n, kind) in ["issue", "message", "issue", "escalation"]
        .iter()
        .enumerate()
    {
        let mut body = json!({"type": kind, "title": format!("bead {n}")});
        if n == 2 {
            body["convoy_id"] = json!("c");
            body["assignee_agent_id"] = agent["id"].clone();
        }
        house.post("/api/rigs/rig-1/beads", &body).await.data(201);
    }
    let titles = async |query: &str| -> Vec<String> {
        let list = house
            .get(&format!("/api/rigs/rig-1/beads{query}"))
            .await
            .data(200);
        list.as_array()
            .unwrap()
            .iter()
            .map(|b| text(&b["title"]).to_owned())
            .collect()
    };
    assert_eq!(titles("").await, ["bead 3", "bead 2", "bead 1", "bead 0"]);
    assert_eq!(titles("?type=issue").await, ["bead 2", "bead 0"]);
    assert_eq!(titles("?status=open&limit=1&offset=1").await, ["bead 2"]);
    assert_eq!(titles("?status=closed").await, [""; 0]);
    assert_eq!(titles("?convoy_id=c").await, ["bead 2"]);
    let assigned = format!("?assignee_agent_id={}", text(&agent["id"]));
    assert_eq!(titles(&assigned).await, ["bead 2"]);
    assert_eq!(titles("?assignee_agent_id=nobody").await, [""; 0]);
    assert_eq!(titles("?limit=0").await, [""; 0]);
    assert_eq!(titles("?offset=99999999999999999999999").await, [""; 0]);
    assert_eq!(titles("?limit=5000&unknown=1").await.len(), 4);
    let sentence = "limit and offset must be non-negative integers";
    for bad in [
        "?limit=abc",
        "?limit=-1",
        "?offset=-1",
        "?offset=1.5",
        "?limit=",
    ] {
        assert_eq!(
            house
                .get(&format!("/api/rigs/rig-1/beads{bad}"))
                .await
                .error(400),
            sentence
        );
    }
    for bad in ["?status=nope", "?type=nope", "?status=", "?status=OPEN"] {
        house
            .get(&format!("/api/rigs/rig-1/beads{bad}"))
            .await
            .error(400);
    }
}

#[tokio::test]
async fn reading_an_untouched_rig_stores_nothing() {
    let house = House::new().await;
    for path in ["beads", "agents", "events", "breaker", "policy"] {
        house
            .get(&format!("/api/rigs/untouched/{path}"))
            .await
            .data(200);
    }
    assert_eq!(house.runtime.rig_ids().await.unwrap(), []);
}

#[tokio::test]
async fn ids_of_another_form_are_unknown_and_rig_ids_are_checked() {
    let house = House::new().await;
    house.bead("rig-1", "x").await;
    for id in ["nope", "%20", "a%2Fb", "..", &"x".repeat(200), "%00"] {
        if id == ".." {
            continue; // the client resolves it away
        }
        house
            .get(&format!("/api/rigs/rig-1/beads/{id}"))
            .await
            .error(404);
        house
            .get(&format!("/api/rigs/rig-1/agents/{id}"))
            .await
            .error(404);
    }
    for rig in [".hidden", "a%20b", "%2e%2e%2fx", "-x", &"x".repeat(129)] {
        house
            .get(&format!("/api/rigs/{rig}/beads"))
            .await
            .error(400);
    }
}

#[tokio::test]
async fn beads_are_moved_by_hand() {
    let house = House::new().await;
    let bead = house.bead("rig-1", "x").await;
    let path = format!("/api/rigs/rig-1/beads/{}", text(&bead["id"]));
    let change = |body: Value| send(house.admin("PATCH", &format!("{path}/status")).json(&body));
    let held = change(json!({"status": "in_progress", "agent_id": null}))
        .await
        .data(200);
    assert_eq!(held["status"], json!("in_progress"));
    change(json!({"status": "nope", "agent_id": null}))
        .await
        .error(400);
    assert_eq!(
        change(json!({"status": "open"})).await.issues(),
        ["agent_id"]
    );
    let closed = house
        .post(&format!("{path}/close"), &json!({"agent_id": "a"}))
        .await
        .data(200);
    assert_eq!(closed["status"], json!("closed"));
    assert!(closed["closed_at"].is_string());
    assert_eq!(closed["result"], json!("by_hand"));
    let again = house
        .post(&format!("{path}/close"), &json!({"agent_id": "a"}))
        .await
        .data(200);
    assert_eq!(again, closed, "closing twice is the same answer");
    change(json!({"status": "open", "agent_id": null}))
        .await
        .error(409);
    house
        .post(&format!("{path}/cancel"), &json!({}))
        .await
        .error(409);
}

#[tokio::test]
async fn cancel_retry_and_delete() {
    let house = House::new().await;
    let bead = house.bead("rig-1", "x").await;
    let path = format!("/api/rigs/rig-1/beads/{}", text(&bead["id"]));
    let failed = house
        .post(&format!("{path}/cancel"), &json!({}))
        .await
        .data(200);
    assert_eq!(
        (&failed["status"], &failed["reason"]),
        (&json!("failed"), &json!("cancelled"))
    );
    let retried = send(house.admin("POST", &format!("{path}/retry")))
        .await
        .data(200);
    assert_eq!(
        retried["status"],
        json!("open"),
        "a body is not needed, and the type is no matter"
    );
    assert_eq!(
        house.get(&format!("{path}/attempts")).await.data(200),
        json!([])
    );
    let deleted = send(house.admin("DELETE", &path)).await.data(200);
    assert_eq!(deleted, json!({"deleted": true}));
    house.get(&path).await.error(404);
    send(house.admin("DELETE", &path)).await.error(404);
    for gone in ["explain", "attempts"] {
        house.get(&format!("{path}/{gone}")).await.error(404);
    }
}

#[tokio::test]
async fn sling_makes_hooks_and_explains() {
    let house = House::new().await;
    let body = json!({"title": "x", "metadata": {"a": 1}});
    let slung = house.post("/api/rigs/rig-1/sling", &body).await.data(201);
    let (bead, agent) = (&slung["bead"], &slung["agent"]);
    assert_eq!(bead["status"], json!("in_progress"));
    assert_eq!(bead["assignee_agent_id"], agent["id"]);
    assert_eq!(agent["current_hook_bead_id"], bead["id"]);
    assert_eq!(agent["status"], json!("idle"), "hooked, not dispatched");
    let path = format!("/api/rigs/rig-1/beads/{}/explain", text(&bead["id"]));
    let explained = house.get(&path).await.data(200);
    assert_eq!(fields(&explained), ["at", "cause", "next", "status"]);
    assert!(
        text(&explained["next"]).contains("configure"),
        "{explained}"
    );
}

#[tokio::test]
async fn content_types_do_not_decide() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/beads";
    let body = r#"{"type":"issue","title":"x"}"#;
    for kind in [
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
        "nonsense",
    ] {
        let request = house
            .admin("POST", path)
            .header("content-type", kind)
            .body(body);
        send(request).await.data(201);
        let empty = house.admin("GET", path).header("content-type", kind);
        send(empty).await.data(200);
    }
    let unnamed = house.admin("POST", path).body(body);
    send(unnamed).await.data(201);
}
