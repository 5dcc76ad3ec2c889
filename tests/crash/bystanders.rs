//! Who must not be touched: a user's own `kilo serve`, and a Wellhead on another data directory
//! with an agent at work.
//!
//! Owns starting them and looking whether each process of theirs still lives.

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use kilo::Identity;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::server::{Counts, Server, marker_of};

const WORKS_WITHIN: Duration = Duration::from_mins(1);

pub(crate) struct Bystanders {
    processes: Vec<Identity>,
    kilo: Child,
    second: Server,
    marker: Vec<(String, String)>,
}

impl Bystanders {
    /// Starts both in `dir`; the user's own kilo works in the repository `origin`.
    pub(crate) async fn start(dir: &Path, kilo: &Path, fake: &Path, origin: &Path) -> Self {
        let home = dir.join("user");
        std::fs::create_dir(&home).unwrap();
        let mut command = Command::new(kilo);
        command
            .args(["serve", "--hostname", "127.0.0.1", "--port", "0"])
            .current_dir(origin)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("KILO_TELEMETRY_LEVEL", "off")
            .env("HOME", &home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        for name in ["CONFIG", "DATA", "STATE", "CACHE"] {
            command.env(format!("XDG_{name}_HOME"), home.join(name));
        }
        let child = command.spawn().unwrap();
        let own = kilo::identify(child.id().unwrap()).unwrap();
        let data = dir.join("second");
        let second = Server::start(&data, fake, &Arc::<Counts>::default()).await;
        let marker = marker_of(&data);
        let agent = second_at_work(&second, &marker, origin).await;
        Self {
            processes: vec![own, second.identity, agent],
            kilo: child,
            second,
            marker,
        }
    }

    /// How many of them are gone.
    pub(crate) fn missing(&self) -> usize {
        let alive = self.processes.iter().filter(|p| kilo::is_alive(**p));
        self.processes.len() - alive.count()
    }

    pub(crate) async fn end(mut self) {
        self.kilo.kill().await.unwrap();
        assert_eq!(self.second.end().await, Some(0));
        assert!(
            kilo::marked(&self.marker).is_empty(),
            "the second leaves nothing"
        );
    }
}

/// Lets an agent of the second one work without an end; gives its kilo.
async fn second_at_work(second: &Server, marker: &[(String, String)], origin: &Path) -> Identity {
    // Whether a gateway answers decides nothing here: this one lists the model and no more.
    let gateway = crate::town::gateway(|_| wellhead::gateway::Behaviour::Hang).await;
    let rig = crate::town::new_rig(&second.api, &gateway, origin, "second").await;
    let body = json!({"title": "never ends [[fake: hang]]"});
    let path = format!("rigs/{}", rig.id);
    second
        .api
        .must("POST", &format!("{path}/sling"), Some(&body))
        .await;
    let deadline = Instant::now() + WORKS_WITHIN;
    loop {
        let events = second.api.get(&format!("{path}/events?limit=1000")).await;
        if events.to_string().contains("agent_spawned") {
            break;
        }
        assert!(Instant::now() < deadline, "no agent: {events}");
        let version = second.api.get("snapshot").await["version"].clone();
        let version = version.as_str().unwrap();
        second
            .api
            .get(&format!("snapshot?after={version}&wait_ms=500"))
            .await;
    }
    let kilos = kilo::marked(marker);
    assert_eq!(kilos.len(), 1, "one kilo serve");
    gateway.stop().await;
    kilos[0]
}
