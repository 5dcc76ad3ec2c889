//! `wellhead backup` and `wellhead restore`: a town goes into a file and comes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use rig::NewBead;
use runtime::{Runtime, Settings};
use tokio::process::Command;

const SOON: Duration = Duration::from_mins(1);

async fn wellhead(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .args(args)
        .arg("--data-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    tokio::time::timeout(SOON, command.output())
        .await
        .expect("the command ends")
        .unwrap()
}

#[track_caller]
fn failed(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{text}");
}

async fn town(dir: &Path) -> Runtime {
    tokio::time::timeout(SOON, Runtime::start(Settings::new(dir)))
        .await
        .expect("it starts")
        .unwrap()
}

async fn end(town: Runtime) {
    tokio::time::timeout(SOON, town.stop(Duration::ZERO))
        .await
        .expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_town_goes_into_a_file_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    let file = root.path().join("town.backup");
    let name = file.to_str().unwrap();
    failed(&wellhead(&["backup", name], &old).await, 2, "no store");
    assert!(!old.exists(), "a look must not make a directory");

    let running = town(&old).await;
    let rig = running
        .rig(&"orders".to_owned().try_into().unwrap())
        .unwrap();
    let (bead, _) = rig.sling(NewBead::issue("Keep this")).await.unwrap();
    let holder = format!("process {}", std::process::id());
    failed(&wellhead(&["backup", name], &old).await, 4, &holder);
    end(running).await;

    let saved = wellhead(&["backup", "--json", name], &old).await;
    assert!(saved.status.success(), "{saved:?}");
    let told: serde_json::Value = serde_json::from_slice(&saved.stdout).unwrap();
    assert!(told["records"].as_u64().unwrap() > 2, "{told}");
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    failed(&wellhead(&["backup", name], &old).await, 4, "exists");
    failed(
        &wellhead(&["restore", name], &old).await,
        4,
        "holds a store",
    );

    let restored = wellhead(&["restore", name], &new).await;
    assert!(restored.status.success(), "{restored:?}");
    let running = town(&new).await;
    let rig = running
        .rig(&"orders".to_owned().try_into().unwrap())
        .unwrap();
    assert_eq!(
        rig.bead(&bead.id).await.unwrap().unwrap().title,
        "Keep this"
    );
    end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_makes_no_data_directory() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    end(town(&old).await).await;
    let file = root.path().join("town.backup");
    let name = file.to_str().unwrap();
    assert!(wellhead(&["backup", name], &old).await.status.success());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    failed(
        &wellhead(&["restore", name], &new).await,
        1,
        "cannot be used",
    );
    assert!(!new.exists());
}
