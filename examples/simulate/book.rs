//! What a run writes down: its story, what was broken, and the account of every object.
//!
//! Owns the one lock behind which witnesses and the world meet. Knows no rule.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use durable::Clock;

use crate::{
    procs::Processes,
    shadow::{RigShadow, TownShadow},
    stats::Stats,
};

/// More broken rules than this say nothing new.
const BROKEN_MAX: usize = 20;

/// See the file's head.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) traced: bool,
    pub(crate) trace: Vec<String>,
    pub(crate) broken: Vec<String>,
    pub(crate) stats: Stats,
    pub(crate) rigs: BTreeMap<String, RigShadow>,
    pub(crate) towns: BTreeMap<String, TownShadow>,
    /// Which life of the process runs, from 1.
    pub(crate) life: u64,
    /// Something of this life may fail, so that steps may be taken back.
    pub(crate) may_lose: bool,
    /// How often a scope was checked, and how many dispatches were decided.
    pub(crate) checked: u64,
    pub(crate) dispatched: u64,
    /// Dispatches that any rig has decided; the last decision's time.
    pub(crate) dispatched_at: i64,
    pub(crate) processes: Processes,
    clock: Option<Arc<dyn Clock>>,
}

/// Shared by everything in one run.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Notes>>);

impl Book {
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        // Nothing in here panics half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin_life(&self, clock: Arc<dyn Clock>) -> u64 {
        let mut notes = self.notes();
        notes.life += 1;
        notes.clock = Some(clock);
        let life = notes.life;
        notes.say(|| format!("---- life {life}"));
        life
    }

    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        self.notes().say(what);
    }

    pub(crate) fn saw(&self, what: &'static str) {
        self.notes().stats.saw(what);
    }

    pub(crate) fn broke(&self, what: impl Display) {
        self.notes().broke(what);
    }

    pub(crate) fn is_broken(&self) -> bool {
        !self.notes().broken.is_empty()
    }
}

impl Notes {
    pub(crate) fn now(&self) -> i64 {
        self.clock.as_ref().map_or(0, |clock| clock.now())
    }

    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.traced {
            let now = self.now();
            self.trace.push(format!("{now} {}", what()));
        }
    }

    pub(crate) fn broke(&mut self, what: impl Display) {
        let text = format!("life {}: {what}", self.life);
        self.say(|| format!("BROKEN {text}"));
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(text);
        }
    }
}
