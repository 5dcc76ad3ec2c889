//! Requests that are carried out once, however often they are sent.
//!
//! Owns the memory of an object for its callers' keys: the digest of each request stays in memory,
//! its answer lies on disk, and both are written in the batch of the step itself, so that neither
//! can be there without the other. Knows no HTTP: a key and a digest are opaque texts.

use std::collections::{BTreeMap, BTreeSet};

use durable::{Records, Turn};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Error;

/// A request with a key is remembered for this long, in milliseconds.
pub const ONCE_MS: i64 = 24 * 60 * 60 * 1_000;
/// So many keys are remembered per object; a further one is refused, none is forgotten early.
pub const KEYS_MAX: usize = 10_000;
/// Old keys that one request forgets: a bound on its batch, and more than it adds.
const FORGET_MAX: usize = 64;

const KEY_PREFIX: &str = "once/";
const ANSWER_PREFIX: &str = "once-answer/";

/// A caller's key and what it asked for. Both are digests: no text of a request is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Stands for caller and key; letters and digits.
    pub key: String,
    /// Stands for the whole request.
    pub digest: String,
}

/// How a step answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It was carried out; this is the answer.
    Now(Value),
    /// It had been carried out before; the answer is on disk.
    Before,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    digest: String,
    at: i64,
}

/// What an object remembers.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    seen: BTreeMap<String, Seen>,
    by_age: BTreeSet<(i64, String)>,
}

impl Memory {
    pub(crate) fn load(records: &Records<'_>) -> Result<Self, durable::Error> {
        let mut memory = Self::default();
        for (key, seen) in records.all::<Seen>(KEY_PREFIX)? {
            let key = key.strip_prefix(KEY_PREFIX).unwrap_or(&key).to_owned();
            memory.insert(key, seen);
        }
        Ok(memory)
    }

    fn insert(&mut self, key: String, seen: Seen) {
        let at = seen.at;
        if let Some(old) = self.seen.insert(key.clone(), seen) {
            self.by_age.remove(&(old.at, key.clone()));
        }
        self.by_age.insert((at, key));
    }

    /// Whether the request came before; refuses a key that stands for another request, and a new
    /// key where too many live ones are remembered.
    pub(crate) fn is_repeated(&self, once: &Once, now: i64) -> Result<bool, Error> {
        match self.seen.get(&once.key) {
            Some(seen) if is_old(seen.at, now) => Ok(false),
            Some(seen) if seen.digest == once.digest => Ok(true),
            Some(_) => Err(Error::KeyReused),
            None => {
                let oldest = self.by_age.first();
                let has_room =
                    self.seen.len() < KEYS_MAX || oldest.is_some_and(|(at, _)| is_old(*at, now));
                if has_room {
                    Ok(false)
                } else {
                    Err(Error::KeysFull { max: KEYS_MAX })
                }
            }
        }
    }

    /// Remembers the answer in the turn's batch, and forgets what is a day old.
    pub(crate) fn note<E: Serialize>(
        &mut self,
        turn: &mut Turn<'_, E>,
        once: Once,
        answer: &Value,
    ) {
        let at = turn.now();
        for _ in 0..FORGET_MAX {
            let oldest = self.by_age.first().filter(|(old, _)| is_old(*old, at));
            let Some((old, key)) = oldest.cloned() else {
                break;
            };
            self.by_age.remove(&(old, key.clone()));
            self.seen.remove(&key);
            turn.delete(&format!("{KEY_PREFIX}{key}"));
            turn.delete(&format!("{ANSWER_PREFIX}{key}"));
        }
        let Once { key, digest } = once;
        let seen = Seen { digest, at };
        turn.put(&format!("{KEY_PREFIX}{key}"), &seen);
        turn.put(&format!("{ANSWER_PREFIX}{key}"), answer);
        self.insert(key, seen);
    }
}

/// A clock that went back makes nothing old.
fn is_old(at: i64, now: i64) -> bool {
    now.saturating_sub(at) >= ONCE_MS
}

/// The answer that was given before.
pub(crate) async fn answer<O: durable::Object>(
    stub: &durable::Stub<O>,
    key: &str,
) -> Result<Value, Error> {
    let found = stub.get(&format!("{ANSWER_PREFIX}{key}")).await?;
    found
        // Forgotten between the two looks: its day is over.
        .ok_or_else(|| Error::NotFound("this Idempotency-Key has just expired".to_owned()))
}
