//! Each way in which an agent's work can end, on the real `kilo serve`: the class, the bead's
//! status and its three numbers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use reqwest::Method;
use rig::{Bead, BeadType, Class, CredentialSource, EventType, Phase, Policy, Resolution, Status};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::{CANARY, OneRig, Town, command::Up, contains, files_with, git, quick, scripted};

/// `dispatch_no`, `failures`, `prompts`.
fn numbers(bead: &Bead) -> (u64, u32, u32) {
    (
        bead.numbers.dispatch_no,
        bead.numbers.failures,
        bead.numbers.prompts,
    )
}

fn class(bead: &Bead) -> Option<Class> {
    bead.last_failure.as_ref().map(|last| last.failure.class)
}

async fn slung(town: &Town, rig: &OneRig, behaviour: &str) -> Bead {
    let (bead, _agent) = rig.rig.sling(scripted(behaviour)).await.unwrap();
    town.until_terminal(&rig.rig, &bead.id).await
}

fn once() -> Policy {
    Policy {
        attempts_max: 1,
        ..quick()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_committed_closes_its_bead() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let bead = slung(&town, &rig, "commit").await;
    assert_eq!(bead.status(), Status::Closed);
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::Worked,
            ..
        }
    ));
    assert_eq!(numbers(&bead), (1, 0, 1));
    let (commit, branch) = (bead.commit.clone().unwrap(), bead.branch.clone().unwrap());
    assert!(
        branch.starts_with("gt/") && branch.ends_with(bead.id.as_str()),
        "{branch}"
    );
    assert_eq!(git(&rig.clone, &["rev-parse", &branch]), commit);
    assert_ne!(
        git(&rig.clone, &["show", "--stat", "--format=", &commit]),
        ""
    );
    let session = bead.attempts[0].session.clone().unwrap();
    let asked = town.gateway.requests();
    assert!(asked.iter().any(|r| r.task_id == session), "{asked:?}");
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_was_left_changed_is_saved_as_a_commit_and_closes_its_bead() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let bead = slung(&town, &rig, "write").await;
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::Worked,
            ..
        }
    ));
    assert_eq!(numbers(&bead), (1, 0, 1));
    let (commit, branch) = (bead.commit.clone().unwrap(), bead.branch.clone().unwrap());
    assert_eq!(git(&rig.clone, &["rev-parse", &branch]), commit);
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_401_in_a_session_opens_the_breaker_and_charges_nothing() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let (bead, _) = rig.rig.sling(scripted("e401")).await.unwrap();
    let id = bead.id.clone();
    // Its next dispatch is refused by the town, and costs nothing.
    let refused = move |rig: &rig::Rig| {
        let is_shut = rig.shut_by() == Some(Class::Credentials);
        rig.bead(&id).filter(|_| is_shut).cloned()
    };
    let bead = town.until(&rig.rig, "refusal", refused).await;
    assert_eq!(class(&bead), Some(Class::Credentials));
    assert_eq!(bead.status(), Status::InProgress);
    let (_, failures, prompts) = numbers(&bead);
    assert_eq!((failures, prompts), (0, 1));
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_answer_every_time_is_charged_until_the_bead_fails() {
    let town = Town::start().await;
    let rig = town
        .working_rig(Policy {
            attempts_max: 2,
            ..quick()
        })
        .await;
    let bead = slung(&town, &rig, "empty").await;
    assert_eq!(class(&bead), Some(Class::EndedEmpty));
    assert_eq!(bead.status(), Status::Failed);
    assert_eq!(numbers(&bead), (2, 2, 2));
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_without_work_is_nudged_once_and_then_closed_as_what_it_is() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let bead = slung(&town, &rig, "text").await;
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::TextOnly,
            ..
        }
    ));
    assert_eq!(class(&bead), None);
    assert_eq!(numbers(&bead), (1, 0, 2), "one dispatch, one nudge");
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nudge_in_the_same_session_brings_the_work() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let bead = slung(&town, &rig, "nudged-commit").await;
    assert!(matches!(
        bead.phase,
        Phase::Closed {
            resolution: Resolution::Worked,
            ..
        }
    ));
    assert_eq!(numbers(&bead), (1, 0, 2));
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_nothing_is_spawned_and_one_escalation_says_what_to_set() {
    let town = Town::start().await;
    let rig = town.rig(town.config(CredentialSource::None), quick()).await;
    let (bead, _) = rig.rig.sling(scripted("commit")).await.unwrap();
    let shut = |rig: &rig::Rig| {
        let is_told = rig.open_escalations().next().is_some();
        rig.shut_by().filter(|_| is_told)
    };
    assert_eq!(
        town.until(&rig.rig, "breaker", shut).await,
        Class::Credentials
    );
    let beads = rig.rig.beads().await.unwrap();
    let bead = beads.iter().find(|b| b.id == bead.id).unwrap();
    assert_eq!(bead.status(), Status::InProgress);
    assert_eq!(numbers(bead), (0, 0, 0));
    let escalations: Vec<_> = beads
        .iter()
        .filter(|b| b.kind == BeadType::Escalation)
        .collect();
    assert_eq!(escalations.len(), 1);
    assert!(
        escalations[0]
            .body
            .as_deref()
            .unwrap()
            .contains("KILOCODE_TOKEN")
    );
    let explained = {
        let bead = bead.clone();
        rig.rig
            .look(move |rig, now| rig.explain(&bead, now))
            .await
            .unwrap()
    };
    assert!(explained.cause.starts_with("credentials"), "{explained:?}");
    assert!(town.runtime.server_pids().await.is_empty());
    assert!(kilo::marked(&town.runtime.marker()).is_empty());
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_is_ended_at_the_progress_deadline_and_charged() {
    let town = Town::start().await;
    let rig = town
        .working_rig(Policy {
            progress_ms: 3_000,
            ..once()
        })
        .await;
    let bead = slung(&town, &rig, "hang").await;
    assert_eq!(class(&bead), Some(Class::Stalled));
    assert_eq!(bead.status(), Status::Failed);
    assert_eq!(numbers(&bead), (1, 1, 1));
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kilo_that_is_killed_in_mid_turn_is_a_crash() {
    let town = Town::start().await;
    let rig = town.working_rig(once()).await;
    let (bead, _) = rig.rig.sling(scripted("hang")).await.unwrap();
    let id = bead.id.clone();
    let works =
        move |rig: &rig::Rig| matches!(rig.bead(&id)?.phase, Phase::Working { .. }).then_some(());
    town.until(&rig.rig, "working bead", works).await;
    for pid in town.runtime.server_pids().await {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let bead = town.until_terminal(&rig.rig, &bead.id).await;
    assert_eq!(class(&bead), Some(Class::Crash));
    assert_eq!(bead.status(), Status::Failed);
    assert_eq!(numbers(&bead), (1, 1, 1));
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_idle_that_follows_an_error_never_closes_a_bead() {
    let town = Town::start().await;
    let rig = town
        .working_rig(Policy {
            attempts_max: 2,
            ..quick()
        })
        .await;
    let bead = slung(&town, &rig, "malformed").await;
    assert_eq!(class(&bead), Some(Class::AgentFailed));
    assert_eq!(bead.status(), Status::Failed);
    assert_eq!(numbers(&bead), (2, 2, 2));
    let events = rig.rig.events(1, 1_000).await.unwrap();
    assert!(
        events
            .iter()
            .all(|event| event.event_type != EventType::Closed),
        "{events:#?}"
    );
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_s_own_kilo_configuration_does_not_take_effect() {
    let town = Town::start().await;
    let marker = town.dir.path().join("the-repository-s-command-ran");
    let config = format!(
        r#"{{"mcp":{{"evil":{{"type":"local","command":["touch","{}"]}}}}}}"#,
        marker.display()
    );
    std::fs::write(town.origin.join("kilo.json"), config).unwrap();
    git(&town.origin, &["add", "kilo.json"]);
    let identity = ["-c", "user.name=t", "-c", "user.email=t@t.invalid"];
    git(
        &town.origin,
        &[&identity[..], &["commit", "-qm", "a hostile configuration"]].concat(),
    );
    let rig = town.working_rig(quick()).await;
    let bead = slung(&town, &rig, "commit").await;
    assert_eq!(bead.status(), Status::Closed);
    assert!(
        !marker.exists(),
        "a command of the repository's configuration ran"
    );
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_repository_is_the_reason_why_its_bead_waits() {
    let town = Town::start().await;
    let credentials = town.credentials().await;
    let empty = town.dir.path().join("empty");
    git(
        town.dir.path(),
        &["init", "-q", &empty.display().to_string()],
    );
    for (url, branch, reason) in [
        ("not a url", "main", "git URL"),
        ("ext::sh -c id", "main", "git URL"),
        (
            town.origin.to_str().unwrap(),
            "no-such-branch",
            "no-such-branch",
        ),
        (empty.to_str().unwrap(), "main", "commit"),
    ] {
        let mut config = town.config(credentials.clone());
        (config.git_url, config.default_branch) = (url.to_owned(), branch.to_owned());
        let rig = town.rig(config, quick()).await;
        let (bead, _) = rig.rig.sling(scripted("commit")).await.unwrap();
        let shut = |rig: &rig::Rig| rig.record().breaker.failure().cloned();
        let failure = town.until(&rig.rig, "breaker", shut).await;
        assert_eq!(failure.class, Class::Git, "{failure:?}");
        assert!(failure.text.contains(reason), "{url}: {failure:?}");
        let bead = rig.rig.bead(&bead.id).await.unwrap().unwrap();
        assert_eq!(
            (numbers(&bead), bead.status()),
            ((0, 0, 0), Status::InProgress)
        );
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_in_no_file_but_its_own_and_in_no_command_line() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    let (bead, _) = rig.rig.sling(scripted("slow 2")).await.unwrap();
    let id = bead.id.clone();
    let works =
        move |rig: &rig::Rig| matches!(rig.bead(&id)?.phase, Phase::Working { .. }).then_some(());
    town.until(&rig.rig, "working bead", works).await;
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let argv = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(
            !contains(&argv, CANARY.as_bytes()),
            "a command line holds the token"
        );
    }
    town.until_terminal(&rig.rig, &bead.id).await;
    let data = town.runtime.data_dir().to_owned();
    town.runtime.stop(std::time::Duration::from_secs(20)).await;
    let holders = files_with(&data, CANARY.as_bytes());
    assert!(
        holders.iter().all(|f| f.starts_with(data.join("secrets"))),
        "{holders:?}"
    );
    assert_eq!(holders.len(), 1);
    town.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_started_through_the_container_s_route_works() {
    let town = Town::start().await;
    let rig = town.working_rig(quick()).await;
    town.runtime.stop(Duration::from_secs(20)).await;
    let up = Up::start(town.runtime.data_dir(), &support::kilo_program().await).await;
    let new = json!({"role": "polecat", "name": "amber", "identity": "id-amber"});
    let path = format!("/api/rigs/{}/agents", rig.id);
    let agent = up.post(&path, &new, 201).await["id"].clone();
    let start = json!({
        "agentId": agent, "rigId": rig.id, "townId": town.id, "role": "polecat", "name": "amber",
        "identity": "id-amber", "prompt": "Do it\n[[script: commit]]", "model": "scripted/auto",
        "systemPrompt": "s", "gitUrl": town.origin, "branch": "b", "defaultBranch": "main",
    });
    let agents = format!("/api/towns/{}/container/agents", town.id);
    let managed = up.post(&format!("{agents}/start"), &start, 201).await;
    assert_eq!(
        (&managed["agentId"], &managed["rigId"], &managed["status"]),
        (&agent, &json!(rig.id), &json!("starting"))
    );
    let path = format!("{agents}/{}/status", agent.as_str().unwrap());
    // On board: the container knows its session and its server.
    let seen = up.until(&path, "session", |agent| agent["sessionId"].is_string());
    assert!(seen.await["serverPort"].is_u64());
    let bead = managed["beadId"].as_str().unwrap();
    let closed = |bead: &Value| bead["status"] == "closed" && bead["result"] == "worked";
    up.until_bead(bead, "closed bead", closed).await;
    let ended = up.get(&path).await;
    assert_eq!(
        (&ended["status"], &ended["exitReason"]),
        (&json!("exited"), &json!("completed"))
    );
    assert_ends_with_zero(up, &town).await;
    town.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_a_live_session_is_its_next_prompt() {
    let town = Town::start().await;
    let patient = Policy {
        idle_grace_ms: 5_000,
        ..quick()
    };
    let rig = town.working_rig(patient).await;
    town.runtime.stop(Duration::from_secs(20)).await;
    let up = Up::start(town.runtime.data_dir(), &support::kilo_program().await).await;
    // An answer is all that is expected, so nobody but the message asks for the commit.
    let new = json!({
        "title": "ask", "body": "[[script: nudged-commit]]", "metadata": {"expects": "text"},
    });
    let path = format!("/api/rigs/{}/sling", rig.id);
    let slung = up.post(&path, &new, 201).await;
    let agent = slung["agent"]["id"].as_str().unwrap();
    let agent = format!("/api/towns/{}/container/agents/{agent}", town.id);
    let turned = |agent: &Value| agent["messageCount"] == 1;
    let status = format!("{agent}/status");
    up.until(&status, "completed turn", turned).await;
    let message = json!({"prompt": "Commit it, please"});
    let path = format!("{agent}/message");
    let said = up.post(&path, &message, 200).await;
    assert_eq!(said, json!({"accepted": true}));
    let bead = slung["bead"]["id"].as_str().unwrap();
    let worked = |bead: &Value| {
        bead["status"] == "closed" && bead["commit"].is_string() && bead["prompts"] == 2
    };
    up.until_bead(bead, "commit", worked).await;
    let (status, _) = up.ask(Method::POST, &path, &message).await;
    assert_eq!(status, 409, "no session is left to read it");
    assert_ends_with_zero(up, &town).await;
    town.gateway.stop().await;
}

async fn assert_ends_with_zero(mut up: Up, town: &Town) {
    up.signal(Signal::TERM);
    let status = up.ended(Duration::from_secs(22)).await;
    assert_eq!(status.expect("an end").code(), Some(0));
    assert!(kilo::marked(&town.runtime.marker()).is_empty());
}
