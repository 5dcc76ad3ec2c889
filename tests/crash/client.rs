//! A client that never stops to ask for changes, and writes down what it was answered.
//!
//! Owns the log outside of the server: for each of its beads the last acknowledged state, and what
//! a request without an answer may have made of it. Its rig has no configuration, so that nothing
//! but this client moves its beads.

use std::sync::atomic::{AtomicBool, Ordering};

use rand::{Rng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::server::Api;

/// More beads than this are closed and deleted before new ones are made.
const BEADS_MAX: usize = 8;
/// Deleted beads that are asked for again after each kill.
const GONE_MAX: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Held,
    Hooked,
    Closed,
    Gone,
}

#[derive(Debug)]
struct Entry {
    id: String,
    state: State,
    /// What a request that was not answered asked for.
    maybe: Option<State>,
}

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Acknowledged, and not there.
    pub(crate) lost: Vec<String>,
    /// There twice, or in two states.
    pub(crate) doubled: Vec<String>,
    /// Anything else that must not be.
    pub(crate) wrong: Vec<String>,
}

/// One client and its log.
pub(crate) struct Client {
    name: String,
    rig: String,
    rng: StdRng,
    agent: Option<String>,
    beads: Vec<Entry>,
    gone: Vec<String>,
    /// Titles that were sent, in order; a title is never sent twice.
    titles: usize,
    agents: usize,
    /// When the last acknowledged heartbeat was sent.
    beat_ms: i64,
    refused: Vec<String>,
}

impl Client {
    pub(crate) fn new(name: String, rig: String, rng: StdRng) -> Self {
        Self {
            name,
            rig,
            rng,
            agent: None,
            beads: Vec::new(),
            gone: Vec::new(),
            titles: 0,
            agents: 0,
            beat_ms: 0,
            refused: Vec::new(),
        }
    }

    /// Asks for one change after the other until told to stop, or until the server is gone.
    pub(crate) async fn run(&mut self, api: &Api, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) && self.step(api).await.is_some() {}
    }

    /// One change. `None` when no answer came.
    async fn step(&mut self, api: &Api) -> Option<()> {
        let Some(agent) = self.agent.clone() else {
            return self.register(api).await;
        };
        match self.rng.random_range(0..100) {
            0..30 => self.beat(api, &agent).await,
            30..60 if self.beads.len() < BEADS_MAX => self.create(api).await,
            _ if self.beads.is_empty() => self.create(api).await,
            _ => self.change(api, &agent).await,
        }
    }

    async fn register(&mut self, api: &Api) -> Option<()> {
        self.agents += 1;
        let identity = format!("{}-{}", self.name, self.agents);
        let body = json!({"role": "witness", "name": self.name, "identity": identity});
        let path = format!("rigs/{}/agents", self.rig);
        let agent = self.answered(api, "POST", &path, Some(&body)).await?;
        self.agent = agent["id"].as_str().map(str::to_owned);
        Some(())
    }

    async fn beat(&mut self, api: &Api, agent: &str) -> Option<()> {
        let sent_ms = jiff::Timestamp::now().as_millisecond();
        let path = format!("rigs/{}/agents/{agent}/heartbeat", self.rig);
        self.answered(api, "POST", &path, None).await?;
        self.beat_ms = sent_ms;
        Some(())
    }

    async fn create(&mut self, api: &Api) -> Option<()> {
        self.titles += 1;
        let title = format!("{}-{}", self.name, self.titles);
        let body = json!({"type": "issue", "title": title});
        let path = format!("rigs/{}/beads", self.rig);
        let bead = self.answered(api, "POST", &path, Some(&body)).await?;
        if let Some(id) = bead["id"].as_str() {
            self.beads.push(Entry {
                id: id.to_owned(),
                state: State::Open,
                maybe: None,
            });
        }
        Some(())
    }

    async fn change(&mut self, api: &Api, agent: &str) -> Option<()> {
        let at = self.rng.random_range(0..self.beads.len());
        let hooked = self.beads.iter().any(|bead| bead.state == State::Hooked);
        let (state, id) = (self.beads[at].state, self.beads[at].id.clone());
        let next = match (state, self.rng.random_range(0..3)) {
            (State::Open, 0) if !hooked => State::Hooked,
            (State::Open, 1) => State::Held,
            (State::Open | State::Held, _) => State::Closed,
            (State::Hooked, _) => State::Open,
            (State::Closed | State::Gone, _) => State::Gone,
        };
        let (bead, hook) = (format!("beads/{id}"), format!("agents/{agent}/hook"));
        let (method, rest, body) = match next {
            State::Hooked => ("POST", hook, Some(json!({"bead_id": id}))),
            State::Open => ("DELETE", hook, None),
            State::Held => {
                let body = json!({"status": "in_progress", "agent_id": null});
                ("PATCH", format!("{bead}/status"), Some(body))
            }
            State::Closed => (
                "POST",
                format!("{bead}/close"),
                Some(json!({"agent_id": null})),
            ),
            State::Gone => ("DELETE", bead, None),
        };
        self.beads[at].maybe = Some(next);
        let path = format!("rigs/{}/{rest}", self.rig);
        self.answered(api, method, &path, body.as_ref()).await?;
        self.beads[at].maybe = None;
        self.beads[at].state = next;
        self.bury();
        Some(())
    }

    /// An answer that is no success is written down: nothing that is asked for here is illegal.
    async fn answered(
        &mut self,
        api: &Api,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Option<Value> {
        let (status, data) = api.call(method, path, body).await?;
        if status < 300 {
            return Some(data);
        }
        self.refused.push(format!("{method} {path}: {status}"));
        None
    }

    fn bury(&mut self) {
        let gone = self.beads.extract_if(.., |bead| bead.state == State::Gone);
        self.gone.extend(gone.map(|bead| bead.id));
        let old = self.gone.len().saturating_sub(GONE_MAX);
        self.gone.drain(..old);
    }

    /// Asks for each bead of the log. What a request without an answer has done is taken over.
    pub(crate) async fn check(&mut self, api: &Api, findings: &mut Findings) {
        findings.wrong.append(&mut self.refused);
        let Some(agent) = self.agent.clone() else {
            return;
        };
        let agent = api.get(&format!("rigs/{}/agents/{agent}", self.rig)).await;
        let seen = agent["last_activity_at"].as_str().unwrap_or_default();
        let seen: jiff::Timestamp = seen.parse().expect("a time");
        if seen.as_millisecond() < self.beat_ms {
            let name = &self.name;
            findings
                .lost
                .push(format!("{name}: heartbeat of {}", self.beat_ms));
        }
        for entry in &mut self.beads {
            let seen = look(api, &self.rig, &entry.id, &agent).await;
            let expected = [Some(entry.state), entry.maybe];
            if !expected.contains(&seen) {
                let id = &entry.id;
                findings
                    .lost
                    .push(format!("{id}: {seen:?}, not one of {expected:?}"));
            }
            entry.maybe = None;
            entry.state = seen.unwrap_or(State::Gone);
        }
        for id in &self.gone {
            if look(api, &self.rig, id, &agent).await != Some(State::Gone) {
                findings.lost.push(format!("{id}: its deletion"));
            }
        }
        self.bury();
    }
}

/// The state of a bead as the API shows it; `None` when that is no state that a client makes.
async fn look(api: &Api, rig: &str, id: &str, agent: &Value) -> Option<State> {
    let answer = api
        .call("GET", &format!("rigs/{rig}/beads/{id}"), None)
        .await;
    let (status, bead) = answer.expect("a server that is up answers");
    if status == 404 {
        return Some(State::Gone);
    }
    match bead["status"].as_str()? {
        "open" => Some(State::Open),
        "in_progress" if agent["current_hook_bead_id"] == *id => Some(State::Hooked),
        "in_progress" => Some(State::Held),
        "closed" => Some(State::Closed),
        _ => None,
    }
}
