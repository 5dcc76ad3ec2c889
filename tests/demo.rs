//! The demo as a person types it: what it comes to, checked from outside, and what it must never
//! show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use secrecy::SecretString;
use serde_json::Value;
use support::{files_with, git, kilo_install};
use wellhead::gateway::{Gateway, GatewaySettings, RequestLog, Script};

fn demo(data: &Path, install: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .arg("demo")
        .arg("--data-dir")
        .arg(data)
        .arg("--kilo-install")
        .arg(install)
        .args(more);
    for name in ["KILO_API_URL", "KILOCODE_TOKEN", "KILO_API_KEY"] {
        command.env_remove(name);
    }
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The marker of the data directory's processes.
fn marker(data: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(data.join("wellhead.json")).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let instance = value["instance"].as_str().unwrap().to_owned();
    vec![("WELLHEAD_INSTANCE".to_owned(), instance)]
}

#[tokio::test]
async fn the_demo_ends_as_it_should_twice_in_a_row() {
    let install = kilo_install().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for _ in 0..2 {
        let output = demo(&data, &install, &["--exit", "--json"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        check(&report, &data, &[]);
        assert!(kilo::marked(&marker(&data)).is_empty(), "a process is left");
    }
}

/// `elsewhere`: what a gateway of the environment was asked for.
fn check(report: &Value, data: &Path, elsewhere: &[RequestLog]) {
    let beads = report["beads"].as_array().unwrap();
    let [worked, keyless, malformed, empty, survivor] = &beads[..] else {
        panic!("{report:#}")
    };
    assert_eq!(worked["status"], "closed");
    let repo = PathBuf::from(worked["repo"].as_str().unwrap());
    let commit = worked["commit"].as_str().unwrap();
    assert_ne!(git(&repo, &["show", "--stat", "--format=", commit]), "");
    assert_eq!(
        git(&repo, &["rev-parse", worked["branch"].as_str().unwrap()]),
        commit
    );
    assert_eq!(
        (&keyless["status"], &keyless["dispatches"]),
        (&"in_progress".into(), &0.into())
    );
    assert_eq!(keyless["last_failure"]["class"], "credentials");
    for (bead, class) in [(malformed, "agent_failed"), (empty, "ended_empty")] {
        assert_eq!(bead["status"], "failed");
        assert_eq!(
            (&bead["dispatches"], &bead["attempts"]),
            (&5.into(), &5.into())
        );
        assert_eq!(bead["last_failure"]["class"], class);
        let gaps: Vec<i64> = bead["gaps_ms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gap| gap.as_i64().unwrap())
            .collect();
        assert!(gaps.len() == 4 && gaps.is_sorted(), "{gaps:?}");
    }
    assert_eq!(survivor["status"], "closed");
    assert_eq!(survivor["attempts"], 0, "a lost session is not charged");
    assert_eq!(
        survivor["session_ids"].as_array().unwrap().len(),
        1,
        "no second session"
    );
    let repo = PathBuf::from(survivor["repo"].as_str().unwrap());
    let range = format!(
        "refs/remotes/origin/main..{}",
        survivor["branch"].as_str().unwrap()
    );
    assert_eq!(
        git(&repo, &["rev-list", "--count", &range]),
        "1",
        "committed once"
    );
    assert_eq!(
        (&report["restarts"], &report["continued_sessions"]),
        (&1.into(), &1.into())
    );
    assert_eq!(report["escalations"], 3);
    assert_eq!(report["processes_left"], 0);
    assert_eq!(
        report["alarms_pending"], 3,
        "the keyless rig asks again, and two will tell again what nobody has seen"
    );
    let log = std::fs::read_to_string(data.join("gateway.jsonl")).unwrap();
    let logged = |session: &str| {
        log.contains(session) || elsewhere.iter().any(|asked| asked.task_id == session)
    };
    for session in beads
        .iter()
        .flat_map(|bead| bead["session_ids"].as_array().unwrap())
    {
        assert!(
            logged(session.as_str().unwrap()),
            "{session} never asked a gateway"
        );
    }
    let own = worked["session_ids"][0].as_str().unwrap();
    assert_eq!(
        log.contains(own),
        elsewhere.is_empty(),
        "the first bead asked the wrong gateway"
    );
}

/// A demo that stays up, and everything that it says.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    all: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for reader in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    // The test may be over already.
                    let _ = sender.send(line);
                }
            });
        }
        Self {
            child,
            lines,
            all: String::new(),
        }
    }

    fn until(&mut self, part: &str) {
        while !self.all.contains(part) {
            let line = self.lines.recv_timeout(support::PATIENCE);
            self.all += &line.unwrap_or_else(|_| panic!("no {part:?} in:\n{}", self.all));
            self.all.push('\n');
        }
    }

    /// Ctrl-C, and everything that is said until the end.
    fn interrupt(mut self) -> (bool, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.all += &line;
        }
        (status.success(), self.all)
    }
}

#[tokio::test]
async fn the_token_of_the_demo_is_nowhere_but_in_its_own_file() {
    let install = kilo_install().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut command = demo(&data, &install, &[]);
    // What a person asks for who looks for a fault.
    command.env("WELLHEAD_LOG", "debug");
    let mut running = Running::start(command);
    running.until("all is settled");
    let token = stored_token(&data);
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let argv = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&argv).contains(&token),
            "it is on a command line"
        );
    }
    for (path, body) in answers(&data, &running.all).await {
        assert!(!body.contains(&token), "{path} answers with it");
    }
    let (ended_well, said) = running.interrupt();
    assert!(ended_well, "{said}");
    assert!(!said.contains(&token), "it was printed");
    assert!(
        kilo::marked(&marker(&data)).is_empty(),
        "a process is left after Ctrl-C"
    );
    // Each of the two servers keeps its own copy.
    let secrets = [data.join("secrets"), data.join("crash/secrets")];
    let holders = files_with(&data, token.as_bytes());
    let is_secret = |file: &PathBuf| secrets.iter().any(|dir| file.starts_with(dir));
    assert!(
        holders.len() == 2 && holders.iter().all(is_secret),
        "{holders:?}"
    );
}

fn stored_token(data: &Path) -> String {
    let file = std::fs::read_dir(data.join("secrets"))
        .unwrap()
        .flatten()
        .next()
        .unwrap();
    let value: Value = serde_json::from_slice(&std::fs::read(file.path()).unwrap()).unwrap();
    value["token"].as_str().unwrap().to_owned()
}

/// What every route that can be read answers for every rig of the demo.
async fn answers(data: &Path, said: &str) -> Vec<(String, String)> {
    let url = said
        .split_once("dashboard: ")
        .unwrap()
        .1
        .split(['/', '#', '\n'])
        .collect::<Vec<_>>();
    let base = format!("http://{}", url[2]);
    let admin = std::fs::read_to_string(data.join("admin-token")).unwrap();
    let http = reqwest::Client::new();
    let get = async |path: String| {
        let request = http.get(format!("{base}{path}")).bearer_auth(admin.trim());
        let response = request.send().await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        (path, response.text().await.unwrap())
    };
    let towns = get("/api/users/demo/towns".to_owned()).await;
    let list: Value = serde_json::from_str(&towns.1).unwrap();
    let town = list["data"][0]["id"].as_str().unwrap().to_owned();
    let rigs = get(format!("/api/users/demo/towns/{town}/rigs")).await;
    let list: Value = serde_json::from_str(&rigs.1).unwrap();
    let mut found = vec![towns, rigs];
    for rig in list["data"].as_array().unwrap() {
        let id = rig["id"].as_str().unwrap();
        found.push(get(format!("/api/users/demo/rigs/{id}")).await);
        for part in ["beads", "agents", "events", "breaker", "policy"] {
            found.push(get(format!("/api/rigs/{id}/{part}")).await);
        }
    }
    for path in ["/api/snapshot", "/api/escalations", "/health", "/"] {
        found.push(get(path.to_owned()).await);
    }
    assert!(found.len() > 20);
    found
}

#[tokio::test]
async fn with_credentials_in_the_environment_the_first_bead_goes_to_that_gateway() {
    let install = kilo_install().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let own = GatewaySettings::new(SecretString::from(support::CANARY));
    let own = Gateway::start(Script::default(), own).await.unwrap();
    let mut command = demo(&data, &install, &["--exit", "--json"]);
    command
        .env("KILO_API_URL", own.url())
        .env("KILOCODE_TOKEN", support::CANARY);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    check(&report, &data, &own.requests());
    own.stop().await;
}
