//! A disk that is full or gone under a running server: what clients are told, what is not begun,
//! and how it goes on. (D1, D8) A full disk is a real file system of some megabytes.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::time::timeout;

use crate::{
    house::{Answer, House, send},
    live::{Live, passed},
    tiny::Tiny,
};

const SOON: Duration = Duration::from_secs(40);

fn data(tiny: &Tiny) -> PathBuf {
    tiny.path().join("data")
}

async fn ready(house: &House) -> Answer {
    send(house.bare("GET", "/readyz")).await
}

/// Asks until it is ready, which only time brings.
async fn until_ready(house: &House) {
    let begun = Instant::now();
    while ready(house).await.status != 200 {
        assert!(begun.elapsed() < SOON, "still not ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn full_is_told_with_path_and_room_and_passes_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = Tiny::over(dir.path());
    let house = House::with(
        |settings| runtime::Settings {
            data_dir: data(&tiny),
            ..settings
        },
        |facade| facade,
    )
    .await;
    house.bead("orders", "before").await;
    assert_eq!(ready(&house).await.status, 200);
    tiny.fill();
    let path = "/api/rigs/orders/beads";
    let body = json!({"type": "issue", "title": "while it is full"});
    let refused = house.post(path, &body).await;
    let sentence = refused.error(507);
    assert_eq!(refused.code(), "disk_full");
    let store = data(&tiny).join("store");
    for words in [store.to_str().unwrap(), "bytes are free", "free space"] {
        assert!(sentence.contains(words), "{sentence}");
    }
    let told = ready(&house).await;
    assert_eq!((told.status, told.code()), (503, "disk_full"));
    assert!(
        !told.text.contains(store.to_str().unwrap()),
        "{}",
        told.text
    );
    let beads = house.get(path).await.data(200);
    assert_eq!(beads.as_array().unwrap().len(), 1, "{beads}");
    tiny.free();
    until_ready(&house).await;
    house.post(path, &body).await.data(201);
    assert_eq!(house.get(path).await.data(200).as_array().unwrap().len(), 2);
    house.facade.stop().await;
    house.runtime.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn full_lets_nothing_be_dispatched_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = Tiny::over(dir.path());
    let live = Live::hooked(|settings| runtime::Settings {
        data_dir: data(&tiny),
        ..settings
    })
    .await;
    let stub = live.stub();
    let mut changes = live.house.runtime.changes();
    let asked = timeout(SOON, async {
        loop {
            let no = stub.look(|rig, _| rig.record().preflight_no).await.unwrap();
            if no >= 2 {
                return no;
            }
            changes.changed().await.unwrap();
        }
    });
    let no = asked.await.expect("the container starts");
    tiny.fill();
    // What would dispatch the bead has to be stored first.
    let refused = stub.tell(passed(no)).await.unwrap_err();
    assert!(
        matches!(&refused, runtime::Error::Store(error) if error.is_full()),
        "{refused}"
    );
    let bead = live.bead().await;
    assert_eq!(
        (&bead["dispatch_id"], &bead["dispatches"]),
        (&json!(null), &json!(0))
    );
    assert!(live.aboard().await.is_empty());
    tiny.free();
    until_ready(&live.house).await;
    live.dispatched_beyond("").await;
    live.end().await;
}

/// Stands for a child: whatever carries our marker.
fn child(house: &House) -> tokio::process::Child {
    tokio::process::Command::new("sleep")
        .arg("600")
        .envs(house.runtime.marker())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn take_away(store: &Path) {
    std::fs::remove_dir_all(store).unwrap();
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_and_what_runs_is_ended() {
    let house = House::new().await;
    house.bead("orders", "before").await;
    let mut child = child(&house);
    take_away(&house.runtime.data_dir().join("store"));
    let body = json!({"type": "issue", "title": "after"});
    let unknown = house.post("/api/rigs/orders/beads", &body).await;
    unknown.error(503);
    assert_eq!(unknown.code(), "outcome_unknown");
    let told = ready(&house).await;
    assert_eq!((told.status, told.code()), (503, "store_failed"));
    let reason = house.runtime.fatal().borrow().clone().unwrap();
    assert!(reason.contains("deleted while it was in use"), "{reason}");
    let ended = timeout(SOON, child.wait()).await.expect("it is ended");
    assert!(!ended.unwrap().success());
    house.facade.stop().await;
    house.runtime.stop(Duration::ZERO).await;
}
