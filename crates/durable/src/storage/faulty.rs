//! A store in memory that fails when it is told: for simulations and crash tests.
//!
//! It has two layers, what was applied and what was synced. A crash leaves the lower one and any
//! number of whole batches above it, in order: what a disk may have taken of them. All chance
//! comes from one seed. It knows keys only as bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::memory::{self, Map};
use super::{Entry, Op, Order, Read, Space, Storage};
use crate::Error;

/// What is done to a storage, as a hook sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// A value is read.
    Get,
    /// A range is read.
    Scan,
    /// A batch is applied.
    Apply,
    /// Everything applied is made durable.
    Sync,
}

/// How a write fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The disk is full. Every write fails from then on, until the storage is opened again.
    NoSpace,
    /// The disk is broken. Every write fails from then on.
    Io,
    /// The file system has become read-only, as some do after an error. Every write fails from
    /// then on.
    ReadOnly,
    /// The process dies at this call: this one and all others fail, reads too.
    Crash,
}

/// What a crash leaves of the batches that were applied and never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// None of them.
    Synced,
    /// The first so many of them.
    First(usize),
    /// Some number of the first ones, by the seed.
    Any,
}

type Hook = Box<dyn Fn(Call) + Send + Sync>;

/// Ordered bytes in memory, with faults.
pub struct FaultyStorage {
    state: Mutex<State>,
    hook: Option<Hook>,
}

struct State {
    durable: Map,
    applied: Map,
    /// What leads from the one to the other.
    pending: Vec<Vec<Op>>,
    /// Writing calls so far.
    points: u64,
    plan: BTreeMap<u64, Fault>,
    down: Option<Fault>,
    is_full: bool,
    reopened: u64,
    space: Option<Space>,
    chance: StdRng,
}

impl FaultyStorage {
    /// An empty store whose chance comes from that seed.
    pub fn new(seed: u64) -> Self {
        Self::holding(Map::new(), StdRng::seed_from_u64(seed))
    }

    fn holding(map: Map, chance: StdRng) -> Self {
        let state = State {
            durable: map.clone(),
            applied: map,
            pending: Vec::new(),
            points: 0,
            plan: BTreeMap::new(),
            down: None,
            is_full: false,
            reopened: 0,
            space: None,
            chance,
        };
        let (state, hook) = (Mutex::new(state), None);
        Self { state, hook }
    }

    /// Calls that before each call, on the caller's thread: it may wait there, to be a slow disk.
    pub fn with_hook(self, hook: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let hook: Option<Hook> = Some(Box::new(hook));
        Self { hook, ..self }
    }

    /// Writing calls (`apply` and `sync`) so far: the number of the next one.
    pub fn points(&self) -> u64 {
        self.state().points
    }

    /// How often it was opened again in its place.
    pub fn reopened(&self) -> u64 {
        self.state().reopened
    }

    /// The writing call of that number will fail so. It may or may not have had its effect.
    pub fn fail_at(&self, point: u64, fault: Fault) {
        self.state().plan.insert(point, fault);
    }

    /// Fills the disk, or makes room again: while it is full, every write fails.
    pub fn fill(&self, is_full: bool) {
        self.state().is_full = is_full;
    }

    /// What `space` answers from now on.
    pub fn set_space(&self, space: Option<Space>) {
        self.state().space = space;
    }

    /// Ends this handle, whose calls all fail from now on, and gives one on what is left.
    pub fn crash(&self, left: Left) -> Self {
        let mut state = self.state();
        let map = state.survivors(left);
        let chance = StdRng::seed_from_u64(state.chance.random());
        state.down = Some(Fault::Crash);
        Self::holding(map, chance)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, call: Call) -> MutexGuard<'_, State> {
        if let Some(hook) = &self.hook {
            hook(call);
        }
        self.state()
    }
}

impl State {
    fn survivors(&mut self, left: Left) -> Map {
        let count = match left {
            Left::Synced => 0,
            Left::First(count) => count.min(self.pending.len()),
            Left::Any => self.chance.random_range(0..=self.pending.len()),
        };
        let mut map = std::mem::take(&mut self.durable);
        for batch in self.pending.drain(..).take(count) {
            memory::apply(&mut map, batch);
        }
        self.durable.clone_from(&map);
        self.applied.clone_from(&map);
        map
    }

    fn check_read(&self) -> Result<(), Error> {
        match self.down {
            Some(Fault::Crash) => Err(failed("read", Fault::Crash)),
            Some(Fault::NoSpace | Fault::Io | Fault::ReadOnly) | None => Ok(()),
        }
    }

    /// Counts a writing call, and fails it if its time has come.
    fn check_write(&mut self, action: &'static str) -> Result<(), Error> {
        if let Some(fault) = self.down {
            return Err(failed(action, fault));
        }
        let planned = self.plan.remove(&self.points);
        self.points += 1;
        match planned.or(self.is_full.then_some(Fault::NoSpace)) {
            Some(fault) => {
                self.down = Some(fault);
                Err(failed(action, fault))
            }
            None => Ok(()),
        }
    }

    fn take(&mut self, ops: Vec<Op>) {
        memory::apply(&mut self.applied, ops.clone());
        self.pending.push(ops);
    }
}

impl Read for FaultyStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let state = self.enter(Call::Get);
        state.check_read()?;
        Ok(state.applied.get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let state = self.enter(Call::Scan);
        state.check_read()?;
        Ok(memory::scan(&state.applied, start, end, order, limit))
    }
}

impl Storage for FaultyStorage {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mut state = self.enter(Call::Apply);
        let was_up = state.down.is_none();
        let checked = state.check_write("apply");
        // A batch that failed may have reached the disk all the same.
        if checked.is_ok() || (was_up && state.chance.random()) {
            state.take(ops);
        }
        checked
    }

    fn sync(&self) -> Result<(), Error> {
        let mut state = self.enter(Call::Sync);
        state.check_write("sync")?;
        let State {
            durable, pending, ..
        } = &mut *state;
        // Cheaper than a copy of everything.
        for batch in pending.drain(..) {
            memory::apply(durable, batch);
        }
        Ok(())
    }

    fn space(&self) -> Result<Option<Space>, Error> {
        Ok(self.state().space)
    }

    fn reopen(&self) -> Result<(), Error> {
        let mut state = self.state();
        state.reopened += 1;
        match state.down {
            Some(fault @ (Fault::Crash | Fault::Io | Fault::ReadOnly)) => {
                Err(failed("open", fault))
            }
            Some(Fault::NoSpace) | None => {
                state.survivors(Left::Any);
                state.down = None;
                Ok(())
            }
        }
    }
}

fn failed(action: &'static str, fault: Fault) -> Error {
    let reason = match fault {
        Fault::NoSpace => "No space left on device (os error 28)",
        Fault::Io => "Input/output error (os error 5)",
        Fault::ReadOnly => "Read-only file system (os error 30)",
        Fault::Crash => "the process has died, as told",
    };
    Error::Storage {
        action,
        reason: reason.to_owned(),
    }
}

impl fmt::Debug for FaultyStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("FaultyStorage")
            .field("points", &state.points)
            .field("down", &state.down)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Vec<Op> {
        let (key, value) = (key.as_bytes().to_vec(), Vec::new());
        vec![Op::Put { key, value }]
    }

    fn keys(storage: &FaultyStorage) -> String {
        let found = storage.scan(b"", b"~", Order::Ascending, 99).unwrap();
        let keys = found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        String::from_utf8(keys.concat()).unwrap()
    }

    fn three_batches_one_synced() -> FaultyStorage {
        let storage = FaultyStorage::new(1);
        storage.apply(put("a")).unwrap();
        storage.sync().unwrap();
        storage.apply(put("b")).unwrap();
        storage.apply(put("c")).unwrap();
        storage
    }

    #[test]
    fn a_crash_leaves_what_was_synced_and_a_prefix_of_the_rest() {
        for (left, expected) in [
            (Left::Synced, "a"),
            (Left::First(1), "ab"),
            (Left::First(9), "abc"),
        ] {
            let storage = three_batches_one_synced();
            assert_eq!(keys(&storage), "abc");
            let after = storage.crash(left);
            assert_eq!(keys(&after), expected);
            assert!(storage.get(b"a").is_err(), "the dead handle still reads");
        }
        let mut seen = (0..64).map(|seed| {
            let storage = FaultyStorage::new(seed);
            storage.apply(put("a")).unwrap();
            keys(&storage.crash(Left::Any))
        });
        assert!(seen.any(|keys| keys.is_empty()) && seen.any(|keys| keys == "a"));
    }

    #[test]
    fn a_planned_fault_hits_its_call_and_stays_until_reopened() {
        let storage = three_batches_one_synced();
        storage.fail_at(storage.points(), Fault::NoSpace);
        let error = storage.sync().unwrap_err();
        assert!(error.is_full(), "{error}");
        assert!(storage.apply(put("d")).is_err());
        storage.reopen().unwrap();
        storage.apply(put("e")).unwrap();
        storage.sync().unwrap();
        assert!(keys(&storage).starts_with('a') && keys(&storage).ends_with('e'));

        storage.fail_at(storage.points(), Fault::Io);
        assert!(!storage.sync().unwrap_err().is_full());
        assert!(storage.reopen().is_err());
    }
}
