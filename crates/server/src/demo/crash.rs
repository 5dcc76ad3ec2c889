//! The part of the demo in which the server dies: `kill -9` while an agent works, and what the next
//! start makes of it.
//!
//! Owns a second server in a process of its own, driven by HTTP as a stranger would. Judges by git
//! and by the API, never by the inside of the server.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{Trouble, report::FailureReport, sample::create_sample_repo, stage::Stage};

/// A part that is not over by then never will be.
const DEADLINE: Duration = Duration::from_mins(2);
/// How often the API is asked.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const TITLE: &str = "Survive the death of the server";

/// What became of the bead whose server was killed.
pub(super) struct Survivor {
    pub(super) title: String,
    pub(super) status: String,
    pub(super) dispatches: u64,
    pub(super) attempts: u32,
    pub(super) last_failure: Option<FailureReport>,
    pub(super) commit: Option<String>,
    pub(super) repo: PathBuf,
    pub(super) branch: Option<String>,
    pub(super) session_ids: Vec<String>,
    pub(super) restarts: u32,
    /// Sessions that more than one dispatch worked in.
    pub(super) continued_sessions: usize,
    /// Commits of the bead on its branch.
    pub(super) commits: usize,
    pub(super) processes_left: usize,
}

impl Survivor {
    /// Finished, committed once, in one and the same session.
    pub(super) fn is_as_it_should_be(&self) -> bool {
        self.status == "closed"
            && self.attempts == 0
            && self.commits == 1
            && self.session_ids.len() == 1
            && self.continued_sessions == 1
            && self.restarts == 1
            && self.processes_left == 0
    }
}

/// Kills the server while an agent works, starts it again, and waits for the bead's end.
pub(super) async fn play(stage: &Stage) -> Result<Survivor, Trouble> {
    let data = stage.data_dir.join("crash");
    stage.say("crash: a second server starts, to be killed");
    let mut server = Server::start(&data, &stage.kilo).await?;
    let (rig, bead) = sling(stage, &server, &data).await?;
    server
        .until(&rig, &bead, |bead| bead["session_id"].is_string())
        .await?;
    stage.say("crash: an agent works; kill -9 of its server");
    server.kill().await?;
    let server = Server::start(&data, &stage.kilo).await?;
    stage.say("crash: started again on the same data directory");
    let end = |bead: &Value| matches!(bead["status"].as_str(), Some("closed" | "failed"));
    let found = server.until(&rig, &bead, end).await?;
    let attempts = server
        .ask(&rig.path(&format!("beads/{bead}/attempts")))
        .await?;
    stage.say(&format!(
        "crash: the bead is {}",
        found["status"].as_str().unwrap_or("gone")
    ));
    server.stop().await?;
    survivor(&data, &rig, &found, &attempts).await
}

/// A rig of the second server.
struct Rig {
    town: String,
    id: String,
}

impl Rig {
    fn path(&self, rest: &str) -> String {
        format!("/api/rigs/{}/{rest}", self.id)
    }
}

async fn sling(stage: &Stage, server: &Server, data: &Path) -> Result<(Rig, String), Trouble> {
    let town = text(
        &server
            .send("/api/users/demo/towns", &json!({ "name": "Crash" }))
            .await?["id"],
    );
    let repos = data.with_file_name("crash-repositories");
    let origin = create_sample_repo(repos.join(&town)).await?;
    let rig = json!({
        "town_id": town,
        "name": "crash",
        "git_url": origin.display().to_string(),
        "default_branch": "main",
        "model": "scripted/auto",
        "kilo_api_url": stage.gateway.url(),
        "kilocode_token": stage.token.expose_secret(),
    });
    let id = text(&server.send("/api/users/demo/rigs", &rig).await?["id"]);
    let rig = Rig { town, id };
    let quick = json!({ "idle_grace_ms": 500, "end_grace_ms": 200 });
    server
        .call(Method::PUT, &rig.path("policy"), Some(&quick))
        .await?;
    let work = json!({ "title": TITLE, "body": "[[script: resumed-commit]]" });
    let slung = server.send(&rig.path("sling"), &work).await?;
    Ok((rig, text(&slung["bead"]["id"])))
}

async fn survivor(
    data: &Path,
    rig: &Rig,
    bead: &Value,
    attempts: &Value,
) -> Result<Survivor, Trouble> {
    let repo = data.join(format!("towns/{}/rigs/{}/repo.git", rig.town, rig.id));
    let attempts = attempts.as_array().cloned().unwrap_or_default();
    let worked_in: Vec<String> = attempts
        .iter()
        .filter_map(|attempt| attempt["session_id"].as_str().map(str::to_owned))
        .collect();
    let mut session_ids = worked_in.clone();
    session_ids.sort();
    session_ids.dedup();
    let times = |id: &&String| worked_in.iter().filter(|other| other == id).count();
    let continued_sessions = session_ids.iter().filter(|id| times(id) > 1).count();
    let branch = bead["branch"].as_str().map(str::to_owned);
    let commits = match &branch {
        Some(branch) => count_commits(&repo, branch).await?,
        None => 0,
    };
    let failure = &bead["last_failure"];
    Ok(Survivor {
        title: TITLE.to_owned(),
        status: text(&bead["status"]),
        dispatches: bead["dispatches"].as_u64().unwrap_or(0),
        attempts: u32::try_from(bead["attempts"].as_u64().unwrap_or(0)).unwrap_or(u32::MAX),
        last_failure: failure.is_object().then(|| FailureReport {
            class: text(&failure["class"]),
            text: text(&failure["text"]),
        }),
        commit: bead["commit"].as_str().map(str::to_owned),
        repo,
        branch,
        session_ids,
        restarts: 1,
        continued_sessions,
        commits,
        processes_left: left_behind(data).await?,
    })
}

async fn count_commits(repo: &Path, branch: &str) -> Result<usize, Trouble> {
    let range = format!("refs/remotes/origin/main..{branch}");
    let counted = Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(["rev-list", "--count", &range])
        .stdin(Stdio::null())
        .output()
        .await?;
    Ok(String::from_utf8_lossy(&counted.stdout).trim().parse()?)
}

/// Processes of the second server's data directory that still run.
async fn left_behind(data: &Path) -> Result<usize, Trouble> {
    let marker: Value =
        serde_json::from_slice(&tokio::fs::read(data.join("wellhead.json")).await?)?;
    let marker = vec![("WELLHEAD_INSTANCE".to_owned(), text(&marker["instance"]))];
    Ok(runtime::processes_with(&marker).await)
}

/// `wellhead up` in a process of its own.
struct Server {
    child: Child,
    url: String,
    admin: String,
    http: reqwest::Client,
}

impl Server {
    async fn start(data: &Path, kilo: &Path) -> Result<Self, Trouble> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .arg("--kilo")
            .arg(kilo)
            .env("WELLHEAD_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child
            .stdout
            .take()
            .ok_or("the second server has no stdout")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(DEADLINE, lines.next_line()).await??;
        let line = line.ok_or("the second server ended before it was ready")?;
        let ready: Value = serde_json::from_str(&line)?;
        let admin = tokio::fs::read_to_string(text(&ready["admin_token_file"])).await?;
        let (url, admin) = (text(&ready["url"]), admin.trim().to_owned());
        Ok(Self {
            child,
            url,
            admin,
            http: reqwest::Client::new(),
        })
    }

    async fn ask(&self, path: &str) -> Result<Value, Trouble> {
        self.call(Method::GET, path, None).await
    }

    async fn send(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.call(Method::POST, path, Some(body)).await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Trouble> {
        let request = self.http.request(method, format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.admin);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer: Value = request.send().await?.json().await?;
        match answer["success"].as_bool() {
            Some(true) => Ok(answer["data"].clone()),
            _ => Err(format!("{path}: {}", text(&answer["error"])).into()),
        }
    }

    /// The bead as soon as it fits.
    async fn until(
        &self,
        rig: &Rig,
        bead: &str,
        fits: impl Fn(&Value) -> bool,
    ) -> Result<Value, Trouble> {
        let wait = async {
            loop {
                let found = self.ask(&rig.path(&format!("beads/{bead}"))).await?;
                if fits(&found) {
                    return Ok(found);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait).await?
    }

    /// SIGKILL: nothing in the server gets a word.
    async fn kill(&mut self) -> Result<(), Trouble> {
        self.child.kill().await?;
        Ok(())
    }

    /// SIGTERM, and the end of the process.
    async fn stop(mut self) -> Result<(), Trouble> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok());
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        tokio::time::timeout(DEADLINE, self.child.wait()).await??;
        Ok(())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
