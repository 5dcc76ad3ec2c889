//! How the demo ended, as one JSON object or a few lines.
//!
//! Owns the report's shape, which scripts read. Counts only what was measured.

use rig::Class;
use serde::Serialize;

use super::{
    crash::Survivor,
    print_line,
    stage::{Ended, KILO_VERSION},
    story::{Ending, Settled},
};

/// The demo's result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    beads: Vec<BeadReport>,
    escalations: usize,
    processes_left: usize,
    alarms_pending: usize,
    seconds: f64,
    data_dir: String,
    kilo_version: &'static str,
    gateway_requests: u64,
    restarts: u32,
    continued_sessions: usize,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct BeadReport {
    title: String,
    status: String,
    dispatches: u64,
    attempts: u32,
    gaps_ms: Vec<i64>,
    last_failure: Option<FailureReport>,
    commit: Option<String>,
    repo: String,
    branch: Option<String>,
    session_ids: Vec<String>,
    ok: bool,
}

/// Why an attempt failed, or why none is made.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FailureReport {
    pub(super) class: String,
    pub(super) text: String,
}

impl FailureReport {
    pub(super) fn new(class: Class, text: &str) -> Self {
        Self {
            class: class.as_str().to_owned(),
            text: text.to_owned(),
        }
    }
}

impl Report {
    pub(super) fn new(ending: &Ending, ended: &Ended) -> Self {
        let mut beads: Vec<BeadReport> = ending.beads.iter().map(BeadReport::new).collect();
        let crash = ending.crash.as_ref();
        beads.extend(crash.map(BeadReport::of_survivor));
        let left = ended.processes_left + crash.map_or(0, |survivor| survivor.processes_left);
        let all_as_they_should = beads.iter().all(|bead| bead.ok);
        Self {
            ok: all_as_they_should && left == 0 && ending.alarms_of_settled == 0,
            beads,
            escalations: ending.escalations,
            processes_left: left,
            alarms_pending: ending.alarms_pending,
            seconds: ended.seconds,
            data_dir: ended.data_dir.display().to_string(),
            kilo_version: KILO_VERSION,
            gateway_requests: ended.gateway_requests,
            restarts: crash.map_or(0, |survivor| survivor.restarts),
            continued_sessions: crash.map_or(0, |survivor| survivor.continued_sessions),
        }
    }

    pub(super) fn is_as_it_should_be(&self) -> bool {
        self.ok
    }

    /// The same for people.
    pub(super) fn tell(&self) {
        print_line("");
        for bead in &self.beads {
            let mark = if bead.ok { "ok  " } else { "BAD " };
            print_line(&format!("{mark}{:<12}{}", bead.status, bead.title));
            print_line(&format!(
                "      {} dispatches, {} charged",
                bead.dispatches, bead.attempts
            ));
            if let (Some(commit), Some(branch)) = (&bead.commit, &bead.branch) {
                print_line(&format!("      commit {commit} on {branch}"));
                print_line(&format!("      git -C {} show {commit}", bead.repo));
            }
            if let Some(failure) = &bead.last_failure {
                print_line(&format!("      {}: {}", failure.class, failure.text));
            }
        }
        print_line(&format!(
            "{} escalations, {} restart, {} session continued, {} processes left, {:.1} s",
            self.escalations,
            self.restarts,
            self.continued_sessions,
            self.processes_left,
            self.seconds
        ));
    }
}

impl BeadReport {
    fn of_survivor(survivor: &Survivor) -> Self {
        Self {
            title: survivor.title.clone(),
            status: survivor.status.clone(),
            dispatches: survivor.dispatches,
            attempts: survivor.attempts,
            gaps_ms: Vec::new(),
            last_failure: survivor.last_failure.clone(),
            commit: survivor.commit.clone(),
            repo: survivor.repo.display().to_string(),
            branch: survivor.branch.clone(),
            session_ids: survivor.session_ids.clone(),
            ok: survivor.is_as_it_should_be(),
        }
    }

    fn new(settled: &Settled) -> Self {
        let bead = &settled.bead;
        let own = bead.last_failure.as_ref().map(|last| &last.failure);
        let own = own.map(|failure| FailureReport::new(failure.class, &failure.text));
        Self {
            title: bead.title.clone(),
            status: bead.status().as_str().to_owned(),
            dispatches: bead.numbers.dispatches(),
            attempts: bead.numbers.failures,
            gaps_ms: settled.gaps_ms(),
            last_failure: own.or_else(|| settled.held_by.clone()),
            commit: bead.commit.clone(),
            repo: settled.repo.display().to_string(),
            branch: bead.branch.clone().filter(|_| bead.numbers.dispatch_no > 0),
            session_ids: bead
                .attempts
                .iter()
                .filter_map(|a| a.session.clone())
                .collect(),
            ok: settled.is_as_it_should_be(),
        }
    }
}
