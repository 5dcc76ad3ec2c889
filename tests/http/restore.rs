//! Reports of a life that a restored backup knows nothing of. (D13)

use std::{process::Stdio, time::Duration};

use runtime::backup;
use serde_json::json;
use tokio::{process::Command, time::timeout};

use crate::live::Live;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_was_dispatched_after_the_backup_reports_in_vain_once_it_is_restored() {
    let live = Live::hooked(|settings| settings).await;
    let file = live.house.dir().join("town.backup");
    let live = live
        .restarted_after(|data| {
            backup::save(data, &file).unwrap();
        })
        .await;
    // The life that will be forgotten: it dispatches, and a process of it is left.
    let forgotten = live.dispatched_beyond("").await;
    live.report(&forgotten, "/heartbeat").await.data(200);
    let mut child = Command::new("sleep")
        .arg("600")
        .envs(live.house.runtime.marker())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let dir = live.house.dir().to_owned();
    let live = live
        .restarted_after(|data| {
            std::fs::rename(data.join("store"), dir.join("forgotten")).unwrap();
            backup::restore(&file, data).unwrap();
        })
        .await;
    let ended = timeout(SOON, child.wait()).await.expect("it is ended");
    assert!(!ended.unwrap().success());

    let current = live.dispatched_beyond("").await;
    assert_ne!(current, forgotten, "a number was given out twice");
    for rest in ["/heartbeat", "/done", "/completed"] {
        let late = live.report(&forgotten, rest).await;
        late.error(409);
        assert_eq!(late.code(), "stale_dispatch", "{rest}");
    }
    let bead = live.bead().await;
    assert_eq!(bead["dispatch_id"], json!(current));
    assert_eq!(
        bead["dispatches"],
        json!(1),
        "numbers left out do not count"
    );
    live.report(&current, "/heartbeat").await.data(200);
    live.end().await;
}
