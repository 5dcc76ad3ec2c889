//! The end of the server: what starts, works or is quiet when SIGTERM comes, and a second signal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rig::{Bead, BeadId, Class, NewBead, Outcome, Phase, Policy, Resolution, Rig, Status};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{OneRig, Town, command::Up, git, quick, scripted};

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

/// The one worktree of that rig.
fn worktree(rig: &OneRig) -> PathBuf {
    let all = std::fs::read_dir(rig.clone.with_file_name("worktrees")).unwrap();
    let mut all: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn assert_worked(bead: &Bead) {
    assert_eq!(bead.status(), Status::Closed, "{bead:#?}");
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::Worked,
            ..
        }
    ));
}

/// It was stopped in its work: not charged, and its change lies under a ref.
fn assert_interrupted(bead: &Bead, rig: &OneRig) {
    assert!(interrupted(bead), "{bead:#?}");
    assert_eq!(bead.numbers.failures, 0, "an interruption is not charged");
    let saved = format!("refs/wellhead/saved/{}/1", bead.id);
    let shown = git(&rig.clone, &["show", "--name-only", "--format=", &saved]);
    assert!(shown.contains("half-done.txt"), "{shown}");
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
    std::fs::write(worktree(&busy).join("half-done.txt"), "half").unwrap();
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
    assert_worked(&bead);
    let bead = next
        .rig(&busy.id)
        .unwrap()
        .bead(&hung.id)
        .await
        .unwrap()
        .unwrap();
    assert_interrupted(&bead, &busy);
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

/// The command with one agent in each state: one is done and only waits for its turn to stay
/// quiet, one works with a change that it has not committed, one is only about to start.
struct Three {
    town: Town,
    up: Up,
    quiet: Job,
    busy: Job,
    starting: Job,
}

/// A rig with one bead.
struct Job {
    rig: OneRig,
    bead: BeadId,
}

impl Job {
    async fn sling(up: &Up, rig: OneRig, behaviour: &str) -> (Self, String) {
        let new = scripted(behaviour);
        let body = json!({"title": new.title, "body": new.body});
        let path = format!("/api/rigs/{}/sling", rig.id);
        let slung = up.post(&path, &body, 201).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let bead = text(&slung["bead"]["id"]).try_into().unwrap();
        (Self { rig, bead }, text(&slung["agent"]["id"]))
    }

    /// The bead as it is stored, seen by the next start.
    async fn stored(&self, next: &runtime::Runtime) -> Bead {
        let rig = next.rig(&self.rig.id).unwrap();
        rig.bead(&self.bead).await.unwrap().unwrap()
    }
}

impl Three {
    async fn start() -> Self {
        let town = Town::start().await;
        let patient = Policy {
            idle_grace_ms: 600_000,
            ..quick()
        };
        let credentials = town.credentials().await;
        let config = town.config(credentials);
        let quiet = town.rig(config.clone(), patient).await;
        let busy = town.rig(config, quick()).await;
        // Credentials of its own, and with them a server of its own, which is held at its start.
        let starting = town.working_rig(quick()).await;
        town.runtime.stop(Duration::ZERO).await;
        let held = HeldKilo::new(town.dir.path()).await;
        let up = Up::start(town.runtime.data_dir(), &held.program).await;

        let (quiet, quiet_agent) = Job::sling(&up, quiet, "commit").await;
        let (busy, _) = Job::sling(&up, busy, "hang").await;
        let works = |bead: &Value| bead["session_id"].is_string();
        up.until_bead(busy.bead.as_str(), "live session", works)
            .await;
        std::fs::write(worktree(&busy.rig).join("half-done.txt"), "half").unwrap();
        let path = format!(
            "/api/towns/{}/container/agents/{quiet_agent}/status",
            town.id
        );
        let turned = |agent: &Value| agent["messageCount"] == 1;
        let agent = up.until(&path, "completed turn", turned).await;
        assert_eq!(agent["status"], "running", "it waits in its idle grace");
        held.hold();
        let (starting, _) = Job::sling(&up, starting, "commit").await;
        held.until_held().await;
        let dispatched = |bead: &Value| bead["dispatches"] == 1 && bead["session_id"].is_null();
        up.until_bead(starting.bead.as_str(), "start under way", dispatched)
            .await;
        Self {
            town,
            up,
            quiet,
            busy,
            starting,
        }
    }

    fn assert_nothing_is_left(&self) {
        let left = kilo::marked(&self.town.runtime.marker());
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

/// The real kilo; a server of it that is started while it is held never becomes ready.
struct HeldKilo {
    program: PathBuf,
    hold: PathBuf,
    begun: PathBuf,
}

impl HeldKilo {
    async fn new(dir: &Path) -> Self {
        let (program, hold, begun) = (dir.join("kilo"), dir.join("hold"), dir.join("begun"));
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = serve ] && [ -e '{}' ]; then\n  : > '{}'\n  exec sleep 600\nfi\n\
             exec '{}' \"$@\"\n",
            hold.display(),
            begun.display(),
            support::kilo_program().await.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        Self {
            program,
            hold,
            begun,
        }
    }

    fn hold(&self) {
        std::fs::write(&self.hold, "").unwrap();
    }

    /// Waits until a server has begun to start.
    async fn until_held(&self) {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            while !self.begun.exists() {
                tick.tick().await;
            }
        };
        let held = tokio::time::timeout(support::PATIENCE, wait).await;
        held.expect("a server starts");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sigterm_drains_all_three_states_and_ends_with_zero() {
    let mut three = Three::start().await;
    let began = Instant::now();
    three.up.signal(Signal::TERM);
    let status = three.up.ended(Duration::from_secs(22)).await;
    assert_eq!(status.expect("within the deadline").code(), Some(0));
    assert!(
        began.elapsed() > Duration::from_secs(1),
        "who works got no time at all"
    );
    three.assert_nothing_is_left();

    let (next, town) = reopened(three.town).await;
    assert_worked(&three.quiet.stored(&next).await);
    assert_interrupted(&three.busy.stored(&next).await, &three.busy.rig);
    let late = three.starting.stored(&next).await;
    assert!(interrupted(&late), "{late:#?}");
    assert_eq!(late.attempts[0].session, None, "it had only begun to start");
    let late = town.until_terminal_of(&next, &three.starting.rig.id, &late.id);
    let late = late.await;
    assert_worked(&late);
    assert_eq!(late.numbers.failures, 0, "{late:#?}");
    next.stop(Duration::from_secs(10)).await;
    town.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_all_three_states_within_two_seconds() {
    let mut three = Three::start().await;
    three.up.signal(Signal::TERM);
    // Two of the same signal at once are one: the second comes when the first is worked on.
    let early = three.up.ended(Duration::from_millis(500)).await;
    assert_eq!(early, None, "who works keeps it from ending");
    let began = Instant::now();
    three.up.signal(Signal::TERM);
    let status = three.up.ended(Duration::from_secs(10)).await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_ne!(status.expect("an end").code(), Some(0), "it was cut");
    three.assert_nothing_is_left();

    // Cut as it was, nothing is charged and no work is gone.
    let (next, town) = reopened(three.town).await;
    for job in [&three.quiet, &three.busy, &three.starting] {
        let bead = job.stored(&next).await;
        assert_eq!(bead.numbers.failures, 0, "{bead:#?}");
        assert_ne!(bead.status(), Status::Failed);
    }
    assert!(worktree(&three.busy.rig).join("half-done.txt").exists());
    let branch = format!("gt/amber/{}", three.quiet.bead);
    town.until_commit(&three.quiet.rig, &branch).await;
    let late = town.until_terminal_of(&next, &three.starting.rig.id, &three.starting.bead);
    assert_worked(&late.await);
    next.stop(Duration::from_secs(10)).await;
    town.gateway.stop().await;
}
