//! The witness of all rigs and towns: checks each step, keeps the account, counts what is rare.
//!
//! Owns the order: the decision is checked on the state before it, the state after it. What kinds
//! of objects differ in is in `kinds`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use durable::ObjectId;
use rig::{Timestamp, invariants::Look};
use runtime::objects::Witness;

use crate::{
    book::{Book, Notes},
    kinds::Kind,
    shadow::{Found, Shadow},
};

/// Between decision and state.
struct Between<K: Kind> {
    account: K::Account,
    changes: Vec<K::Change>,
    effects: Vec<K::Effect>,
    was_alarm: bool,
}

/// Looks on at objects of one kind.
pub(crate) struct Eye<K: Kind> {
    book: Book,
    between: Mutex<Option<Between<K>>>,
}

impl<K: Kind> Eye<K> {
    pub(crate) fn new(book: Book) -> Self {
        let between = Mutex::default();
        Self { book, between }
    }

    fn between(&self) -> MutexGuard<'_, Option<Between<K>>> {
        self.between.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn found(notes: &mut Notes, id: &ObjectId, found: Result<Found, String>) {
    match found {
        Ok(Found { lost, kept }) => {
            if lost > 0 {
                notes.stats.saw("crash before commit");
                notes.say(|| format!("{id}: {lost} steps are gone"));
            }
            if kept > 0 && notes.may_lose {
                notes.stats.saw("crash after commit");
            }
        }
        Err(words) => notes.broke(format!("{id}: {words}")),
    }
}

/// An alarm may be late and never early.
fn on_time<K: Kind>(shadow: &Shadow<K>, now: Timestamp) -> Result<(), String> {
    if shadow.has_alarm(|alarm| alarm.is_some_and(|at| at <= now)) {
        Ok(())
    } else {
        Err(format!("I3: an alarm rings at {now:?}, too early"))
    }
}

impl<K: Kind> Witness<K::State, K::Input, K::Decision> for Eye<K> {
    fn loaded(&self, id: &ObjectId, state: &K::State) {
        let mut notes = self.book.notes();
        let may_lose = notes.may_lose;
        let shadow = K::shadows(&mut notes).entry(id.to_string()).or_default();
        let is = shadow.loaded(state, may_lose);
        found(&mut notes, id, is);
    }

    fn decided(
        &self,
        id: &ObjectId,
        state: &K::State,
        input: &K::Input,
        decision: &K::Decision,
        now: Timestamp,
    ) {
        let mut notes = self.book.notes();
        notes.stats.steps += 1;
        notes.say(|| format!("{id}: {input:?} => {}", K::story(decision)));
        let shadow = K::shadows(&mut notes).entry(id.to_string()).or_default();
        let mut account = shadow.account().clone();
        let mut checked = vec![K::judge(state, input, decision, now, &mut account)];
        let was_alarm = K::is_alarm(input);
        if was_alarm {
            checked.push(on_time(shadow, now));
        }
        let parts = K::parts(decision);
        let is_change =
            parts.is_some_and(|(changes, effects)| !changes.is_empty() || !effects.is_empty());
        shadow.decides(input, is_change);
        for broken in checked.into_iter().filter_map(Result::err) {
            notes.broke(format!("{id}: {broken}"));
        }
        K::see(&mut notes, state, input, decision);
        if let Some((changes, effects)) = parts {
            *self.between() = Some(Between {
                account,
                changes: changes.to_vec(),
                effects: effects.to_vec(),
                was_alarm,
            });
        }
    }

    fn applied(&self, id: &ObjectId, state: &K::State, alarm: Option<Timestamp>, now: Timestamp) {
        let Some(between) = self.between().take() else {
            return;
        };
        let mut notes = self.book.notes();
        let look = Look {
            alarm,
            now,
            was_alarm: between.was_alarm,
        };
        if let Err(broken) = K::judge_state(&notes, id, state, look, &between.account) {
            notes.broke(format!("{id}: {broken}"));
        }
        let life = notes.life;
        let shadow = K::shadows(&mut notes).entry(id.to_string()).or_default();
        // What changes nothing may still move the alarm, and that is written as well.
        let is_same = shadow.has_alarm(|at| at == alarm);
        if between.changes.is_empty() && between.effects.is_empty() && is_same {
            return;
        }
        shadow.step(
            (between.changes, between.effects),
            alarm,
            between.account,
            life,
        );
    }
}
