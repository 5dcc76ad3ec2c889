//! `Idempotency-Key`: the same request is carried out once, another one under its key not at all.

use serde_json::{Value, json};

use crate::house::{Answer, House, jwt, send, text};

async fn keyed(house: &House, key: &str, path: &str, body: &Value) -> Answer {
    let request = house.admin("POST", path).header("idempotency-key", key);
    send(request.json(body)).await
}

async fn count(house: &House, path: &str) -> usize {
    let found = house.get(path).await.data(200);
    found.as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_also_after_a_restart() {
    let mut house = House::new().await;
    let agent = house.agent("rig-1", "one").await;
    let bead = house.bead("rig-1", "to hook").await;
    let hook = format!("/api/rigs/rig-1/agents/{}/hook", text(&agent["id"]));
    let rig = |path: &str| format!("/api/rigs/rig-1/{path}");
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let town = town.data(201);
    let requests = [
        // First: a sling would take the one idle agent.
        (hook, json!({"bead_id": bead["id"]})),
        (rig("beads"), json!({"type": "issue", "title": "one"})),
        (rig("sling"), json!({"title": "two"})),
        (rig("escalations"), json!({"title": "three"})),
        (
            rig("agents"),
            json!({"role": "polecat", "name": "n", "identity": "i"}),
        ),
        ("/api/users/ann/towns".to_owned(), json!({"name": "town"})),
        (
            "/api/users/ann/rigs".to_owned(),
            json!({"town_id": town["id"], "name": "r", "git_url": "/x", "kilocode_token": "tok"}),
        ),
    ];
    let mut firsts = Vec::new();
    for (n, (path, body)) in requests.iter().enumerate() {
        let first = keyed(&house, &format!("key-{n}"), path, body).await;
        assert!(first.status < 300, "{path}: {}", first.text);
        firsts.push(first);
    }
    // What follows may change the records, never the answers.
    house.agent("rig-1", "two").await;
    for restart in [false, true] {
        if restart {
            house = house.restarted().await;
        }
        for (n, (path, body)) in requests.iter().enumerate() {
            let again = keyed(&house, &format!("key-{n}"), path, body).await;
            assert_eq!(again.status, firsts[n].status, "{path}");
            assert_eq!(again.body, firsts[n].body, "{path}, restarted: {restart}");
        }
    }
    // The one to hook, one, two, three.
    assert_eq!(count(&house, "/api/rigs/rig-1/beads").await, 4);
    assert_eq!(count(&house, "/api/users/ann/towns").await, 2);
    let rigs = format!("/api/users/ann/towns/{}/rigs", text(&town["id"]));
    assert_eq!(count(&house, &rigs).await, 1);
}

#[tokio::test]
async fn a_key_stands_for_one_request_of_one_caller() {
    let house = House::new().await;
    let (path, body) = ("/api/rigs/rig-1/escalations", json!({"title": "one"}));
    keyed(&house, "k", path, &body).await.data(201);
    for (path, body) in [
        (path, json!({"title": "two"})),
        ("/api/rigs/rig-1/sling", body.clone()),
    ] {
        let other = keyed(&house, "k", path, &body).await;
        other.error(422);
        assert_eq!(other.code(), "key_reused");
    }
    let token = jwt("agent-1", "rig-1");
    let request = house.with_token(&token, "POST", path);
    let agents = send(request.header("idempotency-key", "k").json(&body)).await;
    agents.data(201);
    keyed(&house, "l", path, &body).await.data(201);
    assert_eq!(count(&house, "/api/rigs/rig-1/beads").await, 3);
}

#[tokio::test]
async fn a_refused_request_is_not_remembered() {
    let house = House::new().await;
    let path = "/api/rigs/rig-1/agents";
    let body = json!({"role": "polecat", "name": "one", "identity": "id-one"});
    let agent = house.agent("rig-1", "one").await;
    keyed(&house, "k", path, &body).await.error(409);
    keyed(&house, "k", path, &json!({})).await.error(400);
    let fine = json!({"role": "polecat", "name": "two", "identity": "id-two"});
    let made = keyed(&house, "k", path, &fine).await.data(201);
    assert_ne!(made["id"], agent["id"]);
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    let house = House::new().await;
    let body = json!({"title": "once"});
    let path = "/api/rigs/rig-1/sling";
    let all = (0..20).map(|_| keyed(&house, "k", path, &body));
    let answers = futures_util::future::join_all(all).await;
    let mut made = Vec::new();
    for answer in answers {
        if answer.status == 409 {
            assert_eq!(answer.code(), "in_flight");
        } else {
            made.push(answer.data(201)["bead"]["id"].clone());
        }
    }
    assert!(made.iter().all(|id| *id == made[0]), "{made:?}");
    assert!(!made.is_empty());
    assert_eq!(count(&house, "/api/rigs/rig-1/beads").await, 1);
}

#[tokio::test]
async fn a_key_is_1_to_255_visible_ascii_characters() {
    let house = House::new().await;
    let body = json!({"title": "x"});
    let path = "/api/rigs/rig-1/sling";
    for bad in ["", "a b", &"x".repeat(256)] {
        let answer = keyed(&house, bad, path, &body).await;
        answer.error(400);
        assert_eq!(answer.issues(), ["Idempotency-Key"]);
    }
    let twice = house.admin("POST", path).header("idempotency-key", "a");
    let twice = send(twice.header("idempotency-key", "b").json(&body)).await;
    twice.error(400);
    assert_eq!(count(&house, "/api/rigs/rig-1/beads").await, 0);
    keyed(&house, &"~".repeat(255), path, &body).await.data(201);
}
