//! How the demo ended, as one JSON object or a few lines.
//!
//! Owns the report's shape, which scripts read. Counts only what was measured.

use serde::Serialize;

use super::{
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
    ok: bool,
}

#[derive(Debug, Serialize)]
struct BeadReport {
    title: String,
    status: &'static str,
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

#[derive(Debug, Serialize)]
struct FailureReport {
    class: &'static str,
    text: String,
}

impl Report {
    pub(super) fn new(ending: &Ending, ended: &Ended) -> Self {
        let beads: Vec<BeadReport> = ending.beads.iter().map(BeadReport::new).collect();
        let all_as_they_should = beads.iter().all(|bead| bead.ok);
        Self {
            ok: all_as_they_should && ended.processes_left == 0 && ending.alarms_of_settled == 0,
            beads,
            escalations: ending.escalations,
            processes_left: ended.processes_left,
            alarms_pending: ending.alarms_pending,
            seconds: ended.seconds,
            data_dir: ended.data_dir.display().to_string(),
            kilo_version: KILO_VERSION,
            gateway_requests: ended.gateway_requests,
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
            "{} escalations, {} processes left, {:.1} s, {} gateway requests",
            self.escalations, self.processes_left, self.seconds, self.gateway_requests
        ));
    }
}

impl BeadReport {
    fn new(settled: &Settled) -> Self {
        let bead = &settled.bead;
        let own = bead.last_failure.as_ref().map(|last| &last.failure);
        let failure = own.or(settled.held_by.as_ref());
        Self {
            title: bead.title.clone(),
            status: bead.status().as_str(),
            dispatches: bead.numbers.dispatch_no,
            attempts: bead.numbers.failures,
            gaps_ms: settled.gaps_ms(),
            last_failure: failure.map(|failure| FailureReport {
                class: failure.class.as_str(),
                text: failure.text.clone(),
            }),
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
