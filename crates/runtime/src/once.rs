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

/// An answer as JSON text: written once, in the step, and carried as it is from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(String);

impl Json {
    /// The value as text; `null` for what cannot be written as JSON.
    pub fn of(value: &(impl Serialize + ?Sized)) -> Self {
        serde_json::to_string(value).map_or_else(|_| Self::null(), Self)
    }

    /// No answer.
    pub fn null() -> Self {
        Self("null".to_owned())
    }

    /// Whether there is none.
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What the text says.
    pub(crate) fn value(&self) -> Value {
        // It was written from a value.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// How a step answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said<A = Value> {
    /// It was carried out; this is the answer.
    Now(A),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use durable::{Handle as _, Object as _, ObjectId, testing::TestTurn};
    use rig::{Effect, Input, NewBead};
    use serde_json::json;

    use super::*;
    use crate::rig_actor::{Changes, RigActor, TellOnce};

    const START: i64 = 1_800_000_000_000;

    fn host() -> TestTurn {
        TestTurn::new::<RigActor>(ObjectId::from_name("rig").unwrap(), START)
    }

    fn once(n: usize) -> Once {
        Once {
            key: format!("key{n:05}"),
            digest: format!("digest{n}"),
        }
    }

    fn note(host: &mut TestTurn, memory: &mut Memory, n: usize, at: i64) {
        let noted = host
            .at(at)
            .run::<Effect, _>(|turn| memory.note(turn, once(n), &json!({ "answer": n })));
        noted.unwrap();
    }

    /// The numbers of the keys whose request and answer lie on disk.
    fn stored(host: &TestTurn) -> Vec<usize> {
        let numbers = |prefix: &str| -> Vec<usize> {
            let found = host.all::<Value>(prefix).unwrap();
            let number = |key: &str| key.strip_prefix(prefix)?.strip_prefix("key")?.parse().ok();
            found.iter().map(|(key, _)| number(key).unwrap()).collect()
        };
        let (asked, answered) = (numbers(KEY_PREFIX), numbers(ANSWER_PREFIX));
        assert_eq!(asked, answered, "neither is there without the other");
        asked
    }

    #[test]
    fn a_key_is_remembered_for_a_day_and_then_leaves_nothing() {
        let (mut host, mut memory) = (host(), Memory::default());
        note(&mut host, &mut memory, 1, START);
        let other = Once {
            digest: "another".to_owned(),
            ..once(1)
        };
        let day = START + ONCE_MS;
        for restarted in [false, true] {
            if restarted {
                memory = Memory::load(&host.records()).unwrap();
            }
            for now in [START, day - 1, START - 1] {
                assert!(memory.is_repeated(&once(1), now).unwrap(), "{now}");
                let reused = memory.is_repeated(&other, now);
                assert!(matches!(reused, Err(Error::KeyReused)), "{reused:?}");
            }
            for again in [&once(1), &other] {
                assert!(!memory.is_repeated(again, day).unwrap(), "its day is over");
            }
        }
        assert_eq!(stored(&host), [1], "it goes with the next request");
        note(&mut host, &mut memory, 2, day);
        assert_eq!(stored(&host), [2]);
    }

    #[test]
    fn ten_thousand_keys_are_kept_and_the_oldest_go_first_when_their_day_is_over() {
        let (mut host, mut memory) = (host(), Memory::default());
        for (n, at) in (0..KEYS_MAX).zip(START..) {
            assert!(!memory.is_repeated(&once(n), at).unwrap());
            note(&mut host, &mut memory, n, at);
        }
        assert_eq!(stored(&host).len(), KEYS_MAX);
        // None is forgotten early: what was carried out must not be carried out again.
        let day = START + ONCE_MS;
        let further = memory.is_repeated(&once(KEYS_MAX), day - 1);
        assert!(
            matches!(further, Err(Error::KeysFull { max: KEYS_MAX })),
            "{further:?}"
        );
        assert!(memory.is_repeated(&once(0), day - 1).unwrap());
        // The day of the first is over: there is room for one.
        assert!(!memory.is_repeated(&once(KEYS_MAX), day).unwrap());
        note(&mut host, &mut memory, KEYS_MAX, day);
        assert_eq!(stored(&host), (1..=KEYS_MAX).collect::<Vec<_>>());
        memory = Memory::load(&host.records()).unwrap();
        assert!(memory.is_repeated(&once(KEYS_MAX + 1), day).is_err());
        // Many days are over at once: each request forgets some, the oldest first.
        let later = day + 5_000;
        note(&mut host, &mut memory, KEYS_MAX + 1, later);
        let kept = 1 + FORGET_MAX..=KEYS_MAX + 1;
        assert_eq!(stored(&host), kept.collect::<Vec<_>>());
    }

    #[test]
    fn a_request_is_carried_out_again_after_its_day() {
        let mut host = host();
        let id = ObjectId::from_name("rig").unwrap();
        let mut rig = RigActor::load(&id, &host.records(), &Changes::new().into()).unwrap();
        let said = [START, START + ONCE_MS - 1, START + ONCE_MS].map(|now| {
            let tell = TellOnce {
                input: Input::CreateBead(NewBead::issue("once a day")),
                once: Some(once(1)),
                show: Box::new(|rig, _, _| Json::of(&rig.beads().count())),
            };
            let told = host.at(now).run(|turn| rig.handle(turn, tell));
            told.unwrap().0.unwrap()
        });
        assert_eq!(
            said,
            [
                Said::Now(Json::of(&1)),
                Said::Before,
                Said::Now(Json::of(&2))
            ]
        );
    }
}
