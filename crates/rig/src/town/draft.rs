//! What a step of the town has changed so far, laid over the state that it began with.
//!
//! Owns copy-on-write and the numbers of notices. Takes no decision.

use std::collections::BTreeMap;

use super::{
    Berth, Entry, EntryState, Guard, Ticket, Town, TownChange, TownEffect, TownOrder, TownRecord,
    TownReply, TownStep, entry::key_of,
};
use crate::{DispatchId, Env, Notice, RigId, Scope, Timestamp, Who, nonce::Nonce};

/// So many of the newest orders are kept.
const ORDERS_KEPT: usize = 50;

/// The changes of one step.
pub(super) struct Draft<'t> {
    town: &'t Town,
    env: Env,
    nonce: Nonce,
    record: Option<TownRecord>,
    entries: BTreeMap<String, Entry>,
    effects: Vec<TownEffect>,
}

impl<'t> Draft<'t> {
    pub(super) fn new(town: &'t Town, env: Env) -> Self {
        Self {
            town,
            env,
            nonce: Nonce::new(env.nonce),
            record: None,
            entries: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.env.now
    }

    pub(super) fn random(&mut self) -> u64 {
        self.nonce.random()
    }

    pub(super) fn record(&self) -> &TownRecord {
        self.record.as_ref().unwrap_or_else(|| self.town.record())
    }

    pub(super) fn record_mut(&mut self) -> &mut TownRecord {
        self.record
            .get_or_insert_with(|| self.town.record().clone())
    }

    pub(super) fn entry(&self, rig: &RigId, dispatch: &DispatchId) -> Option<&Entry> {
        let changed = self.entries.get(&key_of(rig, dispatch));
        changed.or_else(|| self.town.entry(rig, dispatch))
    }

    pub(super) fn put(&mut self, entry: Entry) {
        self.entries.insert(entry.key(), entry);
    }

    /// Every entry, as the step sees it.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        let unchanged = self.town.entries();
        let unchanged = unchanged.filter(|entry| !self.entries.contains_key(&entry.key()));
        unchanged.chain(self.entries.values())
    }

    /// What occupies a slot, as the step sees it.
    pub(super) fn taken(&self) -> impl Iterator<Item = (&Entry, &Berth)> {
        let unchanged = self.town.taken();
        let unchanged = unchanged.filter(|(entry, _)| !self.entries.contains_key(&entry.key()));
        let changed = self.entries.values();
        unchanged.chain(changed.filter_map(|entry| Some((entry, entry.berth()?))))
    }

    /// The dispatch that is taken under this very number.
    pub(super) fn berth(&self, rig: &RigId, dispatch: &DispatchId) -> Option<&Berth> {
        let entry = self.entry(rig, dispatch)?;
        entry.berth().filter(|_| entry.dispatch == *dispatch)
    }

    /// Changes a dispatch that is taken; another one is left alone.
    pub(super) fn change_berth(
        &mut self,
        rig: &RigId,
        dispatch: &DispatchId,
        change: impl FnOnce(&mut Berth),
    ) {
        let Some(berth) = self.berth(rig, dispatch) else {
            return;
        };
        let mut berth = berth.clone();
        change(&mut berth);
        self.put(Entry {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
            state: EntryState::Taken(Box::new(berth)),
        });
    }

    pub(super) fn effect(&mut self, effect: TownEffect) {
        self.effects.push(effect);
    }

    /// Records what a person ordered. The list is bounded; the oldest leave.
    pub(super) fn note_order(&mut self, by: Who, what: &str) {
        let (at, what) = (self.now(), what.to_owned());
        let orders = &mut self.record_mut().orders;
        orders.push(TownOrder { at, by, what });
        let surplus = orders.len().saturating_sub(ORDERS_KEPT);
        orders.drain(..surplus);
    }

    pub(super) fn notify(&mut self, rig: RigId, notice: Notice) {
        let record = self.record_mut();
        record.notice_no += 1;
        let no = record.notice_no;
        self.effect(TownEffect::Notify { rig, no, notice });
    }

    /// Changes the breaker of a scope, if there is one that is not as new.
    pub(super) fn guard_mut(&mut self, scope: &Scope) -> Option<&mut Guard> {
        self.record().guard(scope)?;
        let mut guards = self.record_mut().guards.iter_mut();
        guards.find(|guard| guard.scope == *scope)
    }

    /// Whether somebody waits for a scope, as the step sees it.
    pub(super) fn is_needed(&self, scope: &Scope) -> bool {
        let mut waiters = self.record().waiters.iter();
        waiters.any(|waiter| waiter.scope.as_ref() == Some(scope))
            || self.waiting_offline(scope).next().is_some()
    }

    /// Sessions that wait for their gateway, if it is the one of that scope.
    pub(super) fn waiting_offline(&self, scope: &Scope) -> impl Iterator<Item = Ticket> {
        let waits = move |(_, berth): &(&Entry, &Berth)| {
            berth.waits_offline() && berth.scopes.all().contains(scope)
        };
        self.taken().filter(waits).map(|(entry, _)| Ticket {
            rig: entry.rig.clone(),
            dispatch: entry.dispatch.clone(),
        })
    }

    pub(super) fn finish(self, reply: TownReply) -> TownStep {
        let record = self.record.filter(|record| record != self.town.record());
        let record = record.map(|record| TownChange::Record(Box::new(record)));
        let entries = self.entries.into_values();
        let entries = entries.map(|entry| TownChange::Entry(Box::new(entry)));
        TownStep {
            changes: record.into_iter().chain(entries).collect(),
            effects: self.effects,
            reply,
        }
    }
}
