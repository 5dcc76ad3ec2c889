//! A town's container: bodies first, the gate's answer, and what can be seen.

use serde_json::{Value, json};

use crate::house::{House, send, text};

struct Place {
    house: House,
    town: String,
    rig: String,
    agent: String,
}

impl Place {
    /// A town with a rig that can not work: there is no such repository.
    async fn new() -> Self {
        let house = House::new().await;
        let town = house
            .post("/api/users/ann/towns", &json!({"name": "t"}))
            .await;
        let town = text(&town.data(201)["id"]).to_owned();
        let body = json!({"town_id": town, "name": "r", "git_url": "/nowhere"});
        let rig = house.post("/api/users/ann/rigs", &body).await.data(201);
        let rig = text(&rig["id"]).to_owned();
        let agent = text(&house.agent(&rig, "amber").await["id"]).to_owned();
        Self {
            house,
            town,
            rig,
            agent,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/towns/{}/container/{rest}", self.town)
    }

    fn start(&self) -> Value {
        json!({
            "agentId": self.agent, "rigId": self.rig, "townId": self.town, "role": "polecat",
            "name": "amber", "identity": "id-amber", "prompt": "Do it\nwell", "model": "m",
            "systemPrompt": "s", "gitUrl": "/nowhere", "branch": "b", "defaultBranch": "main",
        })
    }
}

#[tokio::test]
async fn a_start_that_the_gate_holds_says_why_and_makes_one_bead() {
    let place = Place::new().await;
    let path = place.path("agents/start");
    for _ in 0..2 {
        let answer = place.house.post(&path, &place.start()).await;
        assert!(answer.error(409).contains("next:"), "{}", answer.text);
        assert_eq!(answer.code(), "held");
    }
    let beads = format!("/api/rigs/{}/beads?type=issue", place.rig);
    let beads = place.house.get(&beads).await.data(200);
    assert_eq!(beads.as_array().unwrap().len(), 1);
    assert_eq!(
        (
            &beads[0]["title"],
            &beads[0]["body"],
            &beads[0]["assignee_agent_id"]
        ),
        (&json!("Do it"), &json!("Do it\nwell"), &json!(place.agent))
    );
}

#[tokio::test]
async fn bodies_are_checked_before_anything_is_looked_up() {
    let place = Place::new().await;
    let nowhere = "/api/towns/nope/container/agents";
    for path in [
        format!("{nowhere}/start"),
        format!("{nowhere}/nobody/message"),
    ] {
        send(place.house.admin("POST", &path)).await.error(400);
        place.house.post(&path, &json!({})).await.error(400);
    }
    let start = place.path("agents/start");
    for (field, bad) in [
        ("prompt", json!("  ")),
        ("role", json!("king")),
        ("townId", json!("other")),
        ("envVars", json!({"PATH": "/evil"})),
    ] {
        let mut body = place.start();
        body[field] = bad;
        let answer = place.house.post(&start, &body).await;
        answer.error(400);
        assert_eq!(answer.issues()[0], field);
    }
    let mut body = place.start();
    body["agentId"] = json!("nobody");
    place.house.post(&start, &body).await.error(404);
    body["rigId"] = json!("elsewhere");
    let elsewhere = place.house.post(&start, &body).await;
    assert_eq!(elsewhere.error(404), "Rig not found in this town");
    let message = place.path("agents/nobody/message");
    place
        .house
        .post(&message, &json!({"prompt": "x"}))
        .await
        .error(404);
}

#[tokio::test]
async fn an_agent_can_be_stopped_asked_and_looked_at() {
    let place = Place::new().await;
    let of = |rest: &str| place.path(&format!("agents/{}/{rest}", place.agent));
    place
        .house
        .post(&place.path("agents/start"), &place.start())
        .await
        .error(409);
    let shown = place.house.get(&of("status")).await.data(200);
    for field in [
        "activeTools",
        "agentId",
        "exitReason",
        "lastActivityAt",
        "messageCount",
        "serverPort",
        "sessionId",
        "startedAt",
        "status",
    ] {
        assert!(shown.get(field).is_some(), "{field}: {shown}");
    }
    assert_eq!(shown["status"], json!("exited"));
    let asked = place
        .house
        .post(&of("message"), &json!({"prompt": "x"}))
        .await;
    asked.error(409);
    let stopped = send(place.house.admin("POST", &of("stop"))).await.data(200);
    assert_eq!(stopped, json!({"stopped": true}));
    let agent = format!("/api/rigs/{}/agents/{}", place.rig, place.agent);
    let agent = place.house.get(&agent).await.data(200);
    assert_eq!(agent["current_hook_bead_id"], Value::Null);
    place
        .house
        .post(&place.path("agents/nobody/stop"), &json!({}))
        .await
        .error(404);
    place
        .house
        .get(&place.path("agents/nobody/status"))
        .await
        .error(404);
}

#[tokio::test]
async fn health_counts_agents_and_servers() {
    let place = Place::new().await;
    let health = place.house.get(&place.path("health")).await.data(200);
    assert_eq!(
        (&health["status"], &health["agents"], &health["servers"]),
        (&json!("ok"), &json!(0), &json!(0))
    );
    assert!(health["uptime"].is_u64());
    place
        .house
        .get("/api/towns/nope/container/health")
        .await
        .error(404);
}
