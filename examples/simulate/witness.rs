//! The witness of all rigs and towns: checks each step, keeps the account, counts what is rare.
//!
//! Owns the order: the decision is checked on the state before it, the state after it.

use std::sync::Mutex;

use durable::ObjectId;
use rig::{
    Input, Refused, Rig, Step, Timestamp, TownId,
    invariants::{self, Look, RigAccount, TownAccount},
    town::{Town, TownInput, TownStep},
};
use runtime::objects::Witness;

use crate::{
    book::{Book, Notes},
    plan::TURN_TOKENS_MAX,
    rig_sights,
    shadow::Found,
    town_sights,
};

/// Between decision and state.
struct Between<A, C, E> {
    account: A,
    changes: Vec<C>,
    effects: Vec<E>,
    was_alarm: bool,
    taken: usize,
}

/// Looks on at rigs.
pub(crate) struct RigEye {
    pub(crate) book: Book,
    between: Mutex<Option<Between<RigAccount, rig::Change, rig::Effect>>>,
}

/// Looks on at towns.
pub(crate) struct TownEye {
    pub(crate) book: Book,
    between: Mutex<Option<Between<TownAccount, rig::town::TownChange, rig::town::TownEffect>>>,
}

impl RigEye {
    pub(crate) fn new(book: Book) -> Self {
        let between = Mutex::default();
        Self { book, between }
    }
}

impl TownEye {
    pub(crate) fn new(book: Book) -> Self {
        let between = Mutex::default();
        Self { book, between }
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
fn on_time(alarm: Option<Timestamp>, now: Timestamp) -> Result<(), String> {
    match alarm {
        Some(at) if at <= now => Ok(()),
        other => Err(format!("I3: the alarm of {other:?} rings at {now:?}")),
    }
}

impl Witness<Rig, Input, Result<Step, Refused>> for RigEye {
    fn loaded(&self, id: &ObjectId, state: &Rig) {
        let mut notes = self.book.notes();
        let may_lose = notes.may_lose;
        let is = notes
            .rigs
            .entry(id.to_string())
            .or_default()
            .loaded(state, may_lose);
        found(&mut notes, id, is);
    }

    fn decided(
        &self,
        id: &ObjectId,
        state: &Rig,
        input: &Input,
        step: &Result<Step, Refused>,
        now: Timestamp,
    ) {
        let mut notes = self.book.notes();
        let notes = &mut *notes;
        notes.stats.steps += 1;
        notes.say(|| match step {
            Ok(step) => format!("{id}: {input:?} => {:?} {:?}", step.effects, step.reply),
            Err(refused) => format!("{id}: {input:?} => refused: {refused}"),
        });
        let shadow = notes.rigs.entry(id.to_string()).or_default();
        let mut account = shadow.account().clone();
        let checked = match step {
            Ok(step) => {
                invariants::rig_step(state, input, step, now, TURN_TOKENS_MAX, &mut account)
            }
            Err(Refused::Stale(_)) => {
                notes.stats.saw("stale refused");
                invariants::rig_refusal(state, input)
            }
            Err(_) => invariants::rig_refusal(state, input),
        };
        let was_alarm = matches!(input, Input::Alarm);
        let on_time = if was_alarm {
            on_time(shadow.alarm(), now)
        } else {
            Ok(())
        };
        let is_change = step
            .as_ref()
            .is_ok_and(|step| !step.changes.is_empty() || !step.effects.is_empty());
        shadow.decides(input, is_change);
        for broken in [checked, on_time].into_iter().filter_map(Result::err) {
            notes.broke(format!("{id}: {broken}"));
        }
        let Ok(step) = step else { return };
        rig_sights::see(state, input, step, &mut notes.stats);
        let sent = step.dispatches().count();
        if sent > 0 {
            notes.dispatched_at = notes.now();
            notes.dispatched += sent as u64;
        }
        if is_change {
            let between = Between {
                account,
                changes: step.changes.clone(),
                effects: step.effects.clone(),
                was_alarm,
                taken: 0,
            };
            *self
                .between
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(between);
        }
    }

    fn applied(&self, id: &ObjectId, state: &Rig, alarm: Option<Timestamp>, now: Timestamp) {
        let between = self
            .between
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let Some(between) = between else { return };
        let mut notes = self.book.notes();
        let life = notes.life;
        let look = Look {
            alarm,
            now,
            was_alarm: between.was_alarm,
        };
        if let Err(broken) = invariants::rig_state(state, look, &between.account) {
            notes.broke(format!("{id}: {broken}"));
        }
        let shadow = notes.rigs.entry(id.to_string()).or_default();
        shadow.step(
            (between.changes, between.effects),
            alarm,
            between.account,
            life,
        );
    }
}

impl Witness<Town, TownInput, TownStep> for TownEye {
    fn loaded(&self, id: &ObjectId, state: &Town) {
        let mut notes = self.book.notes();
        let may_lose = notes.may_lose;
        let is = notes
            .towns
            .entry(id.to_string())
            .or_default()
            .loaded(state, may_lose);
        found(&mut notes, id, is);
    }

    fn decided(
        &self,
        id: &ObjectId,
        state: &Town,
        input: &TownInput,
        step: &TownStep,
        now: Timestamp,
    ) {
        let mut notes = self.book.notes();
        let notes = &mut *notes;
        notes.stats.steps += 1;
        notes.say(|| format!("{id}: {input:?} => {:?} {:?}", step.effects, step.reply));
        let shadow = notes.towns.entry(id.to_string()).or_default();
        let mut account = shadow.account().clone();
        let checked = invariants::town_step(state, input, step, now, TURN_TOKENS_MAX, &mut account);
        let was_alarm = matches!(input, TownInput::Alarm);
        let on_time = if was_alarm {
            on_time(shadow.alarm(), now)
        } else {
            Ok(())
        };
        let is_change = !step.changes.is_empty() || !step.effects.is_empty();
        shadow.decides(input, is_change);
        for broken in [checked, on_time].into_iter().filter_map(Result::err) {
            notes.broke(format!("{id}: {broken}"));
        }
        town_sights::see(state, input, step, &mut notes.stats);
        if is_change {
            let between = Between {
                account,
                changes: step.changes.clone(),
                effects: step.effects.clone(),
                was_alarm,
                taken: state.taken_count(),
            };
            *self
                .between
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(between);
        }
    }

    fn applied(&self, id: &ObjectId, state: &Town, alarm: Option<Timestamp>, now: Timestamp) {
        let between = self
            .between
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let Some(between) = between else { return };
        let mut notes = self.book.notes();
        let life = notes.life;
        let look = Look {
            alarm,
            now,
            was_alarm: between.was_alarm,
        };
        let checked = invariants::town_state(state, look, between.taken);
        let recorded = TownId::new(id.as_str())
            .map_err(|error| error.to_string())
            .and_then(|town| notes.processes.are_recorded(&town, state));
        for broken in [checked, recorded].into_iter().filter_map(Result::err) {
            notes.broke(format!("{id}: {broken}"));
        }
        let shadow = notes.towns.entry(id.to_string()).or_default();
        shadow.step(
            (between.changes, between.effects),
            alarm,
            between.account,
            life,
        );
    }
}
