//! Flipped bytes and files cut short: an error that names a path, or every value right. (D3, D4)
//!
//! `WELLHEAD_TRIALS=200` runs the long form, `WELLHEAD_SEED=n` other trials.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use durable::storage::{Op, Read as _};
use durable::{Error, Order, SledStorage, Storage};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::DEADLINE;
use support::files::{copy_dir, files};

const TRIALS: u64 = 40;
/// What sled cuts its log into.
const SEGMENT_BYTES: usize = 512 << 10;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

fn trials() -> std::ops::Range<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seed: u64 = number("WELLHEAD_SEED").unwrap_or(1) << 32;
    seed..seed + number("WELLHEAD_TRIALS").unwrap_or(TRIALS)
}

/// Two lives of writing and overwriting: a snapshot, a log behind it, and two blobs. The map has
/// every value that a key ever had, the last one last.
fn write(dir: &Path) -> (SledStorage, BTreeMap<Vec<u8>, Vec<Vec<u8>>>) {
    let mut history: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let mut storage = SledStorage::open(dir).unwrap();
    let mut chance = StdRng::seed_from_u64(3);
    for round in 0..60_u32 {
        let mut batch = Vec::new();
        for n in 0..30_u32 {
            let key = format!("k{:04}", (round * 7 + n) % 600).into_bytes();
            batch.push((key, vec![chance.random(); chance.random_range(20..300)]));
        }
        if round % 30 == 20 {
            let blob = format!("blob{round}").into_bytes();
            batch.push((blob, vec![chance.random(); 400_000]));
        }
        for (key, value) in &batch {
            history.entry(key.clone()).or_default().push(value.clone());
        }
        let put = |(key, value)| Op::Put { key, value };
        storage.apply(batch.into_iter().map(put).collect()).unwrap();
        storage.sync().unwrap();
        if round == 30 {
            drop(storage);
            storage = SledStorage::open(dir).unwrap();
        }
    }
    (storage, history)
}

/// Reads everything, forwards and key by key, on a thread of its own: no panic and no hang may
/// come out of it.
fn read(dir: &Path, keys: Vec<Vec<u8>>) -> Result<Map, Error> {
    let (done, result) = mpsc::channel();
    let dir = dir.to_owned();
    let work = move || {
        let storage = SledStorage::open(dir)?;
        let mut found: Map = storage
            .scan(b"a", b"l", Order::Ascending, usize::MAX)?
            .into_iter()
            .collect();
        for key in keys {
            match storage.get(&key)? {
                Some(value) => drop(found.insert(key, value)),
                None => drop(found.remove(&key)),
            }
        }
        Ok(found)
    };
    std::thread::spawn(move || drop(done.send(work())));
    match result.recv_timeout(DEADLINE) {
        Ok(found) => found,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a panic came out of it"),
    }
}

/// sled's panics are caught; their texts are not what a test's output is for.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let inside = info.location().map_or("", |place| place.file());
            if !inside.contains("sled-0") && !inside.contains("/library/core/") {
                usual(info);
            }
        }));
    });
}

/// Changes one byte, or cuts a file short; says what was done.
fn damage(dir: &Path, chance: &mut StdRng, cut: bool) -> (PathBuf, String) {
    let files: Vec<(PathBuf, Vec<u8>)> = files(dir)
        .into_iter()
        .filter(|(name, content)| !content.is_empty() && name != Path::new("BALLAST"))
        .collect();
    // By file first, so that small ones are hit too.
    let (name, mut content) = files[chance.random_range(0..files.len())].clone();
    let at = chance.random_range(0..content.len());
    let what = if cut {
        content.truncate(at);
        format!("cut at {at}")
    } else {
        content[at] ^= chance.random_range(1..=255_u8);
        format!("byte {at} flipped")
    };
    fs::write(dir.join(&name), content).unwrap();
    (name, what)
}

/// Damages a copy again and again and judges what opening and reading it gives.
fn try_all(origin: &Path, keys: &[Vec<u8>], cut: bool, judge: impl Fn(Result<Map, Error>, &str)) {
    quiet();
    for trial in trials() {
        let mut chance = StdRng::seed_from_u64(trial);
        let copy = tempfile::tempdir().unwrap();
        copy_dir(origin, copy.path());
        let (name, what) = damage(copy.path(), &mut chance, cut);
        let found = read(copy.path(), keys.to_vec());
        judge(found, &format!("trial {trial}: {} {what}", name.display()));
    }
}

fn names_its_place(error: &Error) -> bool {
    match error {
        Error::Damaged { path, .. } | Error::NotOurs { path } => !path.as_os_str().is_empty(),
        // A format that no version of ours has written yet.
        Error::Newer { found, .. } => *found > 1,
        Error::Corrupt { key, .. } => !key.is_empty(),
        _ => false,
    }
}

fn a_closed_store_shows_damage_or_is_whole(cut: bool) {
    let root = tempfile::tempdir().unwrap();
    let origin = root.path().join("store");
    let (storage, history) = write(&origin);
    drop(storage);
    let last = |values: &Vec<Vec<u8>>| values.last().unwrap().clone();
    let expected: Map = history.iter().map(|(k, v)| (k.clone(), last(v))).collect();
    let keys: Vec<_> = expected.keys().cloned().collect();
    // On a copy: each opening moves the snapshot to the log's end, where nothing is at risk.
    let copy = root.path().join("copy");
    copy_dir(&origin, &copy);
    assert!(read(&copy, keys.clone()).unwrap() == expected);
    let refused = std::cell::Cell::new(0);
    try_all(&origin, &keys, cut, |found, trial| match found {
        Ok(found) => assert!(found == expected, "{trial}: a wrong value without an error"),
        Err(error) => {
            assert!(names_its_place(&error), "{trial}: {error}");
            refused.set(refused.get() + 1);
        }
    });
    assert!(refused.get() > 0, "no damage was ever noticed");
}

#[test]
fn a_flipped_byte_in_a_closed_store_is_an_error_or_harmless() {
    a_closed_store_shows_damage_or_is_whole(false);
}

#[test]
fn a_file_of_a_closed_store_cut_short_is_an_error_or_harmless() {
    a_closed_store_shows_damage_or_is_whole(true);
}

/// Without an orderly end there is no seal, and sled takes a damaged tail for a torn write: then
/// older values come back. What was never written must not.
fn a_killed_store_never_gives_what_was_never_written(cut: bool) {
    let root = tempfile::tempdir().unwrap();
    let (alive, origin) = (root.path().join("alive"), root.path().join("dead"));
    let (storage, history) = write(&alive);
    copy_dir(&alive, &origin);
    drop(storage);
    let keys: Vec<_> = history.keys().cloned().collect();
    try_all(&origin, &keys, cut, |found, trial| match found {
        Ok(found) => {
            let known = |(key, value)| history.get(key).is_some_and(|had| had.contains(value));
            assert!(found.iter().all(known), "{trial}: a value out of nowhere");
        }
        Err(error) => assert!(names_its_place(&error), "{trial}: {error}"),
    });
}

#[test]
fn a_flipped_byte_in_a_killed_store_never_gives_a_value_that_was_never_written() {
    a_killed_store_never_gives_what_was_never_written(false);
}

#[test]
fn a_file_of_a_killed_store_cut_short_never_gives_a_value_that_was_never_written() {
    a_killed_store_never_gives_what_was_never_written(true);
}

#[test]
fn where_sled_panics_over_its_files_there_is_an_error() {
    quiet();
    let root = tempfile::tempdir().unwrap();
    let (alive, dead) = (root.path().join("alive"), root.path().join("dead"));
    let (storage, history) = write(&alive);
    copy_dir(&alive, &dead);
    drop(storage);
    // The first segment once more, in place of the second: sled asserts that there is but one.
    let mut log = fs::read(dead.join("db")).unwrap();
    log.truncate(SEGMENT_BYTES);
    log.extend_from_within(..);
    fs::write(dead.join("db"), log).unwrap();
    for name in files(&dead).into_keys() {
        if name.to_string_lossy().starts_with("snap") {
            fs::remove_file(dead.join(name)).unwrap();
        }
    }
    let keys = history.into_keys().collect();
    let error = read(&dead, keys).unwrap_err();
    assert!(
        matches!(&error, Error::Damaged { path, .. } if *path == dead),
        "{error}"
    );
}
