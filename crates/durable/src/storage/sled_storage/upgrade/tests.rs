//! Stores of format 1, written as its programs wrote them, and openings that are cut short. (D10)

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::meta::{Meta, Pending};
use crate::storage::Entry;
use crate::{ObjectId, keys};

const EPOCH: u64 = 7;

fn put(entries: &mut Vec<Entry>, key: Vec<u8>, value: &impl serde::Serialize) {
    let value = record::seal_json(&key, EPOCH, value).unwrap();
    entries.push((key, value));
}

/// What a program of format 1 stored: records, an alarm, an effect, and a value of many pages.
fn old_entries() -> Vec<Entry> {
    let mut entries = Vec::new();
    for n in 0..60 {
        let id = ObjectId::from_name(&format!("c{n}")).unwrap();
        let keys = keys::ObjectKeys::new("cell", &id);
        put(&mut entries, keys.record("value"), &n);
        let alarm = (n == 7).then_some(Pending {
            at: 9_000_000_000_000,
            fire_at: 9_000_000_000_000,
            retry: 3,
        });
        let meta = Meta {
            alarm,
            ..Meta::default()
        };
        put(&mut entries, keys.meta(), &meta);
        if n == 7 {
            let index = keys.alarm(9_000_000_000_000);
            entries.push((index, 3_u32.to_be_bytes().to_vec()));
            put(&mut entries, keys.record("large"), &"x".repeat(50_000));
            put(&mut entries, keys.effect(1), &"hello");
            // No such program wrote these; whatever there is goes with the rest.
            put(&mut entries, keys.tries(1), &"refused");
            put(&mut entries, keys.letter(2), &"dead");
            put(&mut entries, keys.letter_index(), &[2]);
        }
    }
    entries.sort();
    entries
}

fn make_old(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    fs::write(
        dir.join("WELLHEAD-STORE"),
        "wellhead-store format 1 ready\n",
    )
    .unwrap();
    let db = sled::open(dir).unwrap();
    for (key, value) in old_entries() {
        db.insert(key, value).unwrap();
    }
    db.insert(keys::SENTINEL, 1_u32.to_be_bytes().to_vec())
        .unwrap();
    let epoch = record::seal_json(keys::EPOCH, EPOCH, &EPOCH).unwrap();
    db.insert(keys::EPOCH, epoch).unwrap();
    db.flush().unwrap();
}

/// Takes the first steps and ends as a crash does, which leaves no seal.
fn cut_short(dir: &Path, steps: usize) {
    let lock = marker::lock(dir).unwrap();
    let storage = Arc::new(SledStorage {
        dir: dir.to_owned(),
        files: super::super::RwLock::new(Some(super::super::Files::open(dir).unwrap())),
        is_synced: true,
        _lock: lock,
    });
    for step in &STEPS[..steps] {
        step(&storage).unwrap();
    }
    drop(storage);
    let _ = fs::remove_file(dir.join("SEAL"));
}

/// Everything but the store's own records.
fn entries(storage: &SledStorage) -> Vec<Entry> {
    let mut all = storage
        .scan(&[], &[u8::MAX], Order::Ascending, usize::MAX)
        .unwrap();
    all.retain(|(key, _)| !key.starts_with(b"s/"));
    all
}

fn backups(root: &Path) -> Vec<String> {
    let names = fs::read_dir(root).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("backup"))
        .collect();
    names.sort();
    names
}

fn assert_upgraded(dir: &Path) {
    let marker = fs::read_to_string(dir.join("WELLHEAD-STORE")).unwrap();
    assert_eq!(marker, "wellhead-store format 2 ready\n");
    let storage = SledStorage::open(dir).unwrap();
    assert_eq!(storage.sentinel(), Ok(2));
    assert_eq!(entries(&storage), old_entries());
    let pieces = storage.with("scan", |files| {
        Ok(files.db.range([split::PIECES]..).count())
    });
    assert!(pieces.unwrap() > 8, "the large value is still in one piece");
}

#[test]
fn an_older_store_is_backed_up_and_upgraded() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    make_old(&dir);
    let store = Store::open(&dir).unwrap();
    assert_eq!(store.epoch(), EPOCH + 1);
    assert!(store.verify().unwrap().damage.is_empty());
    drop(store);
    assert_upgraded(&dir);
    let name = "store.format-1.epoch-7.backup";
    assert_eq!(backups(root.path()), [name]);
    let file = root.path().join(name);
    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let new = root.path().join("restored");
    backup::restore(&mut fs::File::open(&file).unwrap(), &new).unwrap();
    assert_upgraded(&new);
}

#[test]
fn an_upgrade_that_is_cut_short_behind_any_step_is_completed_by_the_next_opening() {
    for steps in 0..=STEPS.len() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        make_old(&dir);
        // An earlier try died in the middle of its backup.
        let name = "store.format-1.epoch-7.backup";
        fs::write(root.path().join(format!("{name}.partial")), "half").unwrap();
        cut_short(&dir, steps);
        let made = fs::read(root.path().join(name));
        assert_eq!(made.is_ok(), steps > 0, "behind {steps} steps");
        drop(Store::open(&dir).unwrap());
        assert_upgraded(&dir);
        let kept = fs::read(root.path().join(name)).unwrap();
        // Behind the sentinel the store may hold what the earlier format did not.
        assert!(steps < 2 || made.unwrap() == kept, "behind {steps} steps");
        let summary = backup::verify(&mut &kept[..]).unwrap();
        assert_eq!((summary.epoch, summary.records), (EPOCH, 125));
        assert_eq!(backups(root.path()), [name], "behind {steps} steps");
        assert_eq!(Store::open(&dir).unwrap().epoch(), EPOCH + 2);
    }
}

#[test]
fn without_a_backup_nothing_is_upgraded() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    make_old(&dir);
    // Something stands where the backup is written.
    let name = "store.format-1.epoch-7.backup.partial";
    fs::create_dir(root.path().join(name)).unwrap();
    let refused = SledStorage::open(&dir).unwrap_err();
    assert!(refused.to_string().contains("backup"), "{refused}");
    let marker = fs::read_to_string(dir.join("WELLHEAD-STORE")).unwrap();
    assert_eq!(marker, "wellhead-store format 1 ready\n");
    fs::remove_dir(root.path().join(name)).unwrap();
    drop(SledStorage::open(&dir).unwrap());
    assert_upgraded(&dir);
}

#[test]
fn a_damaged_record_goes_into_the_backup_and_holds_up_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    make_old(&dir);
    let id = ObjectId::from_name("c3").unwrap();
    let key = keys::ObjectKeys::new("cell", &id).record("value");
    let files = super::super::Files::open(&dir).unwrap();
    files.db.insert(key, b"junk").unwrap();
    drop(files);
    drop(SledStorage::open(&dir).unwrap());
    let file = root.path().join("store.format-1.epoch-7.backup");
    let summary = backup::verify(&mut fs::File::open(&file).unwrap()).unwrap();
    assert_eq!(summary.records, 125);
}
