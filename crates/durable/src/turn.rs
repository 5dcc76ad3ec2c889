//! One step's writes: collected in memory, handed over as one batch.
//!
//! A turn does no I/O and needs no thread of the host, so that a test can step an object inline.

use std::fmt;

use serde::Serialize;

use crate::keys::{NAME_BYTES_MAX, ObjectKeys};
use crate::storage::Op;
use crate::{Error, ObjectId, record};

const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Everything that one step may see of the host, and all that it changes.
pub struct Turn<'a, E> {
    id: &'a ObjectId,
    keys: &'a ObjectKeys,
    now: i64,
    epoch: u64,
    nonce: u128,
    alarm: Option<i64>,
    next_seq: u64,
    out: Written<E>,
    error: Option<Error>,
}

/// What a turn begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    pub(crate) now: i64,
    pub(crate) epoch: u64,
    pub(crate) nonce: u128,
    /// What `Turn::alarm` answers at first.
    pub(crate) alarm: Option<i64>,
    pub(crate) next_seq: u64,
}

/// What a turn ends with.
#[derive(Debug)]
pub(crate) struct Written<E> {
    /// All stored records go before the changes.
    pub(crate) wiped: bool,
    /// Changes of records, as they are stored.
    pub(crate) records: Vec<Op>,
    pub(crate) alarm: Option<AlarmChange>,
    /// The effects with their numbers.
    pub(crate) effects: Vec<(u64, E)>,
    /// The same as they are stored.
    pub(crate) outbox: Vec<Op>,
}

/// A change of the alarm; the last one of a turn counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlarmChange {
    Set(i64),
    Delete,
}

impl<'a, E: Serialize> Turn<'a, E> {
    pub(crate) fn new(id: &'a ObjectId, keys: &'a ObjectKeys, start: Start) -> Self {
        let Start {
            now,
            epoch,
            nonce,
            alarm,
            next_seq,
        } = start;
        let out = Written {
            wiped: false,
            records: Vec::new(),
            alarm: None,
            effects: Vec::new(),
            outbox: Vec::new(),
        };
        Self {
            id,
            keys,
            now,
            epoch,
            nonce,
            alarm,
            next_seq,
            out,
            error: None,
        }
    }

    /// The time of this turn in unix milliseconds; the same during the whole turn.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The object's id.
    pub fn id(&self) -> &ObjectId {
        self.id
    }

    /// How often the store has been opened; grows at each start.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// 128 random bits, fresh for this turn and the same during all of it.
    pub fn nonce(&self) -> u128 {
        self.nonce
    }

    /// Writes the record under that key. A value that cannot be stored (no JSON, over 4 MiB, key
    /// empty, or over 360 bytes together with the object's id) fails the whole turn: nothing is stored and the caller gets `Encode`.
    pub fn put(&mut self, key: &str, value: &impl Serialize) {
        let put = self
            .checked(key)
            .and_then(|stored| self.encode(key, stored, value));
        match put {
            Ok(put) => self.out.records.push(put),
            Err(error) => self.fail(error),
        }
    }

    /// Removes the record under that key, if there is one.
    pub fn delete(&mut self, key: &str) {
        match self.checked(key) {
            Ok(key) => self.out.records.push(Op::Delete { key }),
            Err(error) => self.fail(error),
        }
    }

    /// Sets the object's one alarm, in unix milliseconds; a time that has passed means at once.
    /// Setting the time that is already set changes nothing, a failed run's back-off included.
    pub fn set_alarm(&mut self, at: i64) {
        if self.alarm != Some(at) {
            self.out.alarm = Some(AlarmChange::Set(at));
        }
        self.alarm = Some(at);
    }

    /// Removes the alarm, if one is set.
    pub fn delete_alarm(&mut self) {
        if self.alarm.is_some() {
            self.out.alarm = Some(AlarmChange::Delete);
        }
        self.alarm = None;
    }

    /// Removes all records of the object and its alarm, in one batch with the rest of the turn.
    /// What the turn writes afterwards is kept. Effects that were sent, in this turn or before,
    /// still go out, and the numbers of later ones go on; dead letters stay too.
    pub fn delete_all(&mut self) {
        self.out.wiped = true;
        self.out.records.clear();
        self.out.alarm = Some(AlarmChange::Delete);
        self.alarm = None;
    }

    /// The alarm that is set. Inside an alarm handler: none, unless the handler set one.
    pub fn alarm(&self) -> Option<i64> {
        self.alarm
    }

    /// Puts an effect into the outbox and gives its number. It leaves after the commit, and again
    /// until its receiver has accepted it.
    pub fn send(&mut self, effect: E) -> u64 {
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        match self.encode("outbox", self.keys.effect(seq), &effect) {
            Ok(put) => {
                self.out.effects.push((seq, effect));
                self.out.outbox.push(put);
            }
            Err(error) => self.fail(error),
        }
        seq
    }

    /// What was written, and the next free outbox number.
    pub(crate) fn finish(self) -> Result<(Written<E>, u64), Error> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.out, self.next_seq)),
        }
    }
}

impl<E> Turn<'_, E> {
    /// Where a record lies, if it may lie there.
    fn checked(&self, key: &str) -> Result<Vec<u8>, Error> {
        let max = NAME_BYTES_MAX.saturating_sub(self.id.as_str().len());
        if key.is_empty() || key.len() > max {
            return Err(Error::Encode {
                key: key.chars().take(64).collect(),
                reason: format!("a key of this object has 1 to {max} bytes"),
            });
        }
        Ok(self.keys.record(key))
    }

    fn encode(&self, key: &str, stored: Vec<u8>, value: &impl Serialize) -> Result<Op, Error> {
        let refused = |reason: String| Error::Encode {
            key: key.chars().take(64).collect(),
            reason,
        };
        let sealed =
            record::seal(&stored, self.epoch, value).map_err(|e| refused(e.to_string()))?;
        let len = record::payload_len(&sealed);
        if len > VALUE_BYTES_MAX {
            return Err(refused(format!(
                "{len} bytes, the limit is {VALUE_BYTES_MAX}"
            )));
        }
        Ok(Op::Put {
            key: stored,
            value: sealed,
        })
    }

    /// The first error is the cause; later ones are its consequences.
    fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }
}

impl<E> fmt::Debug for Turn<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("id", self.id)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}
