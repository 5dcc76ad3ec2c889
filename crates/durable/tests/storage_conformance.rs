//! What every storage has to do alike.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use durable::storage::{Op, Read as _};
use durable::{MemoryStorage, Order, SledStorage, Storage};
use proptest::prelude::*;

fn put(key: &[u8], value: &[u8]) -> Op {
    Op::Put {
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

fn delete(key: &[u8]) -> Op {
    Op::Delete { key: key.to_vec() }
}

fn keys(storage: &dyn Storage, start: &[u8], end: &[u8], order: Order, limit: usize) -> String {
    let found = storage.scan(start, end, order, limit).unwrap();
    found
        .into_iter()
        .map(|(key, _)| String::from_utf8(key).unwrap())
        .collect()
}

fn reads_what_was_applied(storage: &dyn Storage) {
    storage
        .apply(vec![put(b"a", b"1"), put(b"b", b"")])
        .unwrap();
    assert_eq!(storage.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(storage.get(b"b").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(storage.get(b"c").unwrap(), None);
    storage.apply(vec![delete(b"a"), delete(b"never")]).unwrap();
    assert_eq!(storage.get(b"a").unwrap(), None);
    storage.sync().unwrap();
    storage.apply(vec![delete(b"b")]).unwrap();
}

fn the_later_change_of_a_key_counts(storage: &dyn Storage) {
    let batch = vec![
        put(b"a", b"1"),
        delete(b"a"),
        put(b"b", b"1"),
        put(b"b", b"2"),
    ];
    storage.apply(batch).unwrap();
    assert_eq!(storage.get(b"a").unwrap(), None);
    assert_eq!(storage.get(b"b").unwrap().as_deref(), Some(&b"2"[..]));
    storage.apply(vec![delete(b"b"), put(b"b", b"3")]).unwrap();
    assert_eq!(storage.get(b"b").unwrap().as_deref(), Some(&b"3"[..]));
    storage.apply(vec![delete(b"b")]).unwrap();
}

fn scans_ranges_in_both_orders(storage: &dyn Storage) {
    let all = [&b"a"[..], b"b", b"c", b"d", b"e"];
    storage
        .apply(all.iter().map(|key| put(key, b"v")).collect())
        .unwrap();
    assert_eq!(keys(storage, b"b", b"e", Order::Ascending, 9), "bcd");
    assert_eq!(keys(storage, b"b", b"e", Order::Descending, 9), "dcb");
    assert_eq!(keys(storage, b"b", b"e", Order::Ascending, 2), "bc");
    assert_eq!(keys(storage, b"b", b"e", Order::Descending, 2), "dc");
    assert_eq!(keys(storage, b"b", b"e", Order::Ascending, 0), "");
    assert_eq!(keys(storage, b"e", b"b", Order::Ascending, 9), "");
    assert_eq!(keys(storage, b"b", b"b", Order::Descending, 9), "");
    storage
        .apply(all.iter().map(|key| delete(key)).collect())
        .unwrap();
}

fn holds_large_values_and_batches(storage: &dyn Storage) {
    let large = vec![7_u8; 1024 * 1024];
    let batch = (0..300_u32).map(|n| put(&n.to_be_bytes(), b"v"));
    let batch = batch.chain([put(b"large", &large)]).collect();
    storage.apply(batch).unwrap();
    storage.sync().unwrap();
    assert_eq!(storage.get(b"large").unwrap(), Some(large));
    let found = storage.scan(&[0], &[1], Order::Ascending, 999).unwrap();
    assert_eq!(found.len(), 300);
}

fn conforms(storage: &dyn Storage) {
    reads_what_was_applied(storage);
    the_later_change_of_a_key_counts(storage);
    scans_ranges_in_both_orders(storage);
    holds_large_values_and_batches(storage);
}

#[test]
fn memory_conforms() {
    conforms(&MemoryStorage::new());
}

#[test]
fn sled_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&SledStorage::open(dir.path().join("store")).unwrap());
}

fn ops() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let key = proptest::collection::vec(0_u8..4, 1..3);
    let op = (key, proptest::option::of(any::<u8>())).prop_map(|(key, value)| match value {
        Some(value) => Op::Put {
            key,
            value: vec![value],
        },
        None => Op::Delete { key },
    });
    let batch = proptest::collection::vec(op, 0..6);
    proptest::collection::vec(batch, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn sled_and_memory_agree_after_any_batches(batches in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let (disk, memory) = (SledStorage::open(dir.path().join("s")).unwrap(), MemoryStorage::new());
        for batch in batches {
            disk.apply(batch.clone()).unwrap();
            memory.apply(batch).unwrap();
        }
        for order in [Order::Ascending, Order::Descending] {
            let (a, b) = (disk.scan(&[0], &[9], order, 99), memory.scan(&[0], &[9], order, 99));
            prop_assert_eq!(a.unwrap(), b.unwrap());
        }
    }
}
