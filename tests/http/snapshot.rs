//! The snapshot, and the wait for the next one.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use crate::house::{Answer, House, read, send, text};

const SOON: Duration = Duration::from_secs(10);
const TRIES: usize = 5;

#[tokio::test]
async fn a_snapshot_shows_every_rig_and_counts_what_needs_a_person() {
    let house = House::new().await;
    let empty = house.get("/api/snapshot").await.data(200);
    assert_eq!(
        (&empty["rigs"], &empty["needs_you"]),
        (&json!([]), &json!(0))
    );
    let bead = house.bead("rig-1", "x").await;
    house
        .post("/api/rigs/rig-1/escalations", &json!({"title": "help"}))
        .await
        .data(201);
    let snapshot = house.get("/api/snapshot").await.data(200);
    assert_eq!(snapshot["needs_you"], json!(1));
    assert!(text(&snapshot["server_time"]).ends_with('Z'));
    let rig = &snapshot["rigs"][0];
    assert_eq!(
        (&rig["id"], &rig["is_configured"]),
        (&json!("rig-1"), &json!(false))
    );
    assert_eq!(rig["beads"][0]["id"], bead["id"]);
    assert_eq!(rig["beads"][0]["explain"]["cause"], json!("not hooked"));
    assert_eq!(
        rig["beads"].as_array().unwrap().len(),
        1,
        "escalations are apart"
    );
    assert_eq!(rig["escalations"][0]["title"], json!("help"));
    assert_eq!(rig["breaker"]["state"], json!("closed"));
}

#[tokio::test]
async fn a_wait_ends_with_the_change_and_misses_none() {
    let house = House::new().await;
    house.bead("rig-1", "first").await;
    let version = house.get("/api/snapshot").await.data(200)["version"].clone();
    let path = format!("/api/snapshot?after={}&wait_ms=30000", text(&version));
    let (answer, bead) = tokio::join!(
        timeout(SOON, house.get(&path)),
        house.bead("rig-1", "second"),
    );
    let snapshot = answer.expect("long before the wait is over").data(200);
    assert_ne!(snapshot["version"], version);
    assert_eq!(snapshot["rigs"][0]["beads"][0]["id"], bead["id"]);
    // The change came before the question: no wait at all.
    let again = timeout(SOON, house.get(&path))
        .await
        .expect("answered at once")
        .data(200);
    assert_eq!(again["rigs"][0]["beads"].as_array().unwrap().len(), 2);
    let other_life = "/api/snapshot?after=another-1&wait_ms=30000";
    timeout(SOON, house.get(other_life))
        .await
        .expect("another life's version")
        .data(200);
}

#[tokio::test]
async fn a_wait_ends_by_time_and_with_the_server() {
    let house = House::new().await;
    let version = house.get("/api/snapshot").await.data(200)["version"].clone();
    let wait = |ms: u64| format!("/api/snapshot?after={}&wait_ms={ms}", text(&version));
    assert_eq!(house.get(&wait(20)).await.data(200)["version"], version);
    house.get("/api/snapshot?wait_ms=-1").await.error(400);
    let answer = stopped_in_a_wait().await;
    assert_eq!(answer.error(503), "the server is stopping");
    assert_eq!(answer.headers["retry-after"], "2");
}

/// What a wait is answered when the server stops under it. A request that the server has not begun
/// to read by then gets no answer at all: then it is tried again.
async fn stopped_in_a_wait() -> Answer {
    for _ in 0..TRIES {
        let house = House::new().await;
        let version = house.get("/api/snapshot").await.data(200)["version"].clone();
        let path = format!("/api/snapshot?after={}&wait_ms=30000", text(&version));
        let request = house.admin("GET", &path);
        let (answer, ()) = tokio::join!(timeout(SOON, request.send()), async {
            // A second answer proves the server's turn.
            send(house.bare("GET", "/health")).await;
            house.facade.stop().await;
        });
        if let Ok(answer) = answer.expect("long before the wait is over") {
            return read(answer).await;
        }
    }
    panic!("the server never began to read in {TRIES} tries");
}
