//! What happened in a run: totals, and how often each rare thing was reached.
//!
//! Owns the counters. One that stays at zero means that the simulation tests nothing there.

use std::collections::BTreeMap;

/// Everything that many runs together have to reach at least sometimes.
pub(crate) const SOMETIMES: &[&str] = &[
    "breaker opened: rig",
    "breaker opened: git",
    "breaker opened: credential",
    "breaker opened: gateway",
    "breaker opened: model",
    "breaker opened: container",
    "breaker closed: rig",
    "breaker closed: git",
    "breaker closed: credential",
    "breaker closed: gateway",
    "breaker closed: model",
    "breaker closed: container",
    "check failed",
    "check unanswered",
    "probe sent",
    "probe failed",
    "probe lost",
    "probe was an offline session",
    "offline answered",
    "offline ended",
    "rate limited pause",
    "lost dispatch continued",
    "stale refused",
    "slot waited",
    "slot offered and taken",
    "offer expired",
    "town full",
    "budget warned: rig",
    "budget warned: town",
    "budget stopped: rig",
    "budget stopped: bead",
    "budget stopped: town",
    "paused",
    "stopped",
    "resumed",
    "nudged after a turn",
    "nudged by the clock",
    "stalled",
    "tool limit",
    "looped call",
    "limit by failures",
    "limit by prompts",
    "retried",
    "cancelled",
    "escalation counted",
    "escalation told again",
    "escalation acknowledged",
    "duplicate answered",
    "report repeated after a crash",
    "crash before commit",
    "crash after commit",
    "crash while a session ran",
    "orphan swept",
    "orphan left work",
    "clean restart",
    "store refused: full disk",
    "outcome unknown",
    "clock jumped forward",
    "clock jumped back",
    "suspended",
    "two lives",
    "given back",
    "never started",
    "message told",
    "dead-lettered",
];

/// Totals of one seed, or of many.
#[derive(Clone, Default)]
pub(crate) struct Stats {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) crashed_seeds: u64,
    sometimes: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// Counts one of [`SOMETIMES`].
    pub(crate) fn saw(&mut self, what: &'static str) {
        *self.sometimes.entry(what).or_default() += 1;
    }

    pub(crate) fn count(&self, what: &str) -> u64 {
        self.sometimes.get(what).copied().unwrap_or(0)
    }

    /// What was never reached.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let all = SOMETIMES.iter().copied();
        all.filter(|what| self.count(what) == 0).collect()
    }

    /// Counters that are in no list would never be looked at.
    pub(crate) fn unlisted(&self) -> Vec<&'static str> {
        let names = self.sometimes.keys().copied();
        names.filter(|name| !SOMETIMES.contains(name)).collect()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.crashed_seeds += other.crashed_seeds;
        for (what, count) in &other.sometimes {
            *self.sometimes.entry(what).or_default() += count;
        }
    }

    /// One line for machines.
    pub(crate) fn json(&self, violations: usize) -> serde_json::Value {
        let all = SOMETIMES.iter().map(|what| (*what, self.count(what)));
        serde_json::json!({
            "seeds": self.seeds, "steps": self.steps, "crashes": self.crashes,
            "violations": violations, "sometimes": all.collect::<BTreeMap<_, _>>(),
        })
    }
}
