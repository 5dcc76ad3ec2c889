//! Events of a rig and of a town: order, cursors, bounds.

use serde_json::{Value, json};

use crate::house::{House, text};

fn types(list: &Value) -> Vec<String> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|e| text(&e["event_type"]).to_owned())
        .collect()
}

#[tokio::test]
async fn events_are_oldest_first_and_a_cursor_goes_on_exactly() {
    let house = House::new().await;
    let agent = house.agent("rig-1", "amber").await;
    let bead = house.bead("rig-1", "x").await;
    let hook = format!("/api/rigs/rig-1/agents/{}/hook", text(&agent["id"]));
    house
        .post(&hook, &json!({"bead_id": bead["id"]}))
        .await
        .data(200);
    let close = format!("/api/rigs/rig-1/beads/{}/close", text(&bead["id"]));
    house
        .post(&close, &json!({"agent_id": agent["id"]}))
        .await
        .data(200);
    let other = house.bead("rig-1", "y").await;

    let path = "/api/rigs/rig-1/events";
    let all = house.get(path).await.data(200);
    assert_eq!(types(&all), ["created", "hooked", "closed", "created"]);
    assert_eq!(
        all[0]["metadata"],
        json!({"title": "x", "priority": "medium"})
    );
    assert_eq!(all[1]["new_value"], agent["id"]);
    assert_eq!(all[1]["id"], json!("2"));
    let get = async |query: &str| house.get(&format!("{path}{query}")).await.data(200);
    assert_eq!(types(&get("?since=2").await), ["closed", "created"]);
    assert_eq!(types(&get("?since=99").await), [""; 0]);
    assert_eq!(types(&get("?limit=1").await), ["created"]);
    let of_other = format!("?bead_id={}", text(&other["id"]));
    assert_eq!(types(&get(&of_other).await), ["created"]);
    let since_first = format!("?since={}", text(&all[3]["created_at"]));
    assert_eq!(
        types(&get(&since_first).await),
        [""; 0],
        "after that time, not at it"
    );
    assert_eq!(get("?since=2000-01-01T00:00:00Z").await, all);
    assert_eq!(get("?since=2000-01-01T02:00:00+02:00").await, all);
    house
        .get(&format!("{path}?since=yesterday"))
        .await
        .error(400);
    house.get(&format!("{path}?limit=x")).await.error(400);
}

#[tokio::test]
async fn events_reach_beyond_one_page_of_the_disk() {
    let house = House::new().await;
    let rig = house
        .runtime
        .rig(&rig::RigId::new("rig-1").unwrap())
        .unwrap();
    let mut last = None;
    for n in 0..520 {
        let new = rig::NewBead::issue(format!("bead {n}"));
        last = Some(rig.create_bead(new).await.unwrap().id);
    }
    let of_last = format!("/api/rigs/rig-1/events?bead_id={}", last.unwrap());
    assert_eq!(
        house
            .get(&of_last)
            .await
            .data(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let all = house
        .get("/api/rigs/rig-1/events?limit=5000")
        .await
        .data(200);
    assert_eq!(all.as_array().unwrap().len(), 520);
    let page = house.get("/api/rigs/rig-1/events").await.data(200);
    assert_eq!(page.as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_towns_events_are_those_of_all_its_rigs() {
    let house = House::new().await;
    let town = house
        .post("/api/users/u/towns", &json!({"name": "t"}))
        .await
        .data(201);
    let mut rigs = Vec::new();
    for name in ["a", "b"] {
        let body = json!({
            "town_id": town["id"], "name": name, "git_url": "/nowhere", "default_branch": "main",
        });
        let rig = house.post("/api/users/u/rigs", &body).await.data(201);
        house.bead(text(&rig["id"]), name).await;
        rigs.push(rig["id"].clone());
    }
    let path = format!("/api/users/u/towns/{}/events", text(&town["id"]));
    let events = house.get(&path).await.data(200);
    let created: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["event_type"] == json!("created"))
        .map(|event| event["rig_id"].clone())
        .collect();
    assert_eq!(created, rigs, "oldest first");
    assert_eq!(
        house.get(&format!("{path}?limit=1")).await.data(200)[0],
        events[0]
    );
    house.get(&format!("{path}?since=2")).await.error(400);
    house
        .get("/api/users/other/towns/nope/events")
        .await
        .error(404);
    let foreign = format!("/api/users/other/towns/{}/events", text(&town["id"]));
    house.get(&foreign).await.error(404);
}
