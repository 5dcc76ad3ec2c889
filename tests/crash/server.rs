//! A `wellhead up` process that can be killed, and the one way in which the trials talk to it.
//!
//! Owns the process, and the count of requests that wait for an answer. What an answer means is
//! not known here.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kilo::Identity;
use reqwest::Method;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// A start on a busy machine, leftovers to end included.
const START_WITHIN: Duration = Duration::from_mins(1);
const END_WITHIN: Duration = Duration::from_mins(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// What is counted over all lives of the server.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Sent and not answered.
    pub(crate) in_flight: AtomicUsize,
    /// Changes that were answered with success.
    pub(crate) acknowledged: AtomicU64,
}

/// One life of the server.
pub(crate) struct Server {
    pub(crate) api: Api,
    pub(crate) identity: Identity,
    child: Child,
}

/// How its clients reach it.
#[derive(Clone)]
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
    pub(crate) counts: Arc<Counts>,
}

/// Gives its place among the requests in flight back, answered or not.
struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Server {
    /// `kill -9` in the middle of its start, `after` that time.
    pub(crate) async fn start_and_kill(dir: &Path, kilo: &Path, after: Duration) {
        let mut child = spawn(dir, kilo);
        // The random moment itself, not a wait for anything.
        tokio::time::sleep(after).await;
        child.kill().await.unwrap();
    }

    /// Starts it on that data directory; its log is appended to `<dir>.log`.
    pub(crate) async fn start(dir: &Path, kilo: &Path, counts: &Arc<Counts>) -> Self {
        let mut child = spawn(dir, kilo);
        let identity = kilo::identify(child.id().unwrap()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(START_WITHIN, lines.next_line()).await;
        let line = line.expect("a ready line in time").unwrap();
        let line = line.unwrap_or_else(|| panic!("it did not start: {}", log_end(dir)));
        let ready: Value = serde_json::from_str(&line).unwrap();
        let token_file = ready["admin_token_file"].as_str().unwrap();
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN);
        let api = Api {
            client: client.build().unwrap(),
            url: ready["url"].as_str().unwrap().to_owned(),
            token: std::fs::read_to_string(token_file)
                .unwrap()
                .trim()
                .to_owned(),
            counts: Arc::clone(counts),
        };
        Self {
            api,
            identity,
            child,
        }
    }

    /// `kill -9`. Gives how many requests were in flight at that moment.
    pub(crate) async fn kill(mut self) -> usize {
        let in_flight = self.api.counts.in_flight.load(Ordering::SeqCst);
        self.signal(Signal::KILL);
        self.child.wait().await.unwrap();
        in_flight
    }

    /// The orderly end; gives its exit code.
    pub(crate) async fn end(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let status = timeout(END_WITHIN, self.child.wait()).await;
        status.expect("it ends after SIGTERM").unwrap().code()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Api {
    /// One request to the end of its answer; `None` when no whole answer came.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let changes = method != Method::GET;
        let mut request = self
            .client
            .request(method, format!("{}/api/{path}", self.url))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.counts.in_flight.fetch_add(1, Ordering::SeqCst);
        let in_flight = InFlight(&self.counts.in_flight);
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        drop(in_flight);
        let answer: Value = serde_json::from_str(&text).ok()?;
        if changes && status < 300 {
            self.counts.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        Some((status, answer["data"].clone()))
    }

    /// A request of the trial itself, which nothing interrupts.
    pub(crate) async fn must(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let answer = self.call(method, path, body).await;
        let (status, data) = answer.unwrap_or_else(|| panic!("no answer to {method} {path}"));
        assert!(status < 300, "{method} {path}: {status} {data}");
        data
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.must("GET", path, None).await
    }
}

/// By this the processes of a data directory are known.
pub(crate) fn marker_of(dir: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(dir.join("wellhead.json")).unwrap();
    let own: Value = serde_json::from_str(&text).unwrap();
    let instance = own["instance"].as_str().expect("an instance").to_owned();
    vec![("WELLHEAD_INSTANCE".to_owned(), instance)]
}

fn spawn(dir: &Path, kilo: &Path) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_of(dir));
    let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
    command
        .args(["up", "--listen", "127.0.0.1:0", "--json", "--data-dir"])
        .arg(dir)
        .arg("--kilo")
        .arg(kilo)
        .env_remove("KILO_API_URL")
        .env_remove("KILOCODE_TOKEN")
        .env("WELLHEAD_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.unwrap())
        .kill_on_drop(true);
    command.spawn().unwrap()
}

fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

/// The last lines of its log, for the message of a test that fails.
pub(crate) fn log_end(dir: &Path) -> String {
    let text = std::fs::read_to_string(log_of(dir)).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
