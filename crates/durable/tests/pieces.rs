//! Large values on disk: stored in pieces, so that sled keeps no file beside its log, and a store
//! whose directory is taken away harms no other one.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use durable::storage::{Entry, Op, Order, Read as _};
use durable::{Error, SledStorage, Storage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The largest piece: `split::PIECE_BYTES`.
const PIECE: usize = 6 * 1024;
/// The longest stored key: `keys::NAME_BYTES_MAX`, a namespace, and what stands between them.
const KEY: usize = 360 + 24 + 4;

fn put(key: &[u8], value: Vec<u8>) -> Op {
    let key = key.to_vec();
    Op::Put { key, value }
}

fn files_beside_the_log(dir: &Path) -> usize {
    fs::read_dir(dir.join("blobs")).unwrap().count()
}

/// Everything in one direction, and each key by itself: both views are one.
fn all(storage: &SledStorage) -> Vec<Entry> {
    let found = storage
        .scan(b"k", b"l", Order::Descending, usize::MAX)
        .unwrap();
    for (key, value) in &found {
        assert_eq!(storage.get(key).unwrap().as_ref(), Some(value));
    }
    found
}

#[test]
fn values_of_every_size_are_overwritten_and_removed_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = SledStorage::open(dir.path()).unwrap();
    let mut chance = StdRng::seed_from_u64(11);
    let mut model = BTreeMap::new();
    let sizes = [0, 1, 27, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 100_000];
    for round in 0..300 {
        let mut ops = Vec::new();
        for _ in 0..chance.random_range(1..4) {
            let key = format!("k{}", chance.random_range(0..6)).into_bytes();
            if chance.random_bool(0.3) {
                model.remove(&key);
                ops.push(Op::Delete { key });
            } else {
                let size = sizes[chance.random_range(0..sizes.len())];
                let value = vec![chance.random::<u8>(); size];
                model.insert(key.clone(), value.clone());
                ops.push(put(&key, value));
            }
        }
        if round % 2 == 0 {
            storage.apply(ops).unwrap();
        } else {
            storage.apply_each(ops).unwrap();
        }
        if round % 100 == 99 {
            storage.sync().unwrap();
            drop(storage);
            storage = SledStorage::open(dir.path()).unwrap();
        }
        let expected: Vec<Entry> = model.clone().into_iter().rev().collect();
        assert_eq!(all(&storage), expected);
    }
    let gone = model.keys().map(|key| Op::Delete { key: key.clone() });
    storage.apply(gone.collect()).unwrap();
    assert_eq!(all(&storage), []);
    let end: &[u8] = &[0xff; 64];
    let left = storage.scan(&[], end, Order::Ascending, 99).unwrap();
    assert!(left.iter().all(|(key, _)| key.starts_with(b"s/")));
    assert_eq!(files_beside_the_log(dir.path()), 0);
    drop(storage);
    assert_eq!(pieces(dir.path()), 0);
}

/// Looks below the store, with its own database.
fn pieces(dir: &Path) -> usize {
    let db = sled::Config::new().path(dir).open().unwrap();
    db.range([0xff]..).count()
}

#[test]
fn a_value_that_looks_like_a_large_one_comes_back_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let storage = SledStorage::open(dir.path()).unwrap();
    let mut value = b"\xff\x00wh-pieces\x00".to_vec();
    value.extend_from_slice(&[0; 12]);
    storage.apply(vec![put(b"k", value.clone())]).unwrap();
    assert_eq!(all(&storage), [(b"k".to_vec(), value)]);
    let other = storage.apply(vec![put(&[0xff, 1], vec![1])]);
    assert!(matches!(other, Err(Error::Storage { .. })), "{other:?}");
}

#[test]
fn the_longest_keys_and_values_make_no_file_beside_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let storage = SledStorage::open(dir.path()).unwrap();
    let mut chance = StdRng::seed_from_u64(12);
    let key = |n: u32| {
        // They differ at once, so that no common beginning makes them shorter.
        let mut key = (n.wrapping_mul(2_654_435_761) & 0x7fff_ffff)
            .to_be_bytes()
            .to_vec();
        key.resize(KEY, b'x');
        key
    };
    for n in 0..9_000 {
        let size = if n % 30 == 0 { PIECE } else { 1 };
        storage.apply(vec![put(&key(n), vec![7; size])]).unwrap();
    }
    // Removals make nodes small and let them grow together.
    for _ in 0..9_000 {
        let n = chance.random_range(0..9_000);
        let op = Op::Delete { key: key(n) };
        storage.apply(vec![op]).unwrap();
    }
    storage.sync().unwrap();
    assert_eq!(files_beside_the_log(dir.path()), 0);
}

#[test]
fn a_store_whose_directory_is_taken_away_holds_up_no_other() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let storage = SledStorage::open(dir.path()).unwrap();
    storage.apply(vec![put(b"k", vec![1; 300_000])]).unwrap();
    dir.close().unwrap();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        // It has its log open and may go on, or fail; it may not wait for ever.
        let _ = storage.apply(vec![put(b"k", vec![2; 900_000])]);
        let _ = storage.sync();
        drop(storage);
        let other = SledStorage::open(other.path()).unwrap();
        other.apply(vec![put(b"k", vec![3; 300_000])]).unwrap();
        other.sync().unwrap();
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_mins(1)).unwrap();
}
