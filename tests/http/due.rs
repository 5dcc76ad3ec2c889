//! Many rigs due at one time: what clients wait meanwhile. (B17)

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Stage, TOKEN};

const RIGS: usize = 50;
/// What a client should wait at the most while they fire.
const P99: Duration = Duration::from_millis(200);
/// Tests share a small machine with others and are built without optimization.
const SLACK: u32 = 5;

/// A breaker that was tried again and again.
const TRIPS: u64 = 4;

#[tokio::test]
async fn clients_are_answered_while_fifty_rigs_are_due_together() {
    let stage = Stage::new().await;
    let nowhere = stage.house.dir().join("nowhere");
    let policy = json!({"cooldown_ms": 1_000, "cooldown_max_ms": 1_000});
    let mut rigs = Vec::new();
    for _ in 0..RIGS {
        let rig = stage.rig_on(TOKEN, &nowhere).await;
        stage.put(&format!("/api/rigs/{rig}/policy"), &policy).await;
        stage.sling(&rig, "[[fake: ok]]").await;
        rigs.push(rig);
    }
    // Whatever is due by then fires in the same moment.
    let stage = stage.restarted().await;
    let (mut waited, mut fired) = (Vec::new(), vec![0; RIGS]);
    let first = trips(&stage, &rigs[0]).await.0;
    let rounds = async {
        while fired.iter().any(|trips| *trips < first + TRIPS) {
            for (rig, fired) in rigs.iter().zip(&mut fired) {
                let (trips, took) = trips(&stage, rig).await;
                *fired = trips;
                waited.push(took);
            }
            // One that is stored before it is answered.
            let began = Instant::now();
            stage.house.bead("another", "meanwhile").await;
            waited.push(began.elapsed());
        }
    };
    let met = timeout(PATIENCE, rounds).await;
    assert!(
        met.is_ok(),
        "not all of them fire again and again: {fired:?}"
    );
    waited.sort_unstable();
    let p99 = waited[waited.len() * 99 / 100];
    println!(
        "{} requests while {RIGS} rigs are due together: p99 {p99:?}",
        waited.len()
    );
    assert!(
        waited.len() >= 200,
        "{} requests say too little",
        waited.len()
    );
    assert!(p99 < P99 * SLACK, "p99 {p99:?}");
    stage.end().await;
}

/// How often that rig's breaker has opened, and how long the answer took.
async fn trips(stage: &Stage, rig: &str) -> (u64, Duration) {
    let began = Instant::now();
    let breaker = stage.get(&format!("/api/rigs/{rig}/breaker")).await;
    (breaker["trips"].as_u64().unwrap(), began.elapsed())
}
