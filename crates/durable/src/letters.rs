//! Effects that their receiver has refused for good: how often, and what becomes of them after
//! the last time, a dead letter of their object.
//!
//! ```text
//! t/<object>\0<seq>   how often an effect in the outbox was refused: written at each refusal
//! d/<object>\0<seq>   a dead letter
//! d/<object>          the numbers of the object's dead letters, in the order of their deaths
//! ```
//! The store's format is the one before these records: a program that does not know them tries
//! the effects again and leaves the letters where they are, its backups and its wipes included.
//! That is why neither is a part of the effect or of the meta record, which such a program reads
//! and writes. Pure bookkeeping: it sends nothing and knows no actor.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::keys::ObjectKeys;
use crate::record::{self, seal_json};
use crate::storage::{Op, Order, Read};
use crate::{Error, Millis, ObjectId, keys};

/// Dead letters that are kept of one object.
pub(crate) const LETTERS_MAX: usize = 100;
/// Characters of a reason that are kept.
const REASON_CHARS_MAX: usize = 500;

/// An effect that is not sent any more: its receiver has refused it for good
/// `Settings::poison_tries_max` times. It stays until it is retried or dropped, or until a
/// hundred later ones of its object have come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter<E> {
    /// Its number in the outbox; it keeps it.
    pub seq: u64,
    /// The message itself.
    pub effect: E,
    /// What the receiver said the last time, or the delivery's panic.
    pub reason: String,
    /// How often it was refused. Attempts that might have gone better later are not counted.
    pub tries: u32,
    /// When it was refused for the first time.
    pub first_tried_at: Millis,
    /// When it was refused for the last time.
    pub last_tried_at: Millis,
}

/// How often an effect was refused so far, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusals {
    pub(crate) tries: u32,
    pub(crate) first_at: i64,
}

impl Refusals {
    pub(crate) fn one_more(before: Option<Self>, now: i64) -> Self {
        let before = before.unwrap_or(Self {
            tries: 0,
            first_at: now,
        });
        Self {
            tries: before.tries.saturating_add(1),
            ..before
        }
    }

    pub(crate) fn op(self, keys: &ObjectKeys, epoch: u64, seq: u64) -> Result<Op, Error> {
        let key = keys.tries(seq);
        let value = seal_json(&key, epoch, &self)?;
        Ok(Op::Put { key, value })
    }
}

/// The numbers of an object's dead letters, the oldest first: never more than `LETTERS_MAX`.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Letters(Vec<u64>);

impl Letters {
    pub(crate) fn read(
        storage: &dyn Read,
        keys: &ObjectKeys,
        id: &ObjectId,
    ) -> Result<Self, Error> {
        let key = keys.letter_index();
        match storage.get(&key)? {
            Some(value) => record::open_json(id.as_str(), &key, &value),
            None => Ok(Self::default()),
        }
    }

    pub(crate) fn numbers(&self) -> &[u64] {
        &self.0
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        self.0.contains(&seq)
    }

    /// Takes one in, and gives those that have to leave for it.
    pub(crate) fn add(&mut self, seq: u64) -> Vec<u64> {
        self.remove(seq);
        self.0.push(seq);
        let over = self.0.len().saturating_sub(LETTERS_MAX);
        self.0.drain(..over).collect()
    }

    pub(crate) fn remove(&mut self, seq: u64) {
        self.0.retain(|known| *known != seq);
    }

    /// What the store has to say of them.
    pub(crate) fn op(&self, keys: &ObjectKeys, epoch: u64) -> Result<Op, Error> {
        let key = keys.letter_index();
        if self.0.is_empty() {
            return Ok(Op::Delete { key });
        }
        let value = seal_json(&key, epoch, self)?;
        Ok(Op::Put { key, value })
    }
}

/// Everything that a move from the outbox to the dead letters changes, but for the turn in which
/// the object is told.
pub(crate) fn burial<E: Serialize>(
    keys: &ObjectKeys,
    epoch: u64,
    letters: &Letters,
    letter: &DeadLetter<E>,
) -> Result<(Vec<Op>, Letters), Error> {
    let (key, mut letters) = (keys.letter(letter.seq), letters.clone());
    let value = seal_json(&key, epoch, letter)?;
    let put = Op::Put { key, value };
    let mut ops: Vec<Op> = vec![
        put,
        Op::Delete {
            key: keys.effect(letter.seq),
        },
    ];
    if letter.tries > 1 {
        let key = keys.tries(letter.seq);
        ops.push(Op::Delete { key });
    }
    for oldest in letters.add(letter.seq) {
        let key = keys.letter(oldest);
        ops.push(Op::Delete { key });
    }
    ops.push(letters.op(keys, epoch)?);
    Ok((ops, letters))
}

/// All dead letters of an object, by number.
pub(crate) fn all<E: DeserializeOwned>(
    storage: &dyn Read,
    keys: &ObjectKeys,
    id: &ObjectId,
) -> Result<Vec<DeadLetter<E>>, Error> {
    let start = keys.letters();
    let end = keys::end_of(&start);
    let found = storage.scan(&start, &end, Order::Ascending, LETTERS_MAX)?;
    let open = |(key, value): &(Vec<u8>, Vec<u8>)| record::open_json(id.as_str(), key, value);
    found.iter().map(open).collect()
}

/// One dead letter.
pub(crate) fn one<E: DeserializeOwned>(
    storage: &dyn Read,
    keys: &ObjectKeys,
    id: &ObjectId,
    seq: u64,
) -> Result<Option<DeadLetter<E>>, Error> {
    let key = keys.letter(seq);
    match storage.get(&key)? {
        Some(value) => record::open_json(id.as_str(), &key, &value).map(Some),
        None => Ok(None),
    }
}

/// A receiver's words, as far as they are kept.
pub(crate) fn shortened(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_death_leaves_and_never_the_new_one() {
        let mut letters = Letters::default();
        for seq in 2..=101 {
            assert_eq!(letters.add(seq), [0; 0]);
        }
        // An earlier number that has died later, as after a retry.
        assert_eq!(letters.add(1), [2]);
        assert!(letters.contains(1) && letters.numbers().len() == LETTERS_MAX);
        assert_eq!(letters.add(50), [0; 0], "it was there already");
        letters.remove(50);
        assert_eq!(letters.add(102), [0; 0]);
    }

    #[test]
    fn refusals_count_from_the_first() {
        let once = Refusals::one_more(None, 5);
        let twice = Refusals::one_more(Some(once), 9);
        assert_eq!((twice.tries, twice.first_at), (2, 5));
    }
}
