//! What every storage has to do alike, as tests that any storage joins with one line.
//!
//! ```
//! use std::sync::Arc;
//! use durable::testing::suite::Subject;
//! use durable::{MemoryStorage, Storage, storage_suite};
//!
//! struct Memory;
//!
//! impl Subject for Memory {
//!     fn open(&mut self) -> Arc<dyn Storage> {
//!         Arc::new(MemoryStorage::new())
//!     }
//! }
//!
//! storage_suite!(memory, Memory);
//! ```
//! It knows a storage as the trait only, which may keep keys of its own below `s/`. A test fails
//! by panicking.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Error;
use crate::storage::{Entry, Op, Order, Storage};

/// How the suite gets at a storage, and at what is left of it after an end of either kind.
pub trait Subject {
    /// An empty storage.
    fn open(&mut self) -> Arc<dyn Storage>;

    /// The storage after an orderly end of the program. Without persistence: the same.
    fn reopen(&mut self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        storage
    }

    /// The storage after a death of the program. `None` if nothing can outlive it.
    fn crash(&mut self, storage: Arc<dyn Storage>) -> Option<Arc<dyn Storage>> {
        drop(storage);
        None
    }
}

/// Makes one test module of that name, with every test of the suite on that `Subject`.
#[macro_export]
macro_rules! storage_suite {
    ($name:ident, $subject:expr) => {
        $crate::storage_suite!(@tests $name, $subject,
            reads_see_what_was_applied,
            the_later_change_of_a_key_counts,
            scans_keep_to_their_range_in_both_orders,
            empty_and_inverted_ranges_hold_nothing,
            large_values_and_batches_come_back,
            what_was_synced_is_there_after_reopening,
            opening_again_in_place_keeps_what_was_synced,
            any_sequence_of_batches_agrees_with_a_map,
            a_crash_leaves_whole_batches_in_order_and_all_that_was_synced,
        );
    };
    (@tests $name:ident, $subject:expr, $($test:ident,)*) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $test() {
                    $crate::testing::suite::$test(&mut $subject);
                }
            )*
        }
    };
}

fn put(key: &[u8], value: &[u8]) -> Op {
    Op::Put {
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

fn delete(key: &[u8]) -> Op {
    Op::Delete { key: key.to_vec() }
}

/// The suite's way to fail.
fn ok<T>(result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("the storage refused: {error}"),
    }
}

fn apply(storage: &dyn Storage, ops: impl IntoIterator<Item = Op>) {
    ok(storage.apply(ops.into_iter().collect()));
}

fn value(storage: &dyn Storage, key: &[u8]) -> Option<Vec<u8>> {
    ok(storage.get(key))
}

fn keys(storage: &dyn Storage, start: &[u8], end: &[u8], order: Order, limit: usize) -> String {
    let found = ok(storage.scan(start, end, order, limit));
    let keys: Vec<Vec<u8>> = found.into_iter().map(|(key, _)| key).collect();
    String::from_utf8_lossy(&keys.concat()).into_owned()
}

/// Values, empty ones too, are there once they are applied, and gone once they are deleted.
pub fn reads_see_what_was_applied(subject: &mut impl Subject) {
    let storage = &*subject.open();
    apply(storage, [put(b"a", b"1"), put(b"b", b"")]);
    assert_eq!(value(storage, b"a").as_deref(), Some(&b"1"[..]));
    assert_eq!(value(storage, b"b").as_deref(), Some(&b""[..]));
    assert_eq!(value(storage, b"c"), None);
    apply(storage, [delete(b"a"), delete(b"never")]);
    assert_eq!(value(storage, b"a"), None);
    apply(storage, []);
    ok(storage.sync());
    assert_eq!(value(storage, b"b").as_deref(), Some(&b""[..]));
}

/// Inside one batch and across batches.
pub fn the_later_change_of_a_key_counts(subject: &mut impl Subject) {
    let storage = &*subject.open();
    apply(
        storage,
        [
            put(b"a", b"1"),
            delete(b"a"),
            put(b"b", b"1"),
            put(b"b", b"2"),
        ],
    );
    assert_eq!(value(storage, b"a"), None);
    assert_eq!(value(storage, b"b").as_deref(), Some(&b"2"[..]));
    apply(storage, [delete(b"b"), put(b"b", b"3")]);
    assert_eq!(value(storage, b"b").as_deref(), Some(&b"3"[..]));
}

/// The start belongs to a range, the end does not; keys are ordered as bytes.
pub fn scans_keep_to_their_range_in_both_orders(subject: &mut impl Subject) {
    let storage = &*subject.open();
    apply(
        storage,
        [b"a", b"b", b"c", b"d", b"e"].map(|k| put(k, b"v")),
    );
    let up = |start, end, limit| keys(storage, start, end, Order::Ascending, limit);
    let down = |start, end, limit| keys(storage, start, end, Order::Descending, limit);
    assert_eq!(up(b"b", b"e", 9), "bcd");
    assert_eq!(down(b"b", b"e", 9), "dcb");
    assert_eq!(up(b"b", b"e", 2), "bc");
    assert_eq!(down(b"b", b"e", 2), "dc");
    assert_eq!(up(b"", b"q", usize::MAX), "abcde");
    apply(storage, [put(b"b\0", b"v"), put(&[b'b', 255], b"v")]);
    let all = ok(storage.scan(b"b", b"c", Order::Ascending, 9));
    let all: Vec<Vec<u8>> = all.into_iter().map(|(key, _)| key).collect();
    assert_eq!(all, [b"b".to_vec(), b"b\0".to_vec(), vec![b'b', 255]]);
}

/// And no panic either.
pub fn empty_and_inverted_ranges_hold_nothing(subject: &mut impl Subject) {
    let storage = &*subject.open();
    apply(storage, [b"a", b"b", b"c"].map(|key| put(key, b"v")));
    for order in [Order::Ascending, Order::Descending] {
        assert_eq!(keys(storage, b"c", b"a", order, 9), "");
        assert_eq!(keys(storage, b"b", b"b", order, 9), "");
        assert_eq!(keys(storage, b"bb", b"bc", order, 9), "");
        assert_eq!(keys(storage, b"a", b"c", order, 0), "");
    }
}

/// Beyond any inner page or segment.
pub fn large_values_and_batches_come_back(subject: &mut impl Subject) {
    let storage = subject.open();
    let large: Vec<u8> = (0..=250).cycle().take(3 << 20).collect();
    let batch = (0..300_u32).map(|n| put(&n.to_be_bytes(), b"v"));
    apply(&*storage, batch.chain([put(b"large", &large)]));
    ok(storage.sync());
    assert_eq!(value(&*storage, b"large").as_deref(), Some(&large[..]));
    let storage = subject.reopen(storage);
    assert!(value(&*storage, b"large") == Some(large), "after reopening");
    let found = ok(storage.scan(&[0], &[1], Order::Ascending, 999));
    assert_eq!(found.len(), 300);
}

/// Whatever way it is opened, with the same order of keys.
pub fn what_was_synced_is_there_after_reopening(subject: &mut impl Subject) {
    let mut storage = subject.open();
    for round in 0..3_u8 {
        apply(
            &*storage,
            [put(&[b'k', round], &[round]), put(b"last", &[round])],
        );
        ok(storage.sync());
        storage = subject.reopen(storage);
        assert_eq!(value(&*storage, b"last"), Some(vec![round]));
        let found = ok(storage.scan(b"k", b"l", Order::Descending, 9));
        let expected: Vec<Entry> = (0..=round)
            .rev()
            .map(|n| (vec![b'k', n], vec![n]))
            .collect();
        assert_eq!(found, expected);
    }
}

/// `reopen` is for a store that has failed, and does no harm to one that has not.
pub fn opening_again_in_place_keeps_what_was_synced(subject: &mut impl Subject) {
    let storage = subject.open();
    apply(&*storage, [put(b"a", b"1")]);
    ok(storage.sync());
    ok(storage.reopen());
    assert_eq!(value(&*storage, b"a").as_deref(), Some(&b"1"[..]));
    apply(&*storage, [put(b"b", b"2")]);
    ok(storage.sync());
    ok(storage.refill());
    assert_eq!(keys(&*storage, b"a", b"q", Order::Ascending, 9), "ab");
}

/// 300 batches of random changes, with syncs and reopenings in between.
pub fn any_sequence_of_batches_agrees_with_a_map(subject: &mut impl Subject) {
    let mut chance = StdRng::seed_from_u64(7);
    let mut storage = subject.open();
    let mut model = BTreeMap::new();
    for round in 0..300 {
        let batch = random_batch(&mut chance);
        for op in &batch {
            match op {
                Op::Put { key, value } => drop(model.insert(key.clone(), value.clone())),
                Op::Delete { key } => drop(model.remove(key)),
            }
        }
        apply(&*storage, batch);
        if round % 60 == 59 {
            ok(storage.sync());
            storage = subject.reopen(storage);
        }
        let (a, b) = (random_key(&mut chance), random_key(&mut chance));
        let expected: Vec<Entry> = model
            .iter()
            .filter(|(key, _)| **key >= a && **key < b)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let found = ok(storage.scan(&a, &b, Order::Ascending, usize::MAX));
        assert_eq!(found, expected, "round {round}");
        let mut back = ok(storage.scan(&a, &b, Order::Descending, usize::MAX));
        back.reverse();
        assert_eq!(back, expected, "round {round}, backwards");
    }
}

fn random_batch(chance: &mut StdRng) -> Vec<Op> {
    let count = chance.random_range(0..12);
    let op = |_| {
        let key = random_key(chance);
        if chance.random_ratio(1, 3) {
            Op::Delete { key }
        } else {
            let value = vec![chance.random(); chance.random_range(0..40)];
            Op::Put { key, value }
        }
    };
    (0..count).map(op).collect()
}

fn random_key(chance: &mut StdRng) -> Vec<u8> {
    let bytes = chance.random_range(1..4);
    (0..bytes)
        .map(|_| chance.random_range(b'a'..b'f'))
        .collect()
}

/// Every batch sets all of its keys to its own number. After a death at any point all keys agree,
/// and on a number that is not below the last one that was synced.
pub fn a_crash_leaves_whole_batches_in_order_and_all_that_was_synced(subject: &mut impl Subject) {
    const KEYS: [&[u8]; 3] = [b"a", b"m", b"z"];
    for trial in 0..12_u64 {
        let mut chance = StdRng::seed_from_u64(trial);
        let storage = subject.open();
        let (batches, mut synced) = (chance.random_range(1..40_u64), 0);
        for number in 1..=batches {
            let own = put(&[b'n', u8::try_from(number).unwrap_or(0)], &[1; 300]);
            let same = KEYS.map(|key| put(key, &number.to_be_bytes()));
            apply(&*storage, same.into_iter().chain([own]));
            if chance.random_ratio(1, 4) {
                ok(storage.sync());
                synced = number;
            }
        }
        let Some(after) = subject.crash(storage) else {
            return;
        };
        let read = |key: &[u8]| value(&*after, key).map_or(0, |bytes| number(&bytes));
        let found = KEYS.map(read);
        let last = read(b"a");
        assert_eq!(found, [last; 3], "trial {trial}: a batch is torn");
        assert!(
            (synced..=batches).contains(&last),
            "trial {trial}: {last} of {batches} batches are there, {synced} were synced"
        );
        let own = ok(after.scan(b"n", b"o", Order::Ascending, usize::MAX));
        assert_eq!(u64::try_from(own.len()).unwrap_or(0), last, "trial {trial}");
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk::<8>()
        .map_or(u64::MAX, |b| u64::from_be_bytes(*b))
}
