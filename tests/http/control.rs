//! Pause, stop and resume of rigs and towns: what holds, what goes on, and what a restart leaves.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    house::{House, send, text},
    stage::{Stage, TOKEN, types, until_file},
};

/// Writes a file that it does not commit, then works for ever.
const BUSY: &str = "[[fake: sh echo half > half-done.txt]] [[fake: hang]]";

/// What git names by that ref in the rig's clone.
fn files_of(stage: &Stage, rig: &str, name: &str) -> String {
    let out = Command::new("git")
        .arg("-C")
        .arg(stage.rig_dir(rig).join("repo.git"))
        .args(["show", "--name-only", "--format=", name])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

async fn until_half_done(stage: &Stage, rig: &str) {
    let trees = std::fs::read_dir(stage.rig_dir(rig).join("worktrees")).unwrap();
    let trees: Vec<_> = trees.map(|tree| tree.unwrap().path()).collect();
    assert_eq!(trees.len(), 1, "{trees:?}");
    until_file(&trees[0].join("half-done.txt")).await;
}

/// Its session is over, its work saved, and it waits for a person.
async fn assert_stopped(stage: &Stage, rig: &str, bead: &str) {
    let waits = |bead: &Value| bead["waiting_on"] == "paused";
    let stopped = stage.until(bead, "stopped bead", waits).await;
    assert_eq!(
        (
            &stopped["status"],
            &stopped["session_id"],
            &stopped["attempts"]
        ),
        (&json!("in_progress"), &Value::Null, &json!(0)),
        "an interruption is not charged"
    );
    assert_eq!(stopped["next_attempt_at"], Value::Null, "no clock ends it");
    let attempts = stage.get(&format!("{bead}/attempts")).await;
    assert_eq!(
        attempts[0]["outcome"]["class"], "interrupted",
        "{attempts:#}"
    );
    let phases = attempts[0]["phases"].as_array().unwrap();
    assert!(phases.iter().all(|phase| phase["at"].is_string()));
    assert!(
        phases.iter().any(|phase| phase["phase"] == "turn"),
        "{phases:?}"
    );
    let saved = format!("refs/wellhead/saved/{}/1", text(&stopped["id"]));
    let files = files_of(stage, rig, &saved);
    assert!(files.contains("half-done.txt"), "{files}");
}

/// The same session went on, and what it had left is on its branch.
async fn assert_continued(stage: &Stage, bead: &str) {
    let closed = stage.until_closed(bead).await;
    assert_eq!(closed["attempts"], json!(0));
    assert_eq!(closed["waiting_on"], Value::Null);
    let attempts = stage.get(&format!("{bead}/attempts")).await;
    let sessions = attempts.as_array().unwrap().iter();
    let sessions: Vec<_> = sessions
        .filter(|attempt| attempt["session_id"].is_string())
        .map(|attempt| &attempt["session_id"])
        .collect();
    assert!(sessions.len() >= 2, "{attempts:#}");
    assert!(sessions.iter().all(|id| *id == sessions[0]), "{attempts:#}");
}

#[tokio::test]
async fn a_stopped_rig_stays_stopped_over_a_restart_and_goes_on_after_its_resume() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let base = format!("/api/rigs/{rig}");
    let bead = stage.sling(&rig, BUSY).await;
    stage.until_working(&bead).await;
    until_half_done(&stage, &rig).await;
    let body = json!({"reason": "it spends too much"});
    let held = stage.order(&format!("{base}/stop"), &body).await;
    assert_eq!(
        (
            &held["paused"]["mode"],
            &held["paused"]["by"],
            &held["paused"]["reason"]
        ),
        (
            &json!("stop"),
            &json!("admin"),
            &json!("it spends too much")
        )
    );
    assert_stopped(&stage, &rig, &bead).await;

    let stage = stage.restarted().await;
    let shown = stage.get(&format!("/api/users/ann/rigs/{rig}")).await;
    assert_eq!(shown["paused"], held["paused"], "who and since when");
    let list = format!("/api/users/ann/towns/{}/rigs", stage.town);
    assert_eq!(stage.get(&list).await[0]["paused"], held["paused"]);
    // Each accepted step asks the gate again.
    let other = stage.sling(&rig, "[[fake: ok]]").await;
    for waits in [&bead, &other] {
        let seen = stage.get(waits).await;
        assert_eq!(
            (&seen["waiting_on"], &seen["dispatch_id"]),
            (&json!("paused"), &Value::Null)
        );
        let why = stage.get(&format!("{waits}/explain")).await;
        assert_eq!(
            (&why["cause"], &why["at"]),
            (
                &json!("the rig was stopped by admin: it spends too much"),
                &Value::Null
            )
        );
    }
    let resumed = stage.order(&format!("{base}/resume"), &json!({})).await;
    assert_eq!(resumed["paused"], Value::Null);
    assert_continued(&stage, &bead).await;
    stage.until_closed(&other).await;
    let events = stage.get(&format!("{base}/events?limit=1000")).await;
    for (kind, count) in [("paused", 1), ("resumed", 1)] {
        let found = events.as_array().unwrap().iter();
        let found: Vec<_> = found.filter(|event| event["event_type"] == kind).collect();
        assert_eq!(found.len(), count, "{kind}: {:?}", types(&events));
        assert_eq!(found[0]["metadata"]["by"], "admin");
    }
    stage.end().await;
}

#[tokio::test]
async fn a_stopped_town_stays_stopped_over_a_restart_and_goes_on_after_its_resume() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let base = format!("/api/towns/{}", stage.town);
    let bead = stage.sling(&rig, BUSY).await;
    stage.until_working(&bead).await;
    until_half_done(&stage, &rig).await;
    let health = format!("{base}/container/health");
    let busy = stage.get(&health).await;
    assert_eq!(busy["slots"], json!({"used": 1, "max": 8}));
    let held = stage.order(&format!("{base}/stop"), &json!({})).await;
    assert_eq!(held["paused"]["mode"], "stop");
    assert_stopped(&stage, &rig, &bead).await;

    let stage = stage.restarted().await;
    let is_quiet = |health: &Value| {
        health["slots"]["used"] == 0 && health["waiting"][0]["rig_id"] == json!(rig)
    };
    let quiet = stage.until(&health, "rig that waits", is_quiet).await;
    assert_eq!(
        (&quiet["paused"], &quiet["agents"]),
        (&held["paused"], &json!(0))
    );
    let snapshot = stage.get("/api/snapshot").await;
    assert_eq!(snapshot["towns"][0]["paused"], held["paused"]);
    assert_eq!(stage.get(&bead).await["waiting_on"], "paused");
    let resumed = stage.order(&format!("{base}/resume"), &json!({})).await;
    assert_eq!(resumed["paused"], Value::Null);
    assert_continued(&stage, &bead).await;
    stage.end().await;
}

#[tokio::test]
async fn a_pause_lets_what_runs_go_on_to_its_end() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let base = format!("/api/rigs/{rig}");
    let go = stage.house.dir().join("go");
    let wait = format!(
        "[[fake: sh until [ -e {} ]; do sleep 0.05; done; git commit --allow-empty -qm done]]",
        go.display()
    );
    let runs = stage.sling(&rig, &wait).await;
    stage.until_working(&runs).await;
    let held = stage.order(&format!("{base}/pause"), &json!({})).await;
    assert_eq!(
        (&held["paused"]["mode"], &held["running"]),
        (&json!("pause"), &json!(1))
    );
    let waits = stage.sling(&rig, "[[fake: ok]]").await;
    std::fs::write(&go, "").unwrap();
    stage.until_closed(&runs).await;
    let seen = stage.get(&waits).await;
    assert_eq!(
        (&seen["waiting_on"], &seen["dispatches"]),
        (&json!("paused"), &json!(0))
    );
    stage.order(&format!("{base}/resume"), &json!({})).await;
    stage.until_closed(&waits).await;
    stage.end().await;
}

#[tokio::test]
async fn between_two_attempts_the_time_shown_is_that_of_whatever_holds_longest() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let base = format!("/api/rigs/{rig}");
    let policy = json!({"backoff_ms": [60_000], "idle_grace_ms": 300, "end_grace_ms": 100});
    stage.put(&format!("{base}/policy"), &policy).await;
    let bead = stage
        .sling(&rig, "[[fake: say last words]] [[fake: malformed]]")
        .await;
    let is_alike = async |word: &str, has_time: bool| {
        let waits = |bead: &Value| bead["waiting_on"] == word;
        let seen = stage.until(&bead, word, waits).await;
        let why = stage.get(&format!("{bead}/explain")).await;
        assert_eq!(seen["next_attempt_at"], why["at"], "{word}");
        assert_eq!(why["at"].is_string(), has_time, "{word}: {why}");
        text(&why["cause"]).to_owned()
    };
    assert!(
        is_alike("backoff", true)
            .await
            .starts_with("agent_failed: ")
    );
    let attempts = stage.get(&format!("{bead}/attempts")).await;
    assert!(
        text(&attempts[0]["last_output"]).contains("Part"),
        "{attempts:#}"
    );
    stage.order(&format!("{base}/pause"), &json!({})).await;
    assert_eq!(
        is_alike("paused", false).await,
        "the rig was paused by admin"
    );
    stage.order(&format!("{base}/resume"), &json!({})).await;
    is_alike("backoff", true).await;
    let spent = json!({"day": {"usd": 0}});
    stage.put(&format!("{base}/budget"), &spent).await;
    // No day brings money to a budget of nothing.
    let cause = is_alike("budget", false).await;
    assert!(
        cause.contains("budget of the day is used up (0 USD)"),
        "{cause}"
    );
    stage.end().await;
}

#[tokio::test]
async fn orders_are_checked_repeated_and_carried_out_once_under_a_key() {
    let house = House::new().await;
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let town = text(&town.data(201)["id"]).to_owned();
    for base in ["/api/rigs/rig-1".to_owned(), format!("/api/towns/{town}")] {
        let pause = format!("{base}/pause");
        for (body, field) in [
            (json!({"mode": "hard"}), "mode"),
            (json!({"mode": 7}), "mode"),
            (json!({"reason": " "}), "reason"),
            (json!({"reason": "x".repeat(501)}), "reason"),
        ] {
            let refused = house.post(&pause, &body).await;
            refused.error(400);
            assert_eq!(refused.issues(), [field], "{base} {body}");
        }
        let keyed =
            |key: &str, path: &str| send(house.admin("POST", path).header("idempotency-key", key));
        // Nothing but the path and a key: a body is not needed.
        let first = keyed("one", &pause).await.data(200);
        assert_eq!(first["paused"]["mode"], "pause");
        let again = house
            .post(&pause, &json!({"reason": "later"}))
            .await
            .data(200);
        assert_eq!(again, first, "who came first holds");
        let harder = house.post(&pause, &json!({"mode": "stop"})).await.data(200);
        assert_eq!(harder["paused"]["mode"], "stop");
        let resume = format!("{base}/resume");
        for _ in 0..2 {
            let resumed = house.post(&resume, &json!({})).await.data(200);
            assert_eq!(resumed, json!({"paused": null, "running": 0}));
        }
        // An order that arrives a second time must not hold again what was let go since.
        assert_eq!(keyed("one", &pause).await.data(200), first);
        let now = house.post(&resume, &json!({})).await.data(200);
        assert_eq!(now["paused"], Value::Null);
        let reused = keyed("one", &resume).await;
        reused.error(422);
    }
    let events = house.get("/api/rigs/rig-1/events").await.data(200);
    assert_eq!(types(&events), ["paused", "paused", "resumed"]);
}

#[tokio::test]
async fn a_keyed_order_to_a_town_is_remembered_over_a_restart() {
    let house = House::new().await;
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let base = format!("/api/towns/{}", text(&town.data(201)["id"]));
    let stop = |house: &House| {
        let request = house.admin("POST", &format!("{base}/stop"));
        send(request.header("idempotency-key", "k"))
    };
    let first = stop(&house).await.data(200);
    house
        .post(&format!("{base}/resume"), &json!({}))
        .await
        .data(200);
    let house = house.restarted().await;
    assert_eq!(stop(&house).await.data(200), first);
    let health = house
        .get(&format!("{base}/container/health"))
        .await
        .data(200);
    assert_eq!(
        health["paused"],
        Value::Null,
        "it was not carried out again"
    );
}

#[tokio::test]
async fn a_page_that_waits_for_a_change_learns_of_a_towns_pause() {
    let house = House::new().await;
    let town = house
        .post("/api/users/ann/towns", &json!({"name": "t"}))
        .await;
    let pause = format!("/api/towns/{}/pause", text(&town.data(201)["id"]));
    let version = house.get("/api/snapshot").await.data(200)["version"].clone();
    // Longer than a client of these tests waits at all.
    let path = format!("/api/snapshot?after={}&wait_ms=30000", text(&version));
    let began = std::time::Instant::now();
    let nothing = json!({});
    let (seen, held) = tokio::join!(house.get(&path), house.post(&pause, &nothing));
    let seen = seen.data(200);
    assert_ne!(seen["version"], version, "after {:?}", began.elapsed());
    assert_eq!(seen["towns"][0]["paused"], held.data(200)["paused"]);
}

#[tokio::test]
async fn an_unknown_town_is_told_after_the_body() {
    let house = House::new().await;
    let base = "/api/towns/nowhere";
    for rest in ["breakers", "policy", "budget"] {
        let answer = house.get(&format!("{base}/{rest}")).await;
        assert_eq!(answer.error(404), "Town not found");
    }
    for rest in ["pause", "stop", "resume", "breakers/reset"] {
        let answer = house.post(&format!("{base}/{rest}"), &json!({})).await;
        assert_eq!(answer.error(404), "Town not found", "{rest}");
    }
    for rest in ["policy", "budget"] {
        let put = |body: Value| send(house.admin("PUT", &format!("{base}/{rest}")).json(&body));
        put(json!({"day": 7})).await.error(400);
        put(json!({})).await.error(404);
    }
}
