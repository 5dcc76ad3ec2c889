//! The end of the server: what starts, works or is quiet when SIGTERM comes, and a second signal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use rig::{Bead, Class, Outcome, Phase, Policy, Resolution, Rig, Status};
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
