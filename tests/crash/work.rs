//! Work that agents do while the server is killed: what they are told, and what must come of it.
//!
//! Owns the two kinds of work and their ends: one commit, exactly once; or a failure after exactly
//! as many charged attempts as allowed, whose next ones only alarms bring about.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{Rng as _, rngs::StdRng};
use serde_json::{Value, json};
use wellhead::gateway::{Behaviour, ChatRequest};

use crate::{client::Findings, server::Api, support::git};

/// A charged attempt is repeated after a second, by an alarm; then never again.
pub(crate) const ATTEMPTS_MAX: u64 = 2;
/// From the last kill to the end of all work.
const DONE_WITHIN: Duration = Duration::from_mins(4);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Makes one commit, unless it is there.
    Commit,
    /// Fails each time.
    Doomed,
}

/// A bead for an agent.
#[derive(Debug)]
pub(crate) struct Work {
    kind: Kind,
    rig: usize,
    name: String,
    /// Set when the sling was acknowledged.
    id: Option<String>,
}

impl Work {
    /// `may_fail`: every sixth is doomed.
    pub(crate) fn new(no: usize, rigs: usize, may_fail: bool, rng: &mut StdRng) -> Self {
        let doomed = may_fail && rng.random_range(0..6) == 0;
        let (kind, letter) = if doomed {
            (Kind::Doomed, 'd')
        } else {
            (Kind::Commit, 'w')
        };
        Self {
            kind,
            rig: rng.random_range(0..rigs),
            name: format!("{letter}{no} writes it down"),
            id: None,
        }
    }

    /// Slings it. Without an answer it may be there or not.
    pub(crate) async fn sling(&mut self, api: &Api, rigs: &[String], signs: &Path) {
        // In the title, since a prompt that continues a session repeats nothing else.
        let title = format!("{} {}", self.name, self.directives(signs));
        let path = format!("rigs/{}/sling", rigs[self.rig]);
        if let Some((201, data)) = api
            .call("POST", &path, Some(&json!({"title": title})))
            .await
        {
            self.id = data["bead"]["id"].as_str().map(str::to_owned);
        }
    }

    /// For the stand-in; the real program hears from [`behaviour`] what to do.
    fn directives(&self, signs: &Path) -> String {
        let word = self.name.split(' ').next().unwrap_or_default();
        let sign = format!("[[fake: sh touch {}/{word}-$$]]", signs.display());
        let turn = match self.kind {
            Kind::Doomed => "[[fake: malformed]]".to_owned(),
            Kind::Commit => format!(
                "[[fake: grandchild]] [[fake: sleep 300]] [[fake: sh echo {word} > {word}.txt && \
                 git add {word}.txt && (git diff --cached --quiet || git commit -qm {word})]]"
            ),
        };
        format!("{sign} {turn}")
    }

    /// Every acknowledged sling is there.
    pub(crate) async fn check(&self, api: &Api, rigs: &[String], findings: &mut Findings) {
        let Some(id) = &self.id else { return };
        let path = format!("rigs/{}/beads/{id}", rigs[self.rig]);
        let answer = api.call("GET", &path, None).await;
        if answer.as_ref().is_none_or(|(status, _)| *status != 200) {
            findings.lost.push(format!("{id}: sling of {}", self.name));
        }
    }
}

/// What the scripted model does: it commits, unless the words that it was given last say that its
/// commit is there. It looks at nothing by itself.
pub(crate) fn behaviour(request: &ChatRequest) -> Behaviour {
    let task = request.user_texts().next().unwrap_or_default();
    if task.starts_with('d') {
        return Behaviour::Malformed;
    }
    if request.tool_has_answered() {
        return Behaviour::Commit;
    }
    // The note's subject is cut, and the name stands first.
    let name = task.split("[[").next().unwrap_or_default().trim();
    let subject = format!("note: {name}");
    let told = |text: &str| text.contains(&subject) || text.contains("commits of an earlier");
    if request.user_texts().last().is_some_and(told) {
        return Behaviour::Text;
    }
    // At first it only speaks, so that there is a while in which it can be killed.
    match request.user_texts().count() {
        0 | 1 => Behaviour::Slow { seconds: 1 },
        _ => Behaviour::Commit,
    }
}

/// Waits until no bead of these rigs has an agent any more, and gives all of them.
pub(crate) async fn until_done(api: &Api, rigs: &[String]) -> Vec<(usize, Value)> {
    let deadline = Instant::now() + DONE_WITHIN;
    let mut version = String::new();
    loop {
        let path = format!("snapshot?after={version}&wait_ms=2000");
        let snapshot = api.get(&path).await;
        version = snapshot["version"].as_str().unwrap_or_default().to_owned();
        let mut beads = Vec::new();
        for (no, rig) in rigs.iter().enumerate() {
            let path = format!("rigs/{rig}/beads?type=issue&limit=1000");
            let listed = api.get(&path).await;
            beads.extend(listed.as_array().unwrap().iter().map(|b| (no, b.clone())));
        }
        let open = |bead: &Value| !matches!(bead["status"].as_str(), Some("closed" | "failed"));
        let left: Vec<&Value> = beads.iter().map(|(_, b)| b).filter(|b| open(b)).collect();
        if left.is_empty() {
            return beads;
        }
        assert!(Instant::now() < deadline, "unfinished: {left:#?}");
    }
}

/// Judges the end of all work: each acknowledged one is there, once, and has its one result.
pub(crate) async fn judge(
    api: &Api,
    rigs: &[String],
    clones: &[PathBuf],
    works: &[Work],
    findings: &mut Findings,
) {
    let beads = until_done(api, rigs).await;
    let escalations = api.get("escalations?limit=1000").await;
    let escalations = escalations.as_array().unwrap();
    for work in works {
        let named = |(rig, bead): &&(usize, Value)| {
            *rig == work.rig && bead["title"].as_str().unwrap().starts_with(&work.name)
        };
        let found: Vec<_> = beads.iter().filter(named).collect();
        match (found.as_slice(), &work.id) {
            ([], None) => {}
            ([], Some(id)) => findings.lost.push(format!("{id}: {}", work.name)),
            ([(_, bead)], id) if id.is_none() || bead["id"].as_str() == id.as_deref() => {
                judge_one(work, bead, &clones[work.rig], escalations, findings);
            }
            more => findings.doubled.push(format!("{}: {more:?}", work.name)),
        }
    }
}

fn judge_one(
    work: &Work,
    bead: &Value,
    clone: &Path,
    escalations: &[Value],
    findings: &mut Findings,
) {
    let id = bead["id"].as_str().unwrap();
    if work.kind == Kind::Doomed {
        let told = escalations.iter().filter(|e| e.to_string().contains(id));
        let seen = (&bead["status"], &bead["attempts"], told.count());
        if seen != (&json!("failed"), &json!(ATTEMPTS_MAX), 1) {
            let last = &bead["last_failure"];
            findings
                .wrong
                .push(format!("{}: {seen:?} {last}", work.name));
        }
        return;
    }
    if bead["status"] != "closed" {
        findings.wrong.push(format!("{}: {bead}", work.name));
        return;
    }
    let branch = bead["branch"].as_str().unwrap_or("no-branch");
    let commits = git(clone, &["rev-list", &format!("origin/main..{branch}")]);
    let is_right =
        commits.lines().count() == 1 && bead["commit"] == *commits && bead["result"] == "worked";
    if commits.lines().count() > 1 {
        findings
            .doubled
            .push(format!("{}: commits {commits}", work.name));
    } else if !is_right {
        findings.wrong.push(format!("{}: {bead}", work.name));
    }
}
