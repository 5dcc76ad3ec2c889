//! The rules for tokens and reports while a dispatch is live.
//!
//! The dispatch is real: the rig has sent it and the container holds it. It stays at its start,
//! because the repository's server takes the connection and never answers.

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use rig::{Input, NewBead, Preflight, RigConfig, RigId};
use runtime::{Environment, RigStub};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use crate::house::{Answer, House, jwt_of, send, text};

const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Live {
    pub(crate) house: House,
    pub(crate) rig: RigId,
    agent: String,
    bead: String,
    town: String,
    pub(crate) dispatch: String,
    _silent: TcpListener,
    _bin: tempfile::TempDir,
}

impl Live {
    pub(crate) async fn new() -> Self {
        let mut live = Self::hooked(|settings| settings).await;
        live.dispatch = live.dispatched_beyond("").await;
        live
    }

    /// The same before its dispatch: the checks are not through.
    pub(crate) async fn hooked(place: impl FnOnce(runtime::Settings) -> runtime::Settings) -> Self {
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
                ..place(settings)
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
        Self {
            house,
            rig: row.id,
            agent: agent.id.to_string(),
            bead: bead.id.to_string(),
            town: town.id.to_string(),
            dispatch: String::new(),
            _silent: silent,
            _bin: bin,
        }
    }

    /// The bead's next dispatch, after the one named. The program of these tests hangs, so no check
    /// is ever answered: that is done here, in its place, as often as one is asked for.
    pub(crate) async fn dispatched_beyond(&self, old: &str) -> String {
        let stub = self.stub();
        let bead = rig::BeadId::new(self.bead.as_str()).unwrap();
        let mut changes = self.house.runtime.changes();
        let dispatched = timeout(SOON, async {
            loop {
                let (no, now) = {
                    let bead = bead.clone();
                    let look = stub.look(move |rig, _| {
                        let now = rig.bead(&bead).and_then(rig::Bead::dispatch_id);
                        (rig.record().preflight_no, now)
                    });
                    look.await.unwrap()
                };
                // The first check is asked for before the container runs.
                if no >= 2 {
                    stub.tell(passed(no)).await.unwrap();
                }
                match now.map(|now| now.to_string()) {
                    Some(now) if now != old => return now,
                    _ => changes.changed().await.unwrap(),
                }
            }
        });
        dispatched.await.expect("a dispatch")
    }

    /// Who is on board of the town's container.
    pub(crate) async fn aboard(&self) -> Vec<runtime::Aboard> {
        let town = rig::TownId::new(self.town.as_str()).unwrap();
        self.house.runtime.container(&town).await.aboard
    }

    pub(crate) fn stub(&self) -> RigStub {
        self.house.runtime.rig(&self.rig).unwrap()
    }

    /// The same after the end of its process, and some work on its data directory.
    pub(crate) async fn restarted_after(self, work: impl FnOnce(&Path)) -> Self {
        let house = self.house;
        let house = house.restarted_after(Duration::from_millis(100), work);
        let house = house.await;
        Self { house, ..self }
    }

    /// A report of the agent, with the token of that dispatch.
    pub(crate) async fn report(&self, dispatch: &str, rest: &str) -> Answer {
        let token = self.token(Some(dispatch));
        let request = self
            .house
            .with_token(&token, "POST", &self.agent_path(rest));
        send(request.json(&report(rest))).await
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

    pub(crate) async fn bead(&self) -> Value {
        let path = format!("/api/rigs/{}/beads/{}", self.rig, self.bead);
        self.house.get(&path).await.data(200)
    }

    pub(crate) async fn end(self) {
        self.house.facade.stop().await;
        self.house.runtime.stop(Duration::from_millis(100)).await;
    }
}

pub(crate) fn passed(no: u64) -> Input {
    let result = Preflight::Passed;
    Input::PreflightDone { no, result }
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
