//! What an agent reads and leaves behind over the wire: prime, checkpoint, mail, events, reviews.

use serde_json::{Value, json};

use crate::house::{Answer, House, jwt, send, text};

const R: &str = "/api/rigs/rig-1";

async fn as_agent(house: &House, agent: &str, path: &str) -> Answer {
    send(house.with_token(&jwt(agent, "rig-1"), "GET", path)).await
}

async fn two(house: &House) -> (String, String) {
    let (a, b) = (
        house.agent("rig-1", "amber").await,
        house.agent("rig-1", "birch").await,
    );
    (text(&a["id"]).to_owned(), text(&b["id"]).to_owned())
}

fn mail(from: &str, to: &str, subject: &str) -> Value {
    json!({"from_agent_id": from, "to_agent_id": to, "subject": subject, "body": "b"})
}

#[tokio::test]
async fn mail_is_delivered_when_its_reader_asks_and_by_nobody_else() {
    let house = House::new().await;
    let (a, b) = two(&house).await;
    for subject in ["one", "two"] {
        let sent = house
            .post(&format!("{R}/mail"), &mail(&a, &b, subject))
            .await;
        assert_eq!(sent.data(201), json!({"sent": true}));
    }
    let path = format!("{R}/agents/{b}/mail");
    let primed = as_agent(&house, &b, &format!("{R}/agents/{b}/prime")).await;
    let primed = primed.data(200)["undelivered_mail"].clone();
    assert_eq!(house.get(&path).await.data(200), primed);
    let taken = as_agent(&house, &b, &path).await.data(200);
    assert_eq!(taken, primed, "shown as it was before");
    let subjects: Vec<_> = taken
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["subject"])
        .collect();
    assert_eq!(subjects, ["one", "two"]);
    assert_eq!(taken[0]["delivered"], json!(false));
    assert_eq!(taken[0]["delivered_at"], Value::Null);
    assert_eq!(as_agent(&house, &b, &path).await.data(200), json!([]));
    assert_eq!(house.get(&path).await.data(200), json!([]));
}

#[tokio::test]
async fn mail_is_checked_before_it_is_sent() {
    let house = House::new().await;
    let (a, b) = two(&house).await;
    let path = format!("{R}/mail");
    house.post(&path, &json!({})).await.error(400);
    let mut long = mail(&a, &b, "x");
    long["body"] = json!("x".repeat(64 * 1024 + 1));
    assert_eq!(house.post(&path, &long).await.issues(), ["body"]);
    house.post(&path, &mail(&a, "nobody", "x")).await.error(404);
    house.post(&path, &mail("nobody", &b, "x")).await.error(404);
    let forged = house
        .with_token(&jwt(&a, "rig-1"), "POST", &path)
        .json(&mail(&b, &a, "x"));
    let sentence = "from_agent_id does not match authenticated agent";
    assert_eq!(send(forged).await.error(403), sentence);
}

#[tokio::test]
async fn prime_shows_the_hook_and_what_is_not_closed() {
    let house = House::new().await;
    let (a, _) = two(&house).await;
    let agent = format!("{R}/agents/{a}");
    let empty = as_agent(&house, &a, &format!("{agent}/prime"))
        .await
        .data(200);
    assert_eq!(empty["hooked_bead"], Value::Null);
    assert_eq!(empty["open_beads"], json!([]));
    let bead = house.bead("rig-1", "x").await;
    let body = json!({"bead_id": bead["id"]});
    house.post(&format!("{agent}/hook"), &body).await.data(200);
    let primed = house.get(&format!("{agent}/prime")).await.data(200);
    assert_eq!(primed["agent"], house.get(&agent).await.data(200));
    assert_eq!(primed["hooked_bead"]["id"], bead["id"]);
    assert_eq!(primed["open_beads"][0]["id"], bead["id"]);
    let close = format!("{R}/beads/{}/close", text(&bead["id"]));
    house
        .post(&close, &json!({"agent_id": null}))
        .await
        .data(200);
    let primed = house.get(&format!("{agent}/prime")).await.data(200);
    assert_eq!(primed["open_beads"], json!([]));
    let unknown = format!("{R}/agents/nobody/prime");
    house.get(&unknown).await.error(404);
}

#[tokio::test]
async fn a_checkpoint_is_any_json() {
    let house = House::new().await;
    let (a, _) = two(&house).await;
    let agent = format!("{R}/agents/{a}");
    for data in [json!({"a": [1, null]}), json!("x"), json!(null)] {
        let path = format!("{agent}/checkpoint");
        let written = house.post(&path, &json!({"data": data})).await.data(200);
        assert_eq!(written, json!({"written": true}));
        assert_eq!(house.get(&agent).await.data(200)["checkpoint"], data);
    }
    let missing = house.post(&format!("{agent}/checkpoint"), &json!({})).await;
    assert_eq!(missing.issues(), ["data"]);
}

#[tokio::test]
async fn agent_events_are_read_from_a_cursor() {
    let house = House::new().await;
    let (a, b) = two(&house).await;
    let path = format!("{R}/agent-events");
    for agent in [&a, &b, &a, &a] {
        let event = json!({"agent_id": agent, "event_type": "note", "data": {"k": 1}});
        let appended = house.post(&path, &event).await.data(201);
        assert_eq!(appended, json!({"appended": true}));
    }
    let events = format!("{R}/agents/{a}/events");
    let all = house.get(&events).await.data(200);
    let ids: Vec<_> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["id"].as_u64())
        .collect();
    assert_eq!(ids, [Some(1), Some(3), Some(4)]);
    let rest = house.get(&format!("{events}?after_id=1&limit=1")).await;
    assert_eq!(rest.data(200), json!([all[1]]));
    for bad in ["limit=0", "limit=x", "after_id=-1"] {
        house.get(&format!("{events}?{bad}")).await.error(400);
    }
    let large = json!({"agent_id": a, "event_type": "x", "data": {"k": "x".repeat(64 * 1024)}});
    assert_eq!(house.post(&path, &large).await.issues(), ["data"]);
    let other = house
        .with_token(&jwt(&b, "rig-1"), "POST", &path)
        .json(&json!({"agent_id": a, "event_type": "x"}));
    let sentence = "agent_id does not match authenticated agent";
    assert_eq!(send(other).await.error(403), sentence);
}

#[tokio::test]
async fn a_deleted_agent_is_unknown_everywhere() {
    let house = House::new().await;
    let (a, b) = two(&house).await;
    let agent = format!("{R}/agents/{a}");
    let deleted = send(house.admin("DELETE", &agent)).await;
    assert_eq!(deleted.data(200), json!({"deleted": true}));
    for path in ["", "/prime", "/mail", "/events"] {
        house.get(&format!("{agent}{path}")).await.error(404);
    }
    house
        .post(&format!("{R}/mail"), &mail(&a, &b, "x"))
        .await
        .error(404);
    let role = json!({"role": "witness"});
    let path = format!("{R}/agents/get-or-create");
    let witness = house.post(&path, &role).await.data(200);
    assert_eq!(
        house.post(&path, &role).await.data(200)["id"],
        witness["id"]
    );
    house.post(&path, &json!({"role": "x"})).await.error(400);
}

#[tokio::test]
async fn reviews_are_submitted_listed_and_completed() {
    let house = House::new().await;
    let (a, _) = two(&house).await;
    let queue = format!("{R}/review-queue");
    for (status, bead_is) in [("merged", "closed"), ("conflict", "open")] {
        let bead = house.bead("rig-1", status).await;
        let body = json!({"agent_id": a, "bead_id": bead["id"], "branch": status});
        let submitted = house.post(&queue, &body).await.data(201);
        assert_eq!(submitted, json!({"submitted": true}));
        let listed = house
            .get(&format!("{queue}?status=pending"))
            .await
            .data(200);
        assert_eq!(listed[0]["bead_id"], bead["id"]);
        let complete = format!("{queue}/{}/complete", text(&listed[0]["id"]));
        let body = json!({"status": status, "message": "m"});
        let completed = house.post(&complete, &body).await.data(200);
        assert_eq!(completed, json!({"completed": true}));
        let shown = house.get(&format!("{R}/beads/{}", text(&bead["id"]))).await;
        assert_eq!(shown.data(200)["status"], json!(bead_is));
        let other = json!({"status": status, "message": "another word"});
        house.post(&complete, &other).await.error(409);
    }
    let escalations = house
        .get(&format!("{R}/beads?type=escalation"))
        .await
        .data(200);
    assert_eq!(escalations.as_array().unwrap().len(), 1);
    assert_eq!(escalations[0]["title"], json!("Merge conflict: conflict"));
    house.post(&queue, &json!({"agent_id": a})).await.error(400);
    let unknown = format!("{queue}/nope/complete");
    let body = json!({"status": "merged", "message": ""});
    house.post(&unknown, &body).await.error(404);
    house.get(&format!("{queue}?status=x")).await.error(400);
}
