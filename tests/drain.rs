//! The end of the server: what starts, works or is quiet when SIGTERM comes, and a second signal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use rig::{Bead, Class, NewBead, Outcome, Phase, Policy, Resolution, Rig, Status};
use support::{Town, git, quick, scripted};

/// The rig as it is stored, seen by the next start.
async fn reopened(town: Town) -> (runtime::Runtime, Town) {
    let data = town.runtime.data_dir().to_owned();
    let mut settings = runtime::Settings::new(data);
    settings.kilo_install = Some(support::kilo_install().await);
    (runtime::Runtime::start(settings).await.unwrap(), town)
}

fn works(id: &rig::BeadId) -> impl Fn(&Rig) -> Option<()> + Clone + Send + 'static {
    let id = id.clone();
    move |rig| matches!(rig.bead(&id)?.phase, Phase::Working { .. }).then_some(())
}

fn interrupted(bead: &Bead) -> bool {
    bead.attempts.iter().any(|attempt| {
        matches!(&attempt.outcome, Outcome::Failed { failure, .. }
            if failure.class == Class::Interrupted)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_the_quiet_finish_and_saves_what_works() {
    let town = Town::start().await;
    // One agent is done and only waits for its turn to stay quiet.
    let patient = Policy {
        idle_grace_ms: 600_000,
        ..quick()
    };
    let quiet = town.working_rig(patient).await;
    let (done, _) = quiet.rig.sling(scripted("commit")).await.unwrap();
    town.until(&quiet.rig, "working bead", works(&done.id))
        .await;
    let branch = format!("gt/amber/{}", done.id);
    town.until_commit(&quiet, &branch).await;
    // One works and would go on for ever, with a change that it has not committed.
    let busy = town.working_rig(quick()).await;
    let (hung, _) = busy.rig.sling(scripted("hang")).await.unwrap();
    town.until(&busy.rig, "working bead", works(&hung.id)).await;
    let worktrees = busy.clone.with_file_name("worktrees");
    let worktree = std::fs::read_dir(worktrees)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::write(worktree.join("half-done.txt"), "half").unwrap();
    // One is only about to start.
    let starting = town.working_rig(quick()).await;
    let (late, _) = starting.rig.sling(scripted("commit")).await.unwrap();

    let (deadline, began) = (Duration::from_secs(10), Instant::now());
    let marker = town.runtime.marker();
    town.runtime.stop(deadline).await;
    assert!(
        began.elapsed() < deadline + Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(kilo::marked(&marker).is_empty(), "a process is left");

    let (next, town) = reopened(town).await;
    let bead = next
        .rig(&quiet.id)
        .unwrap()
        .bead(&done.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bead.status(), Status::Closed);
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::Worked,
            ..
        }
    ));
    let bead = next
        .rig(&busy.id)
        .unwrap()
        .bead(&hung.id)
        .await
        .unwrap()
        .unwrap();
    assert!(interrupted(&bead), "{bead:#?}");
    assert_eq!(bead.numbers.failures, 0, "an interruption is not charged");
    let saved = format!("refs/wellhead/saved/{}/1", hung.id);
    let shown = git(&busy.clone, &["show", "--name-only", "--format=", &saved]);
    assert!(shown.contains("half-done.txt"), "{shown}");
    // What had only begun to start works after the next start.
    let late = town.until_terminal_of(&next, &starting.id, &late.id).await;
    assert_eq!(late.status(), Status::Closed);
    next.stop(deadline).await;
    town.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_without_any_time_cuts_at_once_and_loses_no_state() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let (bead, _) = rig.rig.sling(scripted("hang")).await.unwrap();
    town.until(&rig.rig, "working bead", works(&bead.id)).await;
    let (began, marker) = (Instant::now(), town.runtime.marker());
    town.runtime.stop(Duration::ZERO).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert!(kilo::marked(&marker).is_empty(), "a process is left");

    let (next, town) = reopened(town).await;
    let rig = next.rig(&rig.id).unwrap();
    let bead = rig.bead(&bead.id).await.unwrap().unwrap();
    assert_eq!(
        (bead.status(), bead.numbers.failures),
        (Status::InProgress, 0)
    );
    next.stop(Duration::from_secs(10)).await;
    town.gateway.stop().await;
}

/// G3: kilo ignores SIGTERM, and its own grace is longer than the whole drain may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_does_not_finish_is_cut_at_its_deadline() {
    let mut town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    town.runtime.stop(Duration::ZERO).await;
    let mut settings = runtime::Settings::new(town.runtime.data_dir());
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    settings.kilo_program = Some(root.join("tests/support/fake-kilo.mjs"));
    town.runtime = runtime::Runtime::start(settings).await.unwrap();
    let stub = town.runtime.rig(&rig.id).unwrap();
    let stubborn = NewBead::issue("stay [[fake: ignore-sigterm]] [[fake: hang]]");
    let (bead, _) = stub.sling(stubborn).await.unwrap();
    town.until(&stub, "working bead", works(&bead.id)).await;
    let (began, marker) = (Instant::now(), town.runtime.marker());
    let stop = town.runtime.stop(Duration::from_secs(1));
    let stopped = tokio::time::timeout(Duration::from_secs(3), stop).await;
    stopped.expect("an end soon after the deadline");
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "kilo did not hold up the drain: {:?}",
        began.elapsed()
    );
    assert!(kilo::marked(&marker).is_empty(), "a process is left");
    town.gateway.stop().await;
}

/// The command on a directory whose one bead is dispatched and hangs.
async fn hanging_command() -> (Town, tokio::process::Child) {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    rig.rig.sling(scripted("hang")).await.unwrap();
    town.runtime.stop(Duration::ZERO).await;
    let install = support::kilo_install().await;
    let kilo = wellhead::provision::ensure_kilo(&install, "7.7.7", |_| {});
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command.args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir"]);
    command
        .arg(town.runtime.data_dir())
        .arg("--kilo")
        .arg(kilo.await.unwrap());
    command
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let out = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let ready = tokio::io::AsyncBufReadExt::lines(out)
        .next_line()
        .await
        .unwrap()
        .unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let admin = std::fs::read_to_string(ready["admin_token_file"].as_str().unwrap()).unwrap();
    let url = format!("{}/api/snapshot", ready["url"].as_str().unwrap());
    let mut version = String::new();
    // The long poll is the wait.
    let live = async {
        loop {
            let asked = [("after", version.as_str()), ("wait_ms", "5000")];
            let request = reqwest::Client::new()
                .get(&url)
                .query(&asked)
                .bearer_auth(admin.trim());
            let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
            if answer["data"]["rigs"][0]["beads"][0]["session_id"].is_string() {
                return;
            }
            version = answer["data"]["version"].to_string().replace('"', "");
        }
    };
    tokio::time::timeout(support::PATIENCE, live)
        .await
        .expect("a live session");
    (town, child)
}

fn signal(child: &tokio::process::Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sigterm_drains_and_ends_with_zero() {
    let (town, mut child) = hanging_command().await;
    let began = Instant::now();
    signal(&child, rustix::process::Signal::TERM);
    let status = tokio::time::timeout(Duration::from_secs(25), child.wait()).await;
    assert_eq!(
        status.expect("within the deadline").unwrap().code(),
        Some(0)
    );
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "the agent got no time at all"
    );
    assert!(
        kilo::marked(&town.runtime.marker()).is_empty(),
        "a process is left"
    );
    town.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_within_two_seconds() {
    let (town, mut child) = hanging_command().await;
    signal(&child, rustix::process::Signal::TERM);
    // Two of the same signal at once are one: the second comes when the first is worked on.
    tokio::time::timeout(Duration::from_millis(500), child.wait())
        .await
        .unwrap_err();
    let began = Instant::now();
    signal(&child, rustix::process::Signal::TERM);
    let status = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_ne!(
        status.expect("an end").unwrap().code(),
        Some(0),
        "it was cut"
    );
    assert!(
        kilo::marked(&town.runtime.marker()).is_empty(),
        "a process is left"
    );
    town.gateway.stop().await;
}
