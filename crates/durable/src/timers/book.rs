//! Which wake-ups are in memory: those of the near future, and those that only memory knows.
//!
//! The alarm index on disk is complete. The book holds the part of it below an *edge*, so that a
//! million alarms of next week cost nothing. The rule that loses no alarm at the edge:
//!
//! ```text
//! every alarm below the edge that is on disk, and whose commit has been told, is in the book
//! ```
//! A scan first raises what is accepted, then reads the index up to there, then raises the edge:
//! an alarm told before the first step is on disk for the second, one told later is accepted by
//! itself. The book may hold entries too many or too early, since the object compares before it
//! acts. It has no clock, no lock and no store.

use std::collections::{BTreeSet, HashMap};

use super::{Kind, Target};
use crate::ObjectId;
use crate::keys::{self, ObjectKeys};

#[cfg(test)]
mod tests;

/// A fired entry comes again after this time unless the object has settled it: a wake-up that
/// got lost with a dying actor costs a pause, not the alarm.
const RECHECK_MS: i64 = 30_000;
/// A scan that failed is tried again after this time.
const SCAN_AGAIN_MS: i64 = 5_000;

/// How much the book holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How far ahead of now the index is read.
    pub(super) ahead_ms: i64,
    /// Alarms that a scan fills the book up to; it begins when half of them are left.
    pub(super) fill: usize,
    /// Alarms beyond which the latest ones are forgotten, to be read again.
    pub(super) keep: usize,
    /// Wake-ups that are fired and not settled, at most: each of them is an object in memory.
    pub(super) flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ahead_ms: 60_000,
            fill: 16_384,
            keep: 65_536,
            flight: 4_096,
        }
    }
}

/// A place in the alarm index: everything before it, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    at: i64,
    /// The first key that is not below.
    key: Vec<u8>,
}

impl Edge {
    /// Before every alarm.
    fn start() -> Self {
        Self::time(i64::MIN)
    }

    /// Before every alarm of that time.
    pub(crate) fn time(at: i64) -> Self {
        let key = keys::alarms_from(at);
        Self { at, key }
    }

    /// Right behind the alarm with that time and key.
    pub(crate) fn behind(at: i64, key: Vec<u8>) -> Self {
        let key = crate::record::after(key);
        Self { at, key }
    }

    pub(crate) fn at(&self) -> i64 {
        self.at
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }

    fn covers(&self, target: &Target, at: i64) -> bool {
        let key = || ObjectKeys::new(target.namespace, &target.id).alarm(at);
        at < self.at || (at == self.at && key() < self.key)
    }
}

/// A part of the alarm index that is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    pub(crate) from: Edge,
    pub(crate) to: Edge,
    /// Entries to read at most.
    pub(crate) room: usize,
    /// Alarms of other namespaces have nobody to wake and are left out.
    pub(crate) namespaces: Vec<&'static str>,
}

/// What a scan has read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) alarms: Vec<(&'static str, ObjectId, i64)>,
    /// Everything before this was read.
    pub(crate) reached: Edge,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits, and is in the alarm index under this very time: may be forgotten.
    Indexed,
    /// Waits, and nothing on disk says for when.
    Held,
    /// Was fired and is not settled yet.
    Fired,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Next {
    Now,
    At(i64),
    Never,
}

pub(super) struct Book {
    limits: Limits,
    entries: HashMap<Target, (i64, State)>,
    waiting: BTreeSet<(i64, Target)>,
    /// Fired entries, by the time of their repetition.
    fired: BTreeSet<(i64, Target)>,
    edge: Edge,
    /// What is accepted while a scan is under way.
    scanning: Option<Edge>,
    /// The scan under way does not know all namespaces.
    scan_anew: bool,
    scan_not_before: i64,
    namespaces: Vec<&'static str>,
    /// How many entries are `Indexed`.
    indexed: usize,
}

impl Book {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            waiting: BTreeSet::new(),
            fired: BTreeSet::new(),
            edge: Edge::start(),
            scanning: None,
            scan_anew: false,
            scan_not_before: i64::MIN,
            namespaces: Vec::new(),
            indexed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// From now on alarms of this namespace are of interest: the index is read from its start.
    pub(super) fn register(&mut self, namespace: &'static str) {
        self.namespaces.push(namespace);
        self.scan_anew = self.scanning.is_some();
        self.edge = Edge::start();
    }

    /// The alarm that is on disk for the target, in place of anything else.
    pub(super) fn set(&mut self, target: Target, at: i64) {
        self.remove(&target);
        if self.accepts(&target, at) {
            self.insert(target, at, State::Indexed);
            self.shed();
        }
    }

    /// A time that only memory knows, in place of anything else.
    pub(super) fn hold(&mut self, target: Target, at: i64) {
        self.remove(&target);
        self.insert(target, at, State::Held);
    }

    /// The alarm that was found on disk: what a running object has told meanwhile is newer.
    pub(super) fn offer(&mut self, target: Target, at: i64) {
        if !self.entries.contains_key(&target) && self.accepts(&target, at) {
            self.insert(target, at, State::Indexed);
        }
    }

    pub(super) fn remove(&mut self, target: &Target) {
        if let Some((at, state)) = self.entries.remove(target) {
            self.indexed -= usize::from(state == State::Indexed);
            let times = match state {
                State::Indexed | State::Held => &mut self.waiting,
                State::Fired => &mut self.fired,
            };
            times.remove(&(at, target.clone()));
        }
    }

    fn accepts(&self, target: &Target, at: i64) -> bool {
        let edge = self.scanning.as_ref().unwrap_or(&self.edge);
        edge.covers(target, at)
    }

    fn insert(&mut self, target: Target, at: i64, state: State) {
        self.indexed += usize::from(state == State::Indexed);
        self.waiting.insert((at, target.clone()));
        self.entries.insert(target, (at, state));
    }

    /// Forgets the latest alarms of too many, and lowers the edge to the first of them.
    fn shed(&mut self) {
        let (len, keep) = (self.indexed, self.limits.keep);
        if len <= keep || self.scanning.is_some() {
            return;
        }
        let indexed = |(_, target): &&(i64, Target)| {
            matches!(self.entries.get(target), Some((_, State::Indexed)))
        };
        let latest = self.waiting.iter().rev().filter(indexed);
        let latest: Vec<_> = latest.take(len - keep / 4 * 3).cloned().collect();
        if let Some((at, target)) = latest.last() {
            let key = ObjectKeys::new(target.namespace, &target.id).alarm(*at);
            let lowered = Edge { at: *at, key };
            self.edge = lowered.min(self.edge.clone());
        }
        for (_, target) in latest {
            self.remove(&target);
        }
    }

    /// Fires what is due, as far as there is room for it.
    pub(super) fn fire(&mut self, now: i64, max: usize) -> Vec<Target> {
        let mut due = Vec::new();
        while due.len() < max
            && let Some((_, target)) = self.fired.first().filter(|(at, _)| *at <= now).cloned()
        {
            due.push(self.mark_fired(target, now));
        }
        while due.len() < max
            && self.fired.len() < self.limits.flight
            && let Some((_, target)) = self.waiting.first().filter(|(at, _)| *at <= now).cloned()
        {
            due.push(self.mark_fired(target, now));
        }
        due
    }

    fn mark_fired(&mut self, target: Target, now: i64) -> Target {
        self.remove(&target);
        let again_at = now.saturating_add(RECHECK_MS);
        self.fired.insert((again_at, target.clone()));
        self.entries
            .insert(target.clone(), (again_at, State::Fired));
        target
    }

    /// When there is something to do again, `fire` or `begin_scan`.
    pub(super) fn next(&self, now: i64) -> Next {
        let room = self.fired.len() < self.limits.flight;
        let waiting = self.waiting.first().filter(|_| room);
        let first = [self.fired.first(), waiting].into_iter().flatten();
        let first = first.map(|(at, _)| *at).chain(self.scan_at()).min();
        match first {
            Some(at) if at <= now => Next::Now,
            Some(at) => Next::At(at),
            None => Next::Never,
        }
    }

    /// When the index has to be read, as far as is known.
    fn scan_at(&self) -> Option<i64> {
        let full = self.indexed > self.limits.fill / 2;
        if self.scanning.is_some() || self.namespaces.is_empty() || full {
            return None;
        }
        let wanted = self.edge.at.saturating_sub(self.limits.ahead_ms / 2);
        Some(wanted.max(self.scan_not_before))
    }

    /// The part of the index that has to be read now. `end_scan` must follow.
    pub(super) fn begin_scan(&mut self, now: i64) -> Option<Scan> {
        if self.scan_at().is_none_or(|at| at > now) {
            return None;
        }
        let to = Edge::time(now.saturating_add(self.limits.ahead_ms));
        self.scanning = Some(to.clone());
        Some(Scan {
            from: self.edge.clone(),
            to,
            room: self.limits.fill.saturating_sub(self.indexed),
            namespaces: self.namespaces.clone(),
        })
    }

    /// Everything that was found has been offered. None: the scan has failed.
    pub(super) fn end_scan(&mut self, reached: Option<Edge>, now: i64) {
        self.scanning = None;
        match reached {
            _ if self.scan_anew => {}
            Some(reached) => self.edge = reached,
            None => self.scan_not_before = now.saturating_add(SCAN_AGAIN_MS),
        }
        self.scan_anew = false;
        self.shed();
    }

    /// Wakes the target, before all others.
    pub(super) fn wake(&mut self, target: Target) {
        if !self.entries.contains_key(&target) {
            self.insert(target, i64::MIN, State::Held);
        }
    }

    /// How many targets of `wake` have not been fired yet.
    pub(super) fn waking(&self) -> usize {
        let first = self.waiting.iter().take_while(|(at, _)| *at == i64::MIN);
        first
            .filter(|(_, target)| target.kind == Kind::Outbox)
            .count()
    }
}
