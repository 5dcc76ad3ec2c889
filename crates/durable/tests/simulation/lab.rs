//! What a run of the simulation writes down: a trace of everything that happens, what was
//! promised to callers, and every promise that was broken.
//!
//! It knows no host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard};

use durable::Clock;

use super::objects::Note;

/// An effect: sender and number.
pub type EffectId = (String, u64);

#[derive(Debug, Default)]
pub struct Notes {
    /// Whether everything is written down: the same run can be had again for it.
    pub traced: bool,
    pub trace: Vec<String>,
    pub broken: Vec<String>,
    /// Which life of the process runs, from 1.
    pub life: u64,
    pub steps: u64,
    /// Nothing fails any more.
    pub calm: bool,
    /// Receivers take what can be cured.
    pub cured: bool,
    /// How often the retry of a dead letter was begun.
    pub retried: BTreeMap<EffectId, u64>,
    /// Dead letters that were left in the end.
    pub letters: usize,
    /// Instances in memory, by kind and id.
    pub alive: BTreeMap<(&'static str, String), u32>,
    /// Operations that were answered: object, its turn, effects sent.
    pub acked: BTreeMap<u64, (String, u64, Vec<u64>)>,
    /// Operations of which nothing may ever be stored.
    pub refused: BTreeMap<u64, String>,
    /// What left under which number.
    pub sent: BTreeMap<EffectId, Note>,
    /// The highest number that has left in this life, by sender.
    pub first: BTreeMap<String, u64>,
    /// Numbers that have left in this life.
    pub tried: BTreeSet<EffectId>,
    /// What a receiver has accepted.
    pub taken: BTreeSet<EffectId>,
    clock: Option<Arc<dyn Clock>>,
}

/// Shared by everything in one run.
#[derive(Debug, Default)]
pub struct Lab(Mutex<Notes>);

impl Lab {
    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn say(&self, what: impl Display) {
        self.notes().say(what);
    }

    /// A panic in a handler would be caught by the host, so broken promises are collected.
    pub fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            let mut notes = self.notes();
            let text = format!("life {}: {}", notes.life, what());
            notes.say(&text);
            notes.broken.push(text);
        }
    }

    pub fn begin_life(&self, clock: Arc<dyn Clock>) {
        let mut notes = self.notes();
        notes.life += 1;
        notes.clock = Some(clock);
        notes.first.clear();
        notes.tried.clear();
        let life = notes.life;
        notes.say(format_args!("life {life} begins"));
    }

    /// An effect leaves, perhaps not for the first time.
    pub fn leaves(&self, from: &str, seq: u64, note: &Note) {
        let mut notes = self.notes();
        notes.say(format_args!("{from} #{seq} leaves: {note:?}"));
        let id = (from.to_owned(), seq);
        let known = notes
            .sent
            .entry(id.clone())
            .or_insert_with(|| note.clone())
            .clone();
        let first = notes.tried.insert(id);
        let before = notes.first.get(from).copied().unwrap_or(0);
        // What was a dead letter has its turn when somebody says so.
        let first = first && !notes.retried.contains_key(&(from.to_owned(), seq));
        if first {
            notes.first.insert(from.to_owned(), before.max(seq));
        }
        drop(notes);
        self.check(known == *note, || {
            format!("{from} #{seq} was {known:?} and is {note:?}")
        });
        self.check(!first || seq > before, || {
            format!("{from} #{seq} leaves for the first time behind #{before}")
        });
    }

    /// An operator is about to send a dead letter again.
    pub fn retries_now(&self, from: &str, seq: u64) {
        let mut notes = self.notes();
        *notes.retried.entry((from.to_owned(), seq)).or_default() += 1;
    }

    /// How often that may have happened.
    pub fn retries(&self, from: &str, seq: u64) -> u64 {
        let notes = self.notes();
        let count = notes.retried.get(&(from.to_owned(), seq));
        count.copied().unwrap_or_default()
    }

    pub fn lives(&self, kind: &'static str, id: &str) -> Instance {
        let mut notes = self.notes();
        let count = notes.alive.entry((kind, id.to_owned())).or_default();
        *count += 1;
        let count = *count;
        drop(notes);
        self.check(count == 1, || format!("{count} instances of {id}"));
        (kind, id.to_owned())
    }

    pub fn dies(&self, instance: &Instance) {
        if let Some(count) = self.notes().alive.get_mut(instance) {
            *count -= 1;
        }
    }
}

/// One instance, until it dies.
pub type Instance = (&'static str, String);

impl Notes {
    pub fn say(&mut self, what: impl Display) {
        if !self.traced {
            return;
        }
        let now = self.clock.as_ref().map_or(0, |clock| clock.now());
        self.trace.push(format!("{now} {what}"));
    }
}
