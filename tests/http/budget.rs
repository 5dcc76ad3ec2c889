//! Budgets over the wire: read, set, reached, raised.

use serde_json::{Value, json};

use crate::{
    house::{House, send, text},
    stage::{Stage, TOKEN, types},
};

const R: &str = "/api/rigs/rig-1/budget";

#[tokio::test]
async fn a_budget_is_read_replaced_and_checked() {
    let house = House::new().await;
    let put = |body: Value| send(house.admin("PUT", R).json(&body));
    let none = json!({"usd": null, "tokens": null});
    let fresh = house.get(R).await.data(200);
    assert_eq!(
        (&fresh["bead"], &fresh["day"], &fresh["remaining"]),
        (&none, &none, &none)
    );
    assert_eq!(
        (&fresh["warned"], &fresh["stopped"]),
        (&json!(false), &json!(false))
    );
    let nothing = json!({
        "input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0, "estimated": false,
    });
    let spent = &fresh["spent"];
    assert_eq!((&spent["today"], &spent["total"]), (&nothing, &nothing));
    assert_eq!(text(&spent["utc_day"]).len(), "2026-01-31".len());
    let body = json!({
        "bead": {"usd": 0.5, "other": 1}, "day": {"usd": 10, "tokens": 1_000}, "unknown": true,
    });
    let set = put(body.clone()).await.data(200);
    assert_eq!(set["bead"], json!({"usd": 0.5, "tokens": null}));
    assert_eq!(set["remaining"], json!({"usd": 10.0, "tokens": 1_000}));
    put(body).await.data(200);
    for (body, issues) in [
        (json!({"day": {"usd": -0.01}}), vec!["day.usd"]),
        (
            json!({"day": {"usd": "5"}, "bead": {"tokens": -1}}),
            vec!["bead.tokens", "day.usd"],
        ),
        (json!({"bead": {"tokens": 0.5}}), vec!["bead.tokens"]),
        (json!({"bead": 5, "day": [1]}), vec!["bead", "day"]),
    ] {
        let refused = put(body.clone()).await;
        refused.error(400);
        assert_eq!(refused.issues(), issues, "{body}");
    }
    for not_json in ["{\"day\":{\"usd\":NaN}}", "{\"day\":{\"usd\":1e999}}"] {
        send(house.admin("PUT", R).body(not_json)).await.error(400);
    }
    assert_eq!(
        house.get(R).await.data(200),
        set,
        "a refused budget changes nothing"
    );
    let events = house.get("/api/rigs/rig-1/events").await.data(200);
    assert_eq!(types(&events), ["budget_set"], "the same again is no news");
    assert_eq!(events[0]["metadata"]["by"], "admin");
    let house = house.restarted().await;
    assert_eq!(house.get(R).await.data(200), set);
}

/// The bead waits for money until the next UTC day, and everything that shows it says the same.
async fn assert_waits_for_tomorrow(stage: &Stage, bead: &str, cause: &str) {
    let waits = |bead: &Value| bead["waiting_on"] == "budget";
    let seen = stage.until(bead, "bead that waits for money", waits).await;
    assert!(
        text(&seen["next_attempt_at"]).ends_with("T00:00:00.000Z"),
        "{seen:#}"
    );
    let why = stage.get(&format!("{bead}/explain")).await;
    assert_eq!(why["at"], seen["next_attempt_at"]);
    assert!(text(&why["cause"]).contains(cause), "{why}");
}

/// What was spent has reached its limit.
async fn assert_stopped(stage: &Stage, path: &str) {
    let is_stopped = |budget: &Value| budget["stopped"] == true;
    let budget = stage.until(path, "used budget", is_stopped).await;
    assert_eq!(
        (&budget["warned"], &budget["remaining"]["tokens"]),
        (&json!(true), &json!(0))
    );
    let today = &budget["spent"]["today"];
    assert!(today["input_tokens"].as_u64() >= Some(100), "{budget:#}");
    assert!(today["estimated"].is_boolean());
}

#[tokio::test]
async fn a_rigs_day_is_used_up_and_goes_on_when_the_budget_is_raised() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let path = format!("/api/rigs/{rig}/budget");
    stage.put(&path, &json!({"day": {"tokens": 50}})).await;
    let first = stage.sling(&rig, "[[fake: ok]]").await;
    assert_stopped(&stage, &path).await;
    let second = stage.sling(&rig, "[[fake: ok]]").await;
    assert_waits_for_tomorrow(&stage, &second, "the rig's budget of the day").await;
    let shown = stage.get("/api/snapshot").await;
    assert_eq!(shown["rigs"][0]["budget"], stage.get(&path).await);
    let open = stage.get("/api/escalations").await;
    assert_eq!(
        (&open[0]["cause"], &open[1]),
        (&json!("budget:rig"), &Value::Null)
    );
    let raised = stage.put(&path, &json!({})).await;
    assert_eq!(
        (&raised["stopped"], &raised["remaining"]["tokens"]),
        (&json!(false), &Value::Null)
    );
    for bead in [&first, &second] {
        stage.until_closed(bead).await;
    }
    assert_eq!(stage.get("/api/escalations").await, json!([]));
    stage.end().await;
}

#[tokio::test]
async fn a_towns_day_is_used_up_and_goes_on_when_the_budget_is_raised() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let path = format!("/api/towns/{}/budget", stage.town);
    stage.put(&path, &json!({"day": {"tokens": 50}})).await;
    let first = stage.sling(&rig, "[[fake: ok]]").await;
    assert_stopped(&stage, &path).await;
    let second = stage.sling(&rig, "[[fake: ok]]").await;
    assert_waits_for_tomorrow(&stage, &second, "the town's budget of the day").await;
    let shown = stage.get("/api/snapshot").await;
    assert_eq!(shown["towns"][0]["budget"], stage.get(&path).await);
    stage
        .put(&path, &json!({"day": {"tokens": 1_000_000}}))
        .await;
    for bead in [&first, &second] {
        stage.until_closed(bead).await;
    }
    stage.end().await;
}

#[tokio::test]
async fn a_bead_beyond_its_own_budget_waits_for_a_person() {
    let stage = Stage::new().await;
    let rig = stage.rig(TOKEN).await;
    let path = format!("/api/rigs/{rig}/budget");
    stage.put(&path, &json!({"bead": {"tokens": 50}})).await;
    // A step that is paid for, then an error: without a budget it would be tried again.
    let bead = stage
        .sling(&rig, "[[fake: sh true]] [[fake: malformed]]")
        .await;
    let waits = |bead: &Value| bead["waiting_on"] == "budget";
    let parked = stage.until(&bead, "parked bead", waits).await;
    assert_eq!(
        (&parked["next_attempt_at"], &parked["dispatches"]),
        (&Value::Null, &json!(1)),
        "time does not end it"
    );
    let why = stage.get(&format!("{bead}/explain")).await;
    assert_eq!(why["at"], Value::Null);
    assert!(text(&why["cause"]).contains("its own budget"), "{why}");
    let attempts = stage.get(&format!("{bead}/attempts")).await;
    assert!(
        attempts[0]["usage"]["estimated"].is_boolean(),
        "{attempts:#}"
    );
    stage
        .put(&path, &json!({"bead": {"tokens": 1_000_000}}))
        .await;
    let goes_on = |bead: &Value| bead["dispatches"].as_u64() > Some(1);
    stage.until(&bead, "second dispatch", goes_on).await;
    stage.end().await;
}
