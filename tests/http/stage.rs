//! A house with sessions: a stand-in plays kilo, the gateway is scripted, the repository is real.
//!
//! Owns setting it up and waiting for what happens, always with a deadline. Expects nothing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rig::{RigId, TownId};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::timeout;
use wellhead::{
    demo::sample::create_sample_repo,
    gateway::{Gateway, GatewaySettings, Script},
};

use crate::house::{House, send, text};

/// A whole attempt on the stand-in, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
const KILO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/fake-kilo.mjs");
/// What the gateway takes.
pub(crate) const TOKEN: &str = "the-right-token";

pub(crate) struct Stage {
    pub(crate) house: House,
    pub(crate) gateway: Gateway,
    pub(crate) town: String,
    repo: PathBuf,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let house = House::with(
            |settings| runtime::Settings {
                kilo_program: Some(KILO.into()),
                ..settings
            },
            |facade| facade,
        )
        .await;
        let settings = GatewaySettings::new(SecretString::from(TOKEN));
        let gateway = Gateway::start(Script::default(), settings).await.unwrap();
        let repo = house.dir().join("origin");
        let repo = create_sample_repo(repo).await.unwrap();
        let town = house
            .post("/api/users/ann/towns", &json!({"name": "t"}))
            .await;
        let town = text(&town.data(201)["id"]).to_owned();
        Self {
            house,
            gateway,
            town,
            repo,
        }
    }

    /// A rig of the town that uses this token at the gateway, with short steps.
    pub(crate) async fn rig(&self, token: &str) -> String {
        let repo = self.repo.clone();
        self.rig_on(token, &repo).await
    }

    /// The same on another repository.
    pub(crate) async fn rig_on(&self, token: &str, repo: &Path) -> String {
        let body = json!({
            "town_id": self.town, "name": "r", "git_url": repo, "model": "scripted/auto",
            "kilocode_token": token, "kilo_api_url": self.gateway.url(),
        });
        let made = self.house.post("/api/users/ann/rigs", &body).await;
        let rig = text(&made.data(201)["id"]).to_owned();
        let quick = json!({
            "backoff_ms": [100], "idle_grace_ms": 300, "end_grace_ms": 100, "cooldown_ms": 1_000,
        });
        self.put(&format!("/api/rigs/{rig}/policy"), &quick).await;
        rig
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Value {
        send(self.house.admin("PUT", path).json(body))
            .await
            .data(200)
    }

    /// What an order by POST answers.
    pub(crate) async fn order(&self, path: &str, body: &Value) -> Value {
        self.house.post(path, body).await.data(200)
    }

    /// A bead with that text, slung; its path.
    pub(crate) async fn sling(&self, rig: &str, body: &str) -> String {
        let body = json!({"title": "work", "body": body});
        let path = format!("/api/rigs/{rig}/sling");
        let slung = self.house.post(&path, &body).await.data(201);
        format!("/api/rigs/{rig}/beads/{}", text(&slung["bead"]["id"]))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.house.get(path).await.data(200)
    }

    /// Waits until what lies there is as wanted; looks again whenever a rig or town has changed.
    pub(crate) async fn until(&self, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.house.runtime.changes();
        let mut seen = Value::Null;
        let wait = async {
            loop {
                changes.borrow_and_update();
                seen = self.get(path).await;
                if is(&seen) {
                    return;
                }
                changes.changed().await.unwrap();
            }
        };
        let met = timeout(PATIENCE, wait).await;
        assert!(
            met.is_ok(),
            "no {what} at {path} within {PATIENCE:?}: {seen:#}"
        );
        seen
    }

    /// Waits until the bead's session works.
    pub(crate) async fn until_working(&self, bead: &str) -> Value {
        let works = |bead: &Value| bead["session_id"].is_string();
        self.until(bead, "session", works).await
    }

    pub(crate) async fn until_closed(&self, bead: &str) -> Value {
        let is_closed = |bead: &Value| bead["status"] == "closed";
        self.until(bead, "closed bead", is_closed).await
    }

    /// The directory of a rig's clone and worktrees.
    pub(crate) fn rig_dir(&self, rig: &str) -> PathBuf {
        let (town, rig) = (TownId::new(self.town.as_str()), RigId::new(rig));
        self.house.runtime.rig_dir(&town.unwrap(), &rig.unwrap())
    }

    /// The same after the end of its process.
    pub(crate) async fn restarted(self) -> Self {
        let house = self.house.restarted().await;
        Self { house, ..self }
    }

    pub(crate) async fn end(self) {
        self.house.facade.stop().await;
        self.house.runtime.stop(Duration::from_secs(5)).await;
        self.gateway.stop().await;
    }
}

/// Waits until a session has written that file; no event tells that.
pub(crate) async fn until_file(path: &Path) {
    let wait = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !path.exists() {
            tick.tick().await;
        }
    };
    let met = timeout(PATIENCE, wait).await;
    assert!(met.is_ok(), "no {} within {PATIENCE:?}", path.display());
}

/// The event types of a rig, oldest first.
pub(crate) fn types(events: &Value) -> Vec<&str> {
    let events = events.as_array().unwrap();
    events
        .iter()
        .map(|event| text(&event["event_type"]))
        .collect()
}
