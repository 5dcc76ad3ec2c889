//! The rules for tokens and reports while a dispatch is live.
//!
//! The dispatch is real: the rig has sent it and the container holds it. It stays at its start,
//! because the repository's server takes the connection and never answers.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use rig::{Input, NewBead, Preflight, RigConfig, RigId};
use runtime::{Environment, RigStub};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use crate::house::{House, jwt_of, send, text};

const SOON: Duration = Duration::from_secs(20);

struct Live {
    house: House,
    rig: RigId,
    agent: String,
    bead: String,
    town: String,
    dispatch: String,
    _silent: TcpListener,
    _bin: tempfile::TempDir,
}

impl Live {
    async fn new() -> Self {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bin = tempfile::tempdir().unwrap();
        let program = bin.path().join("kilo");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 300\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let house = House::with(
            |settings| runtime::Settings {
                kilo_program: Some(program),
                environment: Environment {
                    token: Some(secrecy::SecretString::from("a-token")),
                    ..Environment::default()
                },
                ..settings
            },
            |facade| facade,
        )
        .await;
        let town = house
            .runtime
            .directory()
            .create_town("ann", "t")
            .await
            .unwrap();
        let config = RigConfig {
            town_id: town.id.clone(),
            name: "r".into(),
            git_url: format!("http://{}/silent.git", silent.local_addr().unwrap()),
            default_branch: "main".into(),
            model: None,
            review: rig::ReviewMode::Off,
            credentials: rig::CredentialSource::Environment,
        };
        let row = house
            .runtime
            .directory()
            .create_rig("ann", config)
            .await
            .unwrap();
        let stub = house.runtime.rig(&row.id).unwrap();
        let (bead, agent) = stub.sling(NewBead::issue("work")).await.unwrap();
        pass_checks(&house, &stub).await;
        let bead = stub.bead(&bead.id).await.unwrap().unwrap();
        let dispatch = bead.dispatch_id().expect("dispatched").to_string();
        Self {
            house,
            rig: row.id,
            agent: agent.id.to_string(),
            bead: bead.id.to_string(),
            town: town.id.to_string(),
            dispatch,
            _silent: silent,
            _bin: bin,
        }
    }

    fn token(&self, dispatch: Option<&str>) -> String {
        jwt_of(&json!({
            "agentId": self.agent, "rigId": self.rig, "townId": self.town, "userId": "ann",
            "dispatchId": dispatch,
        }))
    }

    fn agent_path(&self, rest: &str) -> String {
        format!("/api/rigs/{}/agents/{}{rest}", self.rig, self.agent)
    }

    async fn bead(&self) -> Value {
        let path = format!("/api/rigs/{}/beads/{}", self.rig, self.bead);
        self.house.get(&path).await.data(200)
    }

    async fn end(self) {
        self.house.facade.stop().await;
        self.house.runtime.stop(Duration::from_millis(100)).await;
    }
}

/// The first check is asked for before the container runs, the second one by its start. The program
/// of these tests hangs, so no check is ever answered: it is done here, in its place.
async fn pass_checks(house: &House, rig: &RigStub) {
    let mut changes = house.runtime.changes();
    let asked = timeout(SOON, async {
        loop {
            let no = rig.look(|rig, _| rig.record().preflight_no).await.unwrap();
            if no >= 2 {
                return no;
            }
            changes.changed().await.unwrap();
        }
    });
    let no = asked.await.expect("the container starts");
    let passed = Input::PreflightDone {
        no,
        result: Preflight::Passed,
    };
    rig.tell(passed).await.unwrap();
}

fn report(path: &str) -> Value {
    match path {
        "/done" => json!({"branch": "b"}),
        "/completed" => json!({"status": "failed", "reason": "r"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn a_live_dispatch_shows_in_bead_and_agent() {
    let live = Live::new().await;
    let bead = live.bead().await;
    assert_eq!(bead["dispatch_id"], json!(live.dispatch));
    assert_eq!(
        (&bead["status"], &bead["dispatches"]),
        (&json!("in_progress"), &json!(1))
    );
    let agent = live.house.get(&live.agent_path("")).await.data(200);
    assert_eq!(
        (&agent["status"], &agent["current_hook_bead_id"]),
        (&json!("working"), &bead["id"])
    );
    live.end().await;
}

#[tokio::test]
async fn the_current_token_serves_and_others_are_told_why_not() {
    let live = Live::new().await;
    let house = &live.house;
    let call = async |dispatch: Option<&str>, method: &str, rest: &str| {
        let request = house.with_token(&live.token(dispatch), method, &live.agent_path(rest));
        send(request.json(&report(rest))).await
    };
    let stale = format!("{}.7", live.bead);
    call(Some(&live.dispatch), "GET", "").await.data(200);
    call(None, "GET", "").await.data(200);
    let ended = call(Some(&stale), "GET", "").await;
    ended.error(403);
    assert_eq!(ended.code(), "dispatch_ended");
    for rest in ["/heartbeat", "/done", "/completed"] {
        let unnamed = call(None, "POST", rest).await;
        unnamed.error(409);
        assert_eq!(unnamed.code(), "dispatch_required", "{rest}");
        let late = call(Some(&stale), "POST", rest).await;
        late.error(409);
        assert_eq!(late.code(), "stale_dispatch", "{rest}");
    }
    let unnamed = house
        .post(&live.agent_path("/done"), &report("/done"))
        .await;
    unnamed.error(409);
    assert_eq!(
        unnamed.code(),
        "dispatch_required",
        "the admin has to name it too"
    );
    assert_eq!(
        live.bead().await["dispatch_id"],
        json!(live.dispatch),
        "nothing has changed"
    );
    call(Some(&live.dispatch), "POST", "/heartbeat")
        .await
        .data(200);
    live.end().await;
}

#[tokio::test]
async fn the_same_done_twice_is_the_same_answer() {
    let live = Live::new().await;
    let path = live.agent_path("/done");
    for _ in 0..2 {
        let request = live
            .house
            .with_token(&live.token(Some(&live.dispatch)), "POST", &path);
        let answer = send(request.json(&report("/done"))).await;
        assert_eq!(answer.data(200), json!({"done": true}));
    }
    live.end().await;
}

#[tokio::test]
async fn closing_a_live_bead_waits_for_the_end_of_its_session() {
    let live = Live::new().await;
    let path = format!("/api/rigs/{}/beads/{}/close", live.rig, live.bead);
    let mut changes = live.house.runtime.changes();
    let closing = live
        .house
        .post(&path, &json!({"agent_id": null}))
        .await
        .data(200);
    assert_eq!(text(&closing["status"]), "in_progress");
    assert_eq!(closing["closed_at"], Value::Null);
    let closed = timeout(SOON, async {
        loop {
            let bead = live.bead().await;
            if bead["status"] == json!("closed") {
                return bead;
            }
            changes.changed().await.unwrap();
        }
    });
    let closed = closed.await.expect("the container proves the start over");
    assert!(closed["closed_at"].is_string());
    live.end().await;
}
