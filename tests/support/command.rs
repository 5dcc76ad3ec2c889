//! `wellhead up` as a person runs it: the command on a directory, asked by HTTP, ended by signals.
//!
//! Owns the child and how it is asked. Expects nothing of what runs in there.

use std::{path::Path, process::ExitStatus, time::Duration};

use reqwest::{Client, Method};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::PATIENCE;

/// The command, ready. Killed when it is dropped.
pub(crate) struct Up {
    child: Child,
    client: Client,
    url: String,
    admin: String,
}

impl Up {
    /// Runs it with that program in place of kilo, until its ready line.
    pub(crate) async fn start(data_dir: &Path, kilo: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
        command.args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(data_dir).arg("--kilo").arg(kilo);
        command
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, out.next_line()).await;
        let line = line.expect("a ready line").unwrap().unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let admin = std::fs::read_to_string(ready["admin_token_file"].as_str().unwrap()).unwrap();
        Self {
            child,
            client: Client::new(),
            url: ready["url"].as_str().unwrap().to_owned(),
            admin: admin.trim().to_owned(),
        }
    }

    /// The status and the body of one answer.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}{path}", self.url);
        let request = self.client.request(method, url).bearer_auth(&self.admin);
        let request = if body.is_null() {
            request
        } else {
            request.json(body)
        };
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The data of what is there.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, mut body) = self.ask(Method::GET, path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body["data"].take()
    }

    /// The data of an answer with that status.
    pub(crate) async fn post(&self, path: &str, body: &Value, status: u16) -> Value {
        let (answered, mut said) = self.ask(Method::POST, path, body).await;
        assert_eq!(answered, status, "{path}: {said}");
        said["data"].take()
    }

    /// Waits until that bead is as wanted in the snapshot. The long poll is the wait.
    pub(crate) async fn until_bead(&self, id: &str, what: &str, is: impl Fn(&Value) -> bool) {
        let mut seen = Value::Null;
        let wait = async {
            let mut version = String::new();
            loop {
                let path = format!("/api/snapshot?after={version}&wait_ms=5000");
                seen = self.get(&path).await;
                let rigs = seen["rigs"].as_array().unwrap();
                let mut beads = rigs.iter().flat_map(|rig| rig["beads"].as_array().unwrap());
                if beads.any(|bead| bead["id"] == id && is(bead)) {
                    return;
                }
                version = seen["version"].as_str().unwrap().to_owned();
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        assert!(found.is_ok(), "no {what} within {PATIENCE:?}: {seen:#}");
    }

    /// Waits until what lies there is as wanted; for what no snapshot shows.
    pub(crate) async fn until(&self, path: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                let seen = self.get(path).await;
                if is(&seen) {
                    return seen;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|_| panic!("no {what} at {path} within {PATIENCE:?}"))
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// How it ended, if it ends within that time.
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let end = tokio::time::timeout(within, self.child.wait()).await;
        end.ok().map(Result::unwrap)
    }
}
