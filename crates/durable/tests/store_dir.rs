//! Which directories are opened, which are refused, and that a refused one stays as it was.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use durable::storage::Op;
use durable::storage::Read as _;
use durable::{Error, SledStorage, Storage, Store};

/// Names and contents of all files of a directory.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: fs::DirEntry| {
        let content = if entry.path().is_file() {
            fs::read(entry.path()).unwrap()
        } else {
            vec![]
        };
        (entry.file_name().into_string().unwrap(), content)
    };
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| read(entry.unwrap()))
        .collect()
}

#[test]
fn what_was_synced_is_there_after_reopening_and_the_epoch_grows() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("new/deeper");
    let first = SledStorage::open(&dir).unwrap();
    first
        .apply(vec![Op::Put {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
        }])
        .unwrap();
    first.sync().unwrap();
    drop(first);
    assert_eq!(Store::open(&dir).unwrap().epoch(), 1);
    assert_eq!(Store::open(&dir).unwrap().epoch(), 2);
    let again = SledStorage::open(&dir).unwrap();
    assert_eq!(again.get(b"k").unwrap().as_deref(), Some(&b"v"[..]));
}

#[test]
fn an_empty_directory_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    drop(SledStorage::open(dir.path()).unwrap());
}

#[test]
fn a_directory_of_others_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let before = files(dir.path());
    let refused = SledStorage::open(dir.path());
    assert!(matches!(refused, Err(Error::NotOurs { ref path }) if path == dir.path()));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_strange_marker_is_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("WELLHEAD-STORE"), "something else").unwrap();
    let before = files(dir.path());
    assert!(matches!(
        SledStorage::open(dir.path()),
        Err(Error::NotOurs { .. })
    ));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_later_format_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    fs::write(
        dir.path().join("WELLHEAD-STORE"),
        "wellhead-store format 7 ready\n",
    )
    .unwrap();
    let before = files(dir.path());
    let refused = SledStorage::open(dir.path()).map(drop);
    assert_eq!(
        refused,
        Err(Error::Newer {
            found: 7,
            supported: 2
        })
    );
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_second_handle_is_told_the_holders_process_and_the_first_one_works_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = SledStorage::open(dir.path()).unwrap();
    let refused = SledStorage::open(dir.path()).map(drop);
    assert_eq!(
        refused,
        Err(Error::Busy {
            path: dir.path().to_owned(),
            pid: Some(std::process::id()),
        })
    );
    first
        .apply(vec![Op::Put {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
        }])
        .unwrap();
    first.sync().unwrap();
    drop(first);
    SledStorage::open(dir.path()).unwrap();
}

#[test]
fn a_creation_that_was_cut_short_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("WELLHEAD-STORE"),
        "wellhead-store format 1 creating\n",
    )
    .unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    let marker = fs::read_to_string(dir.path().join("WELLHEAD-STORE")).unwrap();
    assert_eq!(marker, "wellhead-store format 2 ready\n");

    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("WELLHEAD-STORE"), "").unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
}

#[test]
fn a_database_without_its_sentinel_is_corrupt_not_empty() {
    let dir = tempfile::tempdir().unwrap();
    drop(SledStorage::open(dir.path()).unwrap());
    // As after a crash, which leaves no seal.
    for name in files(dir.path()).into_keys() {
        if name == "db" || name == "SEAL" || name.starts_with("snap") {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
    assert!(matches!(
        SledStorage::open(dir.path()),
        Err(Error::Corrupt { .. })
    ));
}
