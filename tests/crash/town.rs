//! A town under trial: gateway, rigs, clients, work, and the server's lives one after the other.
//!
//! Owns the order of a trial: load, a random moment, the kill, the next start, the checks.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use secrecy::SecretString;
use serde_json::{Value, json};
use tempfile::TempDir;
use wellhead::{
    demo::sample::create_sample_repo,
    gateway::{Behaviour, ChatRequest, Gateway, GatewaySettings, Script},
};

use crate::{
    bystanders::Bystanders,
    client::{Client, Findings},
    report::{Report, Trial},
    server::{Api, Counts, Server, log_end, marker_of},
    work::{self, ATTEMPTS_MAX, Work},
};

const TOKEN: &str = "a-token-for-trials";
const CLIENTS: usize = 24;
/// Rigs without a configuration, on which the clients work.
const QUIET_RIGS: usize = 3;
const RIGS: usize = 2;
/// A start with leftovers to end takes about this long; later moments are those of the load.
const START_MS_MAX: u64 = 1_500;
/// How long a trial waits for a session, if it is meant to have one.
const LIVE_WITHIN: Duration = Duration::from_mins(1);

/// What the trials of a run have in common.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) kilo: PathBuf,
    pub(crate) fake: PathBuf,
    pub(crate) is_real: bool,
    pub(crate) trials: usize,
    pub(crate) seed: u64,
}

/// A rig that agents work on.
pub(crate) struct NewRig {
    pub(crate) town: String,
    pub(crate) id: String,
}

/// A gateway that answers as told.
pub(crate) async fn gateway(
    choose: impl Fn(&ChatRequest) -> Behaviour + Send + Sync + 'static,
) -> Gateway {
    let settings = GatewaySettings::new(SecretString::from(TOKEN));
    Gateway::start(Script::new(choose), settings).await.unwrap()
}

/// A town with one rig, with short steps.
pub(crate) async fn new_rig(api: &Api, gateway: &Gateway, origin: &Path, name: &str) -> NewRig {
    let body = json!({"name": name});
    let town = api.must("POST", "users/tester/towns", Some(&body)).await;
    add_rig(api, gateway, origin, name, town["id"].as_str().unwrap()).await
}

async fn add_rig(api: &Api, gateway: &Gateway, origin: &Path, name: &str, town: &str) -> NewRig {
    let body = json!({
        "town_id": town, "name": name, "git_url": origin, "default_branch": "main",
        "model": "scripted/auto", "kilo_api_url": gateway.url(), "kilocode_token": TOKEN,
    });
    let rig = api.must("POST", "users/tester/rigs", Some(&body)).await;
    let id = rig["id"].as_str().unwrap().to_owned();
    let policy = json!({
        "attempts_max": ATTEMPTS_MAX, "prompts_max": 1_000, "agents_max": 3,
        "backoff_ms": [1_000], "idle_grace_ms": 200, "end_grace_ms": 100,
    });
    api.must("PUT", &format!("rigs/{id}/policy"), Some(&policy))
        .await;
    NewRig {
        town: town.to_owned(),
        id,
    }
}

/// A town under trial.
pub(crate) struct Town {
    plan: Plan,
    rng: StdRng,
    dir: TempDir,
    data: PathBuf,
    origin: PathBuf,
    gateway: Gateway,
    clones: Vec<PathBuf>,
    counts: Arc<Counts>,
    clients: Vec<Client>,
    rigs: Vec<String>,
    works: Vec<Work>,
    report: Report,
    /// When each life of the server was ready, in unix milliseconds.
    ready_ms: Vec<i64>,
}

impl Town {
    pub(crate) async fn new(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let origin = create_sample_repo(dir.path().join("origin")).await.unwrap();
        std::fs::create_dir(dir.path().join("signs")).unwrap();
        let gateway = gateway(work::behaviour).await;
        let mut rng = StdRng::seed_from_u64(plan.seed);
        let client = |no| {
            let rig = format!("quiet-{}", no % QUIET_RIGS);
            Client::new(format!("c{no}"), rig, StdRng::seed_from_u64(rng.random()))
        };
        Self {
            data: dir.path().join("data"),
            clients: (0..CLIENTS).map(client).collect(),
            rng,
            origin,
            gateway,
            clones: Vec::new(),
            counts: Arc::default(),
            rigs: Vec::new(),
            works: Vec::new(),
            report: Report::new(plan.name, plan.seed),
            ready_ms: Vec::new(),
            plan,
            dir,
        }
    }

    /// All trials and the end of all work.
    pub(crate) async fn run(mut self) -> Report {
        let (path, plan) = (self.dir.path(), &self.plan);
        let bystanders = Bystanders::start(path, &plan.kilo, &plan.fake, &self.origin).await;
        let mut server = self.start().await;
        self.make_rigs(&server.api).await;
        for no in 0..self.plan.trials {
            let in_flight = self.load_and_kill(server, no).await;
            self.kill_starts(no).await;
            server = self.start().await;
            self.report.trials.push(Trial { in_flight, live: 0 });
            self.check(&server.api).await;
            self.report.bystanders_lost += bystanders.missing();
            if self.report.has_findings() {
                break;
            }
        }
        self.finish(server).await;
        self.report.bystanders_lost += bystanders.missing();
        bystanders.end().await;
        if self.report.has_findings() {
            eprintln!("{}", log_end(&self.data));
        }
        self.gateway.stop().await;
        self.report
    }

    /// Every other start is killed once or twice before it succeeds.
    async fn kill_starts(&mut self, no: usize) {
        for _ in 0..(no % 2) * self.rng.random_range(1..=2) {
            let after = Duration::from_millis(self.rng.random_range(0..START_MS_MAX));
            Server::start_and_kill(&self.data, &self.plan.kilo, after).await;
            self.report.starts_killed += 1;
        }
    }

    /// Starts the server; whatever an earlier life left must be gone by the time it is ready.
    async fn start(&mut self) -> Server {
        let server = Server::start(&self.data, &self.plan.kilo, &self.counts).await;
        self.ready_ms.push(jiff::Timestamp::now().as_millisecond());
        let left = kilo::marked(&marker_of(&self.data));
        let older = left
            .iter()
            .filter(|process| process.start_time < server.identity.start_time);
        self.report.orphans += older.count();
        server
    }

    async fn make_rigs(&mut self, api: &Api) {
        let first = new_rig(api, &self.gateway, &self.origin, "rig-0").await;
        let mut rigs = vec![first];
        for no in 1..RIGS {
            let (name, town) = (format!("rig-{no}"), rigs[0].town.clone());
            rigs.push(add_rig(api, &self.gateway, &self.origin, &name, &town).await);
        }
        let clone = |rig: &NewRig| {
            let town = self.data.join("towns").join(&rig.town);
            town.join("rigs").join(&rig.id).join("repo.git")
        };
        self.clones = rigs.iter().map(clone).collect();
        self.rigs = rigs.into_iter().map(|rig| rig.id).collect();
    }

    /// Lets all clients ask, slings work, and kills the server at a random moment.
    async fn load_and_kill(&mut self, server: Server, no: usize) -> usize {
        // Two of three trials wait for a session first; real sessions are few and slow.
        let wants_live = self.plan.is_real || !no.is_multiple_of(3);
        let moment = Duration::from_millis(self.rng.random_range(0..900));
        let slings = self.rng.random_range(1..=2);
        let first = self.works.len();
        for work in first..first + slings {
            // The session that is waited for works; one that fails at once shows no life.
            let may_fail = work > first || !wants_live;
            self.works
                .push(Work::new(work, RIGS, may_fail, &mut self.rng));
        }
        if self.plan.is_real {
            // A real session takes many times as long to start beside the load.
            self.sling_and_wait(&server.api, first, wants_live).await;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = tokio::task::JoinSet::new();
        for mut client in self.clients.drain(..) {
            let (api, stop) = (server.api.clone(), Arc::clone(&stop));
            clients.spawn(async move {
                client.run(&api, &stop).await;
                client
            });
        }
        if !self.plan.is_real {
            self.sling_and_wait(&server.api, first, wants_live).await;
        }
        // The random moment itself, not a wait for anything.
        tokio::time::sleep(moment).await;
        let in_flight = server.kill().await;
        stop.store(true, Ordering::SeqCst);
        self.clients = clients.join_all().await;
        in_flight
    }

    /// Slings the works from `first` on, and waits for a session to begin if one is wanted.
    async fn sling_and_wait(&mut self, api: &Api, first: usize, wants_live: bool) {
        let signs = self.dir.path().join("signs");
        let alive = self.life_signs();
        for work in &mut self.works[first..] {
            work.sling(api, &self.rigs, &signs).await;
        }
        let deadline = Instant::now() + LIVE_WITHIN;
        while wants_live && self.life_signs() <= alive {
            assert!(
                Instant::now() < deadline,
                "no session: {}",
                log_end(&self.data)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Grows with each turn that has begun.
    fn life_signs(&self) -> usize {
        if self.plan.is_real {
            let asked = self.gateway.requests();
            return asked.iter().filter(|r| r.behaviour == "slow").count();
        }
        let signs = std::fs::read_dir(self.dir.path().join("signs"));
        signs.unwrap().count()
    }

    /// Compares what was acknowledged with what is there.
    async fn check(&mut self, api: &Api) {
        let mut findings = Findings::default();
        for client in &mut self.clients {
            client.check(api, &mut findings).await;
        }
        for work in &self.works {
            work.check(api, &self.rigs, &mut findings).await;
        }
        for no in 0..QUIET_RIGS {
            let beads = api.get(&format!("rigs/quiet-{no}/beads?limit=1000")).await;
            each_once(&beads, &mut findings);
        }
        consistent(&api.get("snapshot").await, &mut findings);
        self.report.add(findings);
    }

    /// Lets all work end, judges it, ends the server, and looks at what is left.
    async fn finish(&mut self, server: Server) {
        let mut findings = Findings::default();
        let clones = &self.clones;
        work::judge(&server.api, &self.rigs, clones, &self.works, &mut findings).await;
        self.count_live(&server.api).await;
        self.report.works = self.works.len();
        self.report.acknowledged = self.counts.acknowledged.load(Ordering::SeqCst);
        let code = server.end().await;
        if code != Some(0) {
            findings.wrong.push(format!("SIGTERM: exit code {code:?}"));
        }
        self.report.orphans += kilo::marked(&marker_of(&self.data)).len();
        self.report.alarms_overdue = crate::alarms::overdue(&self.data).await;
        self.report.add(findings);
    }

    /// A session was live at a kill if the next life reported just that session as lost.
    async fn count_live(&mut self, api: &Api) {
        for rig in &self.rigs {
            let beads = api.get(&format!("rigs/{rig}/beads?limit=1000")).await;
            for bead in beads.as_array().unwrap() {
                let path = format!("rigs/{rig}/beads/{}/attempts", bead["id"].as_str().unwrap());
                for attempt in api.get(&path).await.as_array().unwrap() {
                    let is_lost = attempt["outcome"]["class"] == "lost";
                    if !is_lost || attempt["session_id"].is_null() {
                        continue;
                    }
                    // The kill before that life; the sending of the attempt was before the kill.
                    let sent: jiff::Timestamp =
                        attempt["sent_at"].as_str().unwrap().parse().unwrap();
                    let sent_ms = sent.as_millisecond();
                    let next = self.ready_ms.partition_point(|ready| *ready <= sent_ms);
                    if let Some(trial) = self.report.trials.get_mut(next.saturating_sub(1)) {
                        trial.live += 1;
                    }
                }
            }
        }
    }
}

/// No id and no title is there twice.
fn each_once(beads: &Value, findings: &mut Findings) {
    let beads = beads.as_array().unwrap();
    let work = || beads.iter().filter(|bead| bead["type"] == "issue");
    for field in ["id", "title"] {
        let mut seen = HashSet::new();
        for bead in work() {
            if !seen.insert(bead[field].to_string()) {
                findings.doubled.push(format!("{field} of {bead}"));
            }
        }
    }
}

/// Each bead is in one state and on one hook: all views of it agree.
fn consistent(snapshot: &Value, findings: &mut Findings) {
    for rig in snapshot["rigs"].as_array().unwrap() {
        let mut hooks = HashSet::new();
        for agent in rig["agents"].as_array().unwrap() {
            if let Some(bead) = agent["current_hook_bead_id"].as_str()
                && !hooks.insert(bead.to_owned())
            {
                findings.doubled.push(format!("{bead} is on two hooks"));
            }
        }
        each_once(&rig["beads"], findings);
        for bead in rig["beads"].as_array().unwrap() {
            let id = bead["id"].as_str().unwrap();
            let (closed, runs) = (!bead["closed_at"].is_null(), !bead["dispatch_id"].is_null());
            let status = bead["status"].as_str().unwrap();
            let fits = closed == (status == "closed")
                && (!hooks.contains(id) || status == "in_progress")
                && (!runs || (hooks.contains(id) && status == "in_progress"));
            if !fits {
                findings.doubled.push(format!("two states: {bead}"));
            }
        }
    }
}
