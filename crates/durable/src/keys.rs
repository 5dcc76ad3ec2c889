//! The layout of keys in the store. Every key is built and taken apart here and nowhere else.
//!
//! ```text
//! r/<ns>\0<id>\0<key>            a record of an object
//! m/<ns>\0<id>                   its meta record: alarm and next outbox number
//! o/<ns>\0<id>\0<seq>            one unacknowledged effect
//! t/<ns>\0<id>\0<seq>            how often its receiver has refused that effect for good
//! d/<ns>\0<id>\0<seq>            a dead letter: an effect that was refused too often
//! d/<ns>\0<id>                   the numbers of the object's dead letters
//! a/<time>/<ns>\0<id>            the alarm index, ordered by time
//! j/<seq><chunk>                 the journal: a group of commits, from its first number on
//! p/<name>\0<key>                a row of a projection
//! s/...                          the store's own records
//! ```
//! Numbers are big-endian, so that byte order is number order; NUL cannot occur in names.

use crate::ObjectId;

/// The longest name of a kind of object, or of a projection.
pub(crate) const NAMESPACE_BYTES_MAX: usize = 24;
/// The longest id, together with the longest key inside that object. With keys this long the
/// widest node of sled's index, 319 keys, stays below the 128 KB from which on it would become a
/// file of its own.
pub(crate) const NAME_BYTES_MAX: usize = 360;

/// Marks the store as ours from inside; a database without it was not read, but made empty.
pub(crate) const SENTINEL: &[u8] = b"s/sentinel";
/// Counts the openings of the store.
pub(crate) const EPOCH: &[u8] = b"s/epoch";
/// The epoch that the last restore began with; none in a store that was never restored.
pub(crate) const RESTORED: &[u8] = b"s/restored";
/// Every commit up to this number is in the records themselves; what is later is in the journal.
pub(crate) const SEQ: &[u8] = b"s/seq";
/// All journal records begin so.
pub(crate) const JOURNAL: &[u8] = b"j/";
/// Objects that have lost a commit: `s/damaged/<ns>\0<id>`.
pub(crate) const DAMAGED: &[u8] = b"s/damaged/";
/// How far projections have come.
pub(crate) const NOTES: &[u8] = b"s/projection/";
/// All effects begin so.
pub(crate) const OUTBOXES: &[u8] = b"o/";
/// All counts of refusals begin so.
pub(crate) const TRIES: &[u8] = b"t/";
/// All dead letters, and the lists of their numbers, begin so.
pub(crate) const LETTERS: &[u8] = b"d/";
/// All meta records begin so.
pub(crate) const METAS: &[u8] = b"m/";
/// All alarm index entries begin so.
pub(crate) const ALARMS: &[u8] = b"a/";

/// Whether that can be the name of a kind of object, or of a projection.
pub(crate) fn is_namespace(name: &str) -> bool {
    (1..=NAMESPACE_BYTES_MAX).contains(&name.len()) && !name.contains('\0')
}

/// The key space of one object.
#[derive(Debug, Clone)]
pub(crate) struct ObjectKeys {
    /// `<ns>\0<id>`
    tail: Vec<u8>,
}

impl ObjectKeys {
    pub(crate) fn new(namespace: &str, id: &ObjectId) -> Self {
        Self {
            tail: join(&[namespace.as_bytes(), b"\0", id.as_str().as_bytes()]),
        }
    }

    pub(crate) fn record(&self, key: &str) -> Vec<u8> {
        join(&[b"r/", &self.tail, b"\0", key.as_bytes()])
    }

    /// The key inside the object, of a stored record key of this object.
    pub(crate) fn record_name<'k>(&self, stored: &'k [u8]) -> Option<&'k str> {
        std::str::from_utf8(stored.get(self.tail.len() + 3..)?).ok()
    }

    pub(crate) fn meta(&self) -> Vec<u8> {
        join(&[b"m/", &self.tail])
    }

    pub(crate) fn outbox(&self) -> Vec<u8> {
        join(&[b"o/", &self.tail, b"\0"])
    }

    pub(crate) fn effect(&self, seq: u64) -> Vec<u8> {
        join(&[b"o/", &self.tail, b"\0", &seq.to_be_bytes()])
    }

    pub(crate) fn all_tries(&self) -> Vec<u8> {
        join(&[TRIES, &self.tail, b"\0"])
    }

    pub(crate) fn tries(&self, seq: u64) -> Vec<u8> {
        join(&[TRIES, &self.tail, b"\0", &seq.to_be_bytes()])
    }

    pub(crate) fn letters(&self) -> Vec<u8> {
        join(&[LETTERS, &self.tail, b"\0"])
    }

    pub(crate) fn letter(&self, seq: u64) -> Vec<u8> {
        join(&[LETTERS, &self.tail, b"\0", &seq.to_be_bytes()])
    }

    pub(crate) fn letter_index(&self) -> Vec<u8> {
        join(&[LETTERS, &self.tail])
    }

    pub(crate) fn alarm(&self, at: i64) -> Vec<u8> {
        alarm_of(&self.tail, at)
    }
}

/// One chunk of the journal record that begins with that commit.
pub(crate) fn journal(first: u64, chunk: u32) -> Vec<u8> {
    join(&[JOURNAL, &first.to_be_bytes(), &chunk.to_be_bytes()])
}

/// First commit and chunk number of a journal key.
pub(crate) fn journal_parts(stored: &[u8]) -> Option<(u64, u32)> {
    let (first, rest) = stored.strip_prefix(JOURNAL)?.split_first_chunk::<8>()?;
    let chunk: [u8; 4] = rest.try_into().ok()?;
    Some((u64::from_be_bytes(*first), u32::from_be_bytes(chunk)))
}

/// The note that this object (`<ns>\0<id>`) has lost a commit.
pub(crate) fn damaged(owner: &[u8]) -> Vec<u8> {
    join(&[DAMAGED, owner])
}

/// The object (`<ns>\0<id>`) that a key of its own belongs to.
pub(crate) fn owner(stored: &[u8]) -> Option<&[u8]> {
    let (space, rest) = stored.split_first_chunk::<2>()?;
    if !matches!(space, b"r/" | b"m/" | b"o/" | b"t/" | b"d/") {
        return None;
    }
    let mut nuls = rest.iter().enumerate().filter(|(_, byte)| **byte == 0);
    nuls.next()?;
    match nuls.next() {
        Some((end, _)) => rest.get(..end),
        None => matches!(space, b"m/" | b"d/").then_some(rest),
    }
}

/// A row of a projection.
pub(crate) fn row(projection: &str, key: &str) -> Vec<u8> {
    join(&[b"p/", projection.as_bytes(), b"\0", key.as_bytes()])
}

/// How far a projection has come.
pub(crate) fn note(projection: &str) -> Vec<u8> {
    join(&[NOTES, projection.as_bytes()])
}

/// The id in `<ns>\0<id>`, to be shown.
pub(crate) fn id_of(owner: &[u8]) -> String {
    let id = owner.splitn(2, |byte| *byte == 0).nth(1);
    String::from_utf8_lossy(id.unwrap_or_default()).into_owned()
}

/// The key in front of all records of an object (`<ns>\0<id>`).
pub(crate) fn record_of(owner: &[u8]) -> Vec<u8> {
    join(&[b"r/", owner, b"\0"])
}

/// The alarm index key of an object (`<ns>\0<id>`).
pub(crate) fn alarm_of(owner: &[u8], at: i64) -> Vec<u8> {
    join(&[ALARMS, &ordered(at), b"/", owner])
}

/// All meta records of a namespace.
pub(crate) fn metas(namespace: &str) -> Vec<u8> {
    join(&[b"m/", namespace.as_bytes(), b"\0"])
}

/// All outbox entries of a namespace.
pub(crate) fn outboxes(namespace: &str) -> Vec<u8> {
    join(&[b"o/", namespace.as_bytes(), b"\0"])
}

/// All dead letters of a namespace.
pub(crate) fn all_letters(namespace: &str) -> Vec<u8> {
    join(&[LETTERS, namespace.as_bytes(), b"\0"])
}

/// Whether the value under that key carries an envelope with a checksum.
pub(crate) fn is_sealed(stored: &[u8]) -> bool {
    [&b"r/"[..], METAS, OUTBOXES, TRIES, LETTERS]
        .iter()
        .any(|space| stored.starts_with(space))
}

/// The id in a key below `metas`, `outboxes` or `all_letters`.
pub(crate) fn id_below(prefix: &[u8], stored: &[u8]) -> Option<ObjectId> {
    let rest = stored.strip_prefix(prefix)?;
    let name = rest.split(|byte| *byte == 0).next()?;
    ObjectId::from_name(std::str::from_utf8(name).ok()?).ok()
}

/// The number at the end of a key of an effect, of its tries or of a dead letter.
pub(crate) fn effect_seq(stored: &[u8]) -> Option<u64> {
    let digits = stored.last_chunk::<8>()?;
    Some(u64::from_be_bytes(*digits))
}

/// The time in an alarm index key.
pub(crate) fn alarm_time(stored: &[u8]) -> Option<i64> {
    let digits = stored.strip_prefix(ALARMS)?.first_chunk::<8>()?;
    Some(unordered(*digits))
}

/// Time, namespace and id of an alarm index key.
pub(crate) fn alarm_parts(stored: &[u8]) -> Option<(i64, &str, ObjectId)> {
    let rest = stored.strip_prefix(ALARMS)?;
    let (time, rest) = rest.split_first_chunk::<8>()?;
    let text = std::str::from_utf8(rest.strip_prefix(b"/")?).ok()?;
    let (namespace, name) = text.split_once('\0')?;
    Some((unordered(*time), namespace, ObjectId::from_name(name).ok()?))
}

/// The first key that an alarm of that time may have.
pub(crate) fn alarms_from(at: i64) -> Vec<u8> {
    join(&[ALARMS, &ordered(at)])
}

/// The first key behind every key that begins with `prefix`.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; prefix.len() + 1]
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Signed times in byte order: the sign bit is turned over.
fn ordered(at: i64) -> [u8; 8] {
    (at ^ i64::MIN).to_be_bytes()
}

fn unordered(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn alarm_keys_sort_by_time_and_read_back(a: i64, b: i64, name in "[^\0]{1,40}") {
            let keys = ObjectKeys::new("rig", &ObjectId::from_name(&name).unwrap());
            prop_assert_eq!(a < b, keys.alarm(a) < keys.alarm(b));
            let stored = keys.alarm(a);
            let (at, namespace, id) = alarm_parts(&stored).unwrap();
            prop_assert_eq!((at, namespace, id.as_str()), (a, "rig", name.as_str()));
        }

        #[test]
        fn the_end_of_a_prefix_lies_behind_all_its_keys(
            prefix in proptest::collection::vec(any::<u8>(), 1..8),
            rest in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let key = [prefix.clone(), rest].concat();
            let all_ones = prefix.iter().all(|b| *b == u8::MAX);
            prop_assert!(all_ones || key < end_of(&prefix));
        }
    }

    #[test]
    fn an_id_that_begins_with_another_has_its_own_space() {
        let short = ObjectKeys::new("rig", &ObjectId::from_name("a").unwrap());
        let long = ObjectKeys::new("rig", &ObjectId::from_name("ab").unwrap());
        assert!(!long.record("k").starts_with(&short.record("")));
        assert!(!long.effect(1).starts_with(&short.outbox()));
    }

    #[test]
    fn the_owner_of_a_key_is_its_object() {
        let keys = ObjectKeys::new("rig", &ObjectId::from_name("a").unwrap());
        for key in [
            keys.record("k"),
            keys.record(""),
            keys.meta(),
            keys.effect(7),
            keys.tries(7),
            keys.letter(7),
            keys.letter_index(),
        ] {
            assert_eq!(owner(&key), Some(&b"rig\0a"[..]), "{key:?}");
        }
        for key in [
            keys.alarm(7),
            metas("rig"),
            EPOCH.to_vec(),
            b"r/rig".to_vec(),
        ] {
            assert!(owner(&key).is_none_or(|owner| owner == b"rig\0"), "{key:?}");
        }
    }

    #[test]
    fn parts_of_an_outbox_key_read_back() {
        let id = ObjectId::from_name("x/y").unwrap();
        let key = ObjectKeys::new("rig", &id).effect(77);
        assert_eq!(effect_seq(&key), Some(77));
        assert_eq!(id_below(&outboxes("rig"), &key), Some(id));
    }
}
