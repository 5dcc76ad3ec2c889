//! A town's state in memory, and the single place that changes it.
//!
//! Owns the records, the index of what is taken, and the alarm as a function of the state. Takes
//! no decision.

use std::collections::{BTreeMap, BTreeSet};

use super::{Berth, Entry, EntryState, Guard, TownChange, TownRecord, entry::key_of};
use crate::{BreakerState, Deadline, DispatchId, RigId, Scope, Timestamp};

/// After an alarm the next one is at least this far away: no hot loop, whatever the state.
const ALARM_GAP_MS: i64 = 1_000;

/// One town.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Town {
    record: TownRecord,
    entries: BTreeMap<String, Entry>,
    // Derived from the entries in `apply` and nowhere else.
    taken: BTreeSet<String>,
}

impl Town {
    /// A town that was never written to.
    pub fn new() -> Self {
        Self::default()
    }

    /// The town that these records describe.
    pub fn from_records(record: TownRecord, entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut town = Self {
            record,
            ..Self::default()
        };
        for entry in entries {
            town.put(entry);
        }
        town
    }

    /// The only mutator: puts a step's changes in place.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = TownChange>) {
        for change in changes {
            match change {
                TownChange::Record(record) => self.record = *record,
                TownChange::Entry(entry) => self.put(*entry),
            }
        }
    }

    fn put(&mut self, entry: Entry) {
        let key = entry.key();
        match &entry.state {
            EntryState::Taken(_) => drop(self.taken.insert(key.clone())),
            EntryState::Over { .. } => drop(self.taken.remove(&key)),
        }
        self.entries.insert(key, entry);
    }

    /// The town's own record.
    pub fn record(&self) -> &TownRecord {
        &self.record
    }

    /// The newest dispatch of a bead.
    pub fn entry(&self, rig: &RigId, dispatch: &DispatchId) -> Option<&Entry> {
        self.entries.get(&key_of(rig, dispatch))
    }

    /// Everything that it remembers.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// What occupies a slot.
    pub fn taken(&self) -> impl Iterator<Item = (&Entry, &Berth)> {
        let entries = self.taken.iter().filter_map(|key| self.entries.get(key));
        entries.filter_map(|entry| Some((entry, entry.berth()?)))
    }

    /// How many slots are taken.
    pub fn taken_count(&self) -> usize {
        self.taken.len()
    }

    /// When the town has to be woken: the least of everything that it waits for. `None` when
    /// nothing waits: a breaker that nobody asks for is looked at when somebody does.
    pub fn next_alarm(&self, now: Timestamp) -> Option<Timestamp> {
        let guards = self.record.guards.iter();
        let guards = guards.filter_map(|guard| self.guard_deadline(guard));
        let waiters = self.record.waiters.iter();
        let offers = waiters.flat_map(|waiter| waiter.offer.into_iter().chain([waiter.lapse]));
        let offline = self.taken().filter(|(_, berth)| berth.waits_offline());
        let offline = offline.filter_map(|(_, berth)| berth.offline);
        let deadlines = guards.chain(offers).chain(offline);
        let next = deadlines.map(|deadline| deadline.rebased(now).at);
        let next = next.chain(self.new_day(now)).min();
        let floor = self.record.alarmed_at.map(|at| at.plus_ms(ALARM_GAP_MS));
        next.map(|at| floor.map_or(at, |floor| at.max(floor.min(now.plus_ms(ALARM_GAP_MS)))))
    }

    fn guard_deadline(&self, guard: &Guard) -> Option<Deadline> {
        if let Some(check) = guard.check {
            return Some(check.deadline);
        }
        match &guard.breaker.state {
            BreakerState::Open { next_probe, .. } if self.is_needed(&guard.scope) => {
                Some(*next_probe)
            }
            BreakerState::HalfOpen { probe, .. } => probe.as_ref().map(|(_, by)| *by),
            BreakerState::Open { .. } | BreakerState::Closed => None,
        }
    }

    /// Whether somebody waits for a scope: a rig, or a session.
    pub(crate) fn is_needed(&self, scope: &Scope) -> bool {
        let mut waiters = self.record.waiters.iter();
        waiters.any(|waiter| waiter.scope.as_ref() == Some(scope))
            || self
                .taken()
                .any(|(_, berth)| berth.waits_offline() && berth.scopes.all().contains(scope))
    }

    /// When the budget of the next day frees those that wait for it, and whoever told the people.
    fn new_day(&self, now: Timestamp) -> Option<Timestamp> {
        let record = &self.record;
        let is_stopped = record.policy.day.is_reached(&record.spent.on(now));
        let waits = record.waiters.iter().any(|w| w.scope.is_none());
        let awaited = record.stopped.is_some() || (is_stopped && waits);
        awaited.then(|| record.spent.day_ends(now))
    }
}
