//! Steps without a host, for unit tests of objects: the same turns and the same batches, on a
//! store in memory, with the time in the test's hand.
//!
//! There is no thread in here: what a turn wrote is stored when the closure returns.

pub mod suite;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::keys::ObjectKeys;
use crate::storage::{MemoryStorage, Op, Order, Read, Storage};
use crate::turn::{AlarmChange, Start, Turn};
use crate::{Error, Object, ObjectId, Records, keys, record};

const EPOCH: u64 = 1;

/// An inline stand-in for the host of one object.
pub struct TestTurn {
    namespace: &'static str,
    id: ObjectId,
    storage: MemoryStorage,
    now: i64,
    nonce: u128,
    alarm: Option<i64>,
    next_seq: u64,
}

/// What one turn wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Written<E> {
    /// Whether the turn removed everything before its other writes.
    pub wiped: bool,
    /// Records written, in order.
    pub puts: Vec<(String, Value)>,
    /// Records removed, in order.
    pub deletes: Vec<String>,
    /// The alarm after the turn, in unix milliseconds.
    pub alarm: Option<i64>,
    /// Effects sent, with their numbers.
    pub effects: Vec<(u64, E)>,
}

impl TestTurn {
    /// A host of that object at that time (unix milliseconds), with nothing stored.
    pub fn new<O: Object>(id: ObjectId, now: i64) -> Self {
        let storage = MemoryStorage::new();
        let namespace = O::NAMESPACE;
        Self {
            namespace,
            id,
            storage,
            now,
            nonce: 0,
            alarm: None,
            next_seq: 1,
        }
    }

    /// Sets the time of the following turns.
    pub fn at(&mut self, now: i64) -> &mut Self {
        self.now = now;
        self
    }

    /// The alarm that is set.
    pub fn alarm(&self) -> Option<i64> {
        self.alarm
    }

    /// What an object would load from now.
    pub fn records(&self) -> Records<'_> {
        Records::new(&self.storage, self.namespace, &self.id)
    }

    /// Runs a message's turn and stores it. The nonce counts from 1.
    ///
    /// # Errors
    /// `Encode`, as the host would answer; nothing is stored then.
    pub fn run<E: Serialize, R>(
        &mut self,
        step: impl FnOnce(&mut Turn<'_, E>) -> R,
    ) -> Result<(R, Written<E>), Error> {
        self.step(self.alarm, step)
    }

    /// Runs an alarm's turn: the alarm is used up unless the step sets a new one. A step whose
    /// handler failed must not be stored: return its error from the test instead.
    ///
    /// # Errors
    /// `Encode`, as the host would count it as a failure; nothing is stored then.
    pub fn run_alarm<E: Serialize, R>(
        &mut self,
        step: impl FnOnce(&mut Turn<'_, E>) -> R,
    ) -> Result<(R, Written<E>), Error> {
        self.step(None, step)
    }

    fn step<E: Serialize, R>(
        &mut self,
        alarm: Option<i64>,
        step: impl FnOnce(&mut Turn<'_, E>) -> R,
    ) -> Result<(R, Written<E>), Error> {
        self.nonce += 1;
        let (now, nonce, next_seq) = (self.now, self.nonce, self.next_seq);
        let keys = ObjectKeys::new(self.namespace, &self.id);
        let mut turn = Turn::new(
            &self.id,
            &keys,
            Start {
                now,
                epoch: EPOCH,
                nonce,
                alarm,
                next_seq,
            },
        );
        let reply = step(&mut turn);
        let (out, next_seq) = turn.finish()?;
        self.next_seq = next_seq;
        self.alarm = match out.alarm {
            Some(AlarmChange::Set(at)) => Some(at),
            Some(AlarmChange::Delete) => None,
            None => alarm,
        };
        let mut written = Written {
            wiped: out.wiped,
            puts: Vec::new(),
            deletes: Vec::new(),
            alarm: self.alarm,
            effects: out.effects,
        };
        if out.wiped {
            self.wipe()?;
        }
        for write in out.records {
            self.store(write, &keys, &mut written)?;
        }
        Ok((reply, written))
    }

    fn wipe(&self) -> Result<(), Error> {
        let start = ObjectKeys::new(self.namespace, &self.id).record("");
        let end = keys::end_of(&start);
        let all = self
            .storage
            .scan(&start, &end, Order::Ascending, usize::MAX)?;
        let gone = all.into_iter().map(|(key, _)| Op::Delete { key });
        self.storage.apply(gone.collect())
    }

    fn store<E>(&self, write: Op, keys: &ObjectKeys, to: &mut Written<E>) -> Result<(), Error> {
        let name = keys.record_name(write.key()).unwrap_or_default().to_owned();
        match &write {
            Op::Delete { .. } => to.deletes.push(name),
            Op::Put { key, value } => {
                let value = record::open_json(self.id.as_str(), key, value)?;
                to.puts.push((name, value));
            }
        }
        self.storage.apply(vec![write])
    }

    /// All records whose keys begin with `prefix`, for assertions.
    ///
    /// # Errors
    /// `Corrupt` for a record that is no `T`.
    pub fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, Error> {
        self.records()
            .scan(prefix, None, usize::MAX, Order::Ascending)
    }
}

impl fmt::Debug for TestTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestTurn")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
