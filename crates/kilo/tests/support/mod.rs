//! A stand-in server in a directory of its own, and waits with a deadline.
//!
//! Shared by the tests of this crate; it asserts nothing itself.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "test code, of which each file uses its own part"
)]

use kilo::{
    Credentials, ModelRef, Program, PromptOptions, Server, ServerSettings, Session, SessionEvent,
    StartError, TurnEnd, Version,
};
use serde_json::{Value, json};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
pub(crate) const GRACE: Duration = Duration::from_secs(3);
pub(crate) const TOKEN: &str = "canary-token-0123456789";
pub(crate) const MODEL: &str = "fake/ok";

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

pub(crate) fn fake() -> PathBuf {
    root().join("tests/support/fake-kilo.mjs")
}

/// One server's private directory, a work directory and a marker that no other test has.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) marker: Vec<(String, String)>,
    token: Option<String>,
}

impl Bench {
    pub(crate) fn new(setup: &Value) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("private/config");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("fake-kilo.json"), setup.to_string()).unwrap();
        std::fs::create_dir_all(dir.path().join("work")).unwrap();
        let name = dir
            .path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let marker = vec![("WELLHEAD_SERVER".to_owned(), name)];
        Self {
            dir,
            marker,
            token: Some(TOKEN.to_owned()),
        }
    }

    pub(crate) fn without_token(mut self) -> Self {
        self.token = None;
        self
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn settings(&self) -> ServerSettings {
        let gateway = "http://127.0.0.1:9/".parse().unwrap();
        let token = self.token.clone().map(Into::into);
        ServerSettings {
            program: Program {
                path: fake(),
                version: Version::new(7, 7, 7),
            },
            private_dir: self.dir.path().join("private"),
            credentials: Credentials::new(gateway, token, None).unwrap(),
            model: MODEL.to_owned(),
            small_model: None,
            marker: self.marker.clone(),
            git_identity: ("Agent".to_owned(), "agent@example.org".to_owned()),
            start_deadline: DEADLINE,
            extra_config: Value::Null,
        }
    }

    pub(crate) async fn try_start(&self) -> Result<Server, StartError> {
        Server::start(self.settings()).await
    }

    pub(crate) async fn start(&self) -> Server {
        self.try_start().await.unwrap()
    }

    pub(crate) fn left(&self) -> Vec<u32> {
        kilo::marked(&self.marker)
            .into_iter()
            .map(|process| process.pid)
            .collect()
    }

    /// Waits until no process has the marker.
    pub(crate) async fn nothing_left(&self) {
        within("the marker to vanish", async {
            while !self.left().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A failed test must not leave anything behind either.
        for process in kilo::marked(&self.marker) {
            let _ = std::process::Command::new("kill")
                .args(["-9", &process.pid.to_string()])
                .status();
        }
    }
}

pub(crate) fn plain() -> Value {
    json!({})
}

pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(DEADLINE, work).await else {
        panic!("timed out waiting for {what}")
    };
    value
}

pub(crate) fn options() -> PromptOptions {
    PromptOptions::new(ModelRef::kilo(MODEL))
}

/// All events up to and with the turn's end.
pub(crate) async fn turn(session: &mut Session, text: &str) -> (Vec<SessionEvent>, TurnEnd) {
    session.prompt(text, &options()).await.unwrap();
    to_end(session).await
}

pub(crate) async fn to_end(session: &mut Session) -> (Vec<SessionEvent>, TurnEnd) {
    let mut events = Vec::new();
    loop {
        let event = within("the turn's end", session.next()).await;
        if let SessionEvent::TurnEnd(end) = event {
            return (events, end);
        }
        assert!(
            !matches!(event, SessionEvent::ServerGone(_)),
            "server gone: {event:?}"
        );
        events.push(event);
    }
}

/// The first event that fits.
pub(crate) async fn wait_for(
    session: &mut Session,
    fits: impl Fn(&SessionEvent) -> bool,
) -> SessionEvent {
    within("an event", async {
        loop {
            let event = session.next().await;
            if fits(&event) {
                return event;
            }
        }
    })
    .await
}
