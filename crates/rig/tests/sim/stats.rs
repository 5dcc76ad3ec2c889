//! What happened in a run: totals, and how often each rare thing was reached.
//!
//! Owns the counters. A counter that stays at zero means that the simulation tests nothing there.

use std::collections::BTreeMap;

/// Everything that a run has to reach at least sometimes.
pub(crate) const SOMETIMES: [&str; 33] = [
    "crash before commit",
    "crash after commit",
    "container lost",
    "container adopted",
    "clock jumped",
    "breaker opened",
    "breaker closed",
    "probe sent",
    "probe failed",
    "probe given back",
    "preflight unanswered",
    "lost continued",
    "stale refused",
    "duplicate answered",
    "nudged",
    "given back",
    "never started",
    "limit by failures",
    "limit by prompts",
    "grace merged done",
    "order ended a session",
    "retried",
    "town refused",
    "offer taken",
    "paused",
    "stopped",
    "budget stopped",
    "parked",
    "nudged by the clock",
    "told again",
    "acknowledged",
    "looped tool call",
    "tool limit",
];

/// Totals of one seed, or of many.
#[derive(Default)]
pub(crate) struct Stats {
    pub(crate) seeds: u64,
    pub(crate) seeds_with_crash: u64,
    pub(crate) steps: u64,
    pub(crate) refused: u64,
    pub(crate) crashes: u64,
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

    /// Counters that are in no list would never be looked at.
    pub(crate) fn unlisted(&self) -> Vec<&'static str> {
        let mut names = self.sometimes.keys().copied();
        names
            .by_ref()
            .filter(|name| !SOMETIMES.contains(name))
            .collect()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.seeds_with_crash += other.seeds_with_crash;
        self.steps += other.steps;
        self.refused += other.refused;
        self.crashes += other.crashes;
        for (what, count) in &other.sometimes {
            *self.sometimes.entry(what).or_default() += count;
        }
    }
}
