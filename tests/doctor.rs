//! `wellhead doctor`: each check on machines and data directories that were tampered with.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    fs::File,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use wellhead::gateway::{Gateway, GatewaySettings, Script};

const SOON: Duration = Duration::from_mins(1);
const KILO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake-kilo.mjs");
const CANARY: &str = "canary-5d1e7c3a9b";
const CHECKS: [&str; 12] = [
    "platform",
    "git",
    "kilo",
    "login",
    "node",
    "npm",
    "data dir",
    "leftovers",
    "port",
    "disk",
    "filesystem",
    "clock",
];

/// What the doctor found.
struct Report {
    exit: Option<i32>,
    text: String,
    all: Value,
}

impl Report {
    #[track_caller]
    fn of(&self, check: &str) -> (&str, &str, &str) {
        let mut findings = self.all["findings"].as_array().unwrap().iter();
        let found = findings.find(|one| one["check"] == check).unwrap();
        let word = |key: &str| found[key].as_str().unwrap_or_default();
        (word("level"), word("text"), word("fix"))
    }

    #[track_caller]
    fn shows(&self, check: &str, level: &str, words: &str) {
        let (is, text, fix) = self.of(check);
        assert_eq!(is, level, "{check}: {text}");
        assert!(text.contains(words), "{check}: {text}");
        assert_eq!(fix.is_empty(), level == "ok", "{check}: {fix}");
    }
}

/// A doctor on a directory, without credentials, on a free port, with a kilo that works.
fn doctor(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .args([
            "doctor",
            "--json",
            "--listen",
            "127.0.0.1:0",
            "--kilo",
            KILO,
        ])
        .arg("--data-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for name in ["KILO_API_URL", "KILOCODE_TOKEN", "KILO_API_KEY"] {
        command.env_remove(name);
    }
    command
}

async fn report(command: &mut Command) -> Report {
    let output = tokio::time::timeout(SOON, command.output())
        .await
        .expect("the doctor ends")
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let all = serde_json::from_str(&text).unwrap_or_default();
    let exit = output.status.code();
    Report { exit, text, all }
}

/// A data directory of ours that nobody uses.
fn ours() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let marker = r#"{"format":1,"instance":"doctor-test-instance"}"#;
    std::fs::write(dir.path().join("wellhead.json"), marker).unwrap();
    dir
}

#[tokio::test]
async fn a_fit_machine_passes_every_check() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let report = report(&mut doctor(&data)).await;
    assert_eq!(report.exit, Some(0), "{}", report.text);
    for check in CHECKS {
        assert_ne!(report.of(check).0, "fail", "{check}");
    }
    report.shows("kilo", "ok", "7.7.7");
    report.shows("login", "warn", "KILOCODE_TOKEN is not set");
    assert!(!data.exists(), "it only looks");
}

/// D12: memory stands here for what a test can not mount; each kind has its unit test.
#[tokio::test]
async fn a_filesystem_that_keeps_no_promises_is_warned_about() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let report = report(&mut doctor(&dir.path().join("data"))).await;
    report.shows("filesystem", "warn", "lies on tmpfs: it is memory");
    assert_eq!(report.exit, Some(0), "{}", report.text);
}

#[tokio::test]
async fn without_programs_it_says_so_and_goes_on() {
    let (dir, empty) = (ours(), tempfile::tempdir().unwrap());
    let missing = empty.path().join("kilo");
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .args(["doctor", "--json", "--listen", "127.0.0.1:0", "--kilo"])
        .arg(&missing)
        .arg("--data-dir")
        .arg(dir.path())
        .env("PATH", empty.path());
    let report = report(&mut command).await;
    assert_eq!(report.exit, Some(1));
    report.shows("git", "fail", "not on the PATH");
    report.shows("kilo", "fail", "does not exist");
    assert_eq!(report.of("kilo").2, "npm install -g @kilocode/cli@7.7.7");
    report.shows("node", "warn", "not on the PATH");
    report.shows("npm", "warn", "not on the PATH");
    report.shows("data dir", "ok", "is ours");
    let made = report.all["findings"].as_array().unwrap().len();
    assert_eq!(made, CHECKS.len(), "the others are made all the same");
}

#[tokio::test]
async fn an_old_git_fails() {
    let (dir, bin) = (ours(), tempfile::tempdir().unwrap());
    let git = bin.path().join("git");
    std::fs::write(&git, "#!/bin/sh\necho git version 2.27.9\n").unwrap();
    std::fs::set_permissions(&git, PermissionsExt::from_mode(0o755)).unwrap();
    let report = report(doctor(dir.path()).env("PATH", bin.path())).await;
    report.shows("git", "fail", "2.27.9 is older than 2.28");
}

#[tokio::test]
async fn directories_that_can_not_be_used_fail() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a-letter"), "dear reader").unwrap();
    let foreign = report(&mut doctor(dir.path())).await;
    assert_eq!(foreign.exit, Some(1));
    foreign.shows("data dir", "fail", "holds other files");
    let orphan = report(&mut doctor(&dir.path().join("no/where"))).await;
    orphan.shows("data dir", "fail", "does not exist");
    assert!(orphan.of("data dir").2.starts_with("mkdir -p"));
    std::fs::write(dir.path().join("wellhead.json"), r#"{"format":99}"#).unwrap();
    let newer = report(&mut doctor(dir.path())).await;
    newer.shows("data dir", "fail", "newer wellhead");
}

#[tokio::test]
async fn leftovers_are_named_unless_their_owner_lives() {
    let dir = ours();
    let mut left = Command::new("sleep");
    left.arg("600")
        .env("WELLHEAD_INSTANCE", "doctor-test-instance");
    let mut left = left.kill_on_drop(true).spawn().unwrap();
    let pid = left.id().unwrap().to_string();
    let dead = report(&mut doctor(dir.path())).await;
    dead.shows("leftovers", "warn", "1 processes outlived their owner");
    assert_eq!(dead.of("leftovers").2, format!("kill {pid}"));
    assert_eq!(dead.exit, Some(0), "a warning is no failure");

    std::fs::write(dir.path().join("lock"), "4711\n").unwrap();
    let lock = File::open(dir.path().join("lock")).unwrap();
    lock.lock().unwrap();
    let held = report(&mut doctor(dir.path())).await;
    held.shows("data dir", "ok", "process 4711");
    held.shows("leftovers", "ok", "1 processes");
    left.kill().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_and_a_clock_that_is_behind_fail() {
    let dir = ours();
    let mut options = File::options();
    let marker = options.append(true).open(dir.path().join("wellhead.json"));
    marker
        .unwrap()
        .set_modified(SystemTime::now() + Duration::from_hours(2))
        .unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    let address = taken.local_addr().unwrap().to_string();
    command.args([
        "doctor",
        "--json",
        "--kilo",
        KILO,
        "--listen",
        &address,
        "--data-dir",
    ]);
    let report = report(command.arg(dir.path())).await;
    assert_eq!(report.exit, Some(1));
    report.shows("port", "fail", &address);
    report.shows("clock", "fail", "behind the newest file");
}

#[tokio::test]
async fn the_gateway_is_asked_for_the_login() {
    let dir = ours();
    let settings = GatewaySettings::new(CANARY.to_owned().into());
    let gateway = Gateway::start(Script::default(), settings).await.unwrap();
    let ask = |token: &str, more: &'static [&str]| {
        let mut command = doctor(dir.path());
        command.env("KILO_API_URL", gateway.url());
        command.env("KILOCODE_TOKEN", token).args(more);
        command
    };
    let right = report(&mut ask(CANARY, &[])).await;
    right.shows("login", "ok", "takes the token");
    let wrong = report(&mut ask("canary-of-another", &[])).await;
    wrong.shows("login", "fail", "");
    assert_eq!(wrong.exit, Some(1));
    gateway.set_down(true).await.unwrap();
    let down = report(&mut ask(CANARY, &[])).await;
    down.shows("login", "fail", "");
    let offline = report(&mut ask(CANARY, &["--offline"])).await;
    offline.shows("login", "ok", "was not asked");
    for report in [right, wrong, down, offline] {
        assert!(!report.text.contains("canary-"), "a token was printed");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn people_get_one_line_and_the_command_that_mends_it() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a-letter"), "dear reader").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command.args(["doctor", "--offline", "--kilo", KILO, "--data-dir"]);
    let report = report(command.arg(dir.path())).await;
    assert_eq!(report.exit, Some(1));
    let mut lines = report.text.lines();
    lines
        .find(|line| line.starts_with("fail  data dir: "))
        .unwrap();
    assert!(
        lines.next().unwrap().starts_with("      fix: "),
        "{}",
        report.text
    );
}
