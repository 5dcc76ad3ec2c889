//! Backups come back as the same objects, and a damaged one is refused with nothing written. (D13)
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use durable::{Error, Host, Namespace, Settings, Store, backup};
use support::{Add, Cell, Emit, Fill, Inbox, Lab, Read, SetAlarm, ToInbox, id, soon};

/// Far beyond the end of any test.
const LATER: i64 = 9_000_000_000_000;

struct Life {
    host: Host,
    cells: Namespace<Cell>,
    inbox: Arc<Inbox>,
}

fn live(dir: &Path) -> Life {
    let host = Host::start(Store::open(dir).unwrap(), Settings::default()).unwrap();
    let inbox = ToInbox::default();
    inbox.0.refuse_all.store(true, Ordering::SeqCst);
    let cells = host.namespace::<Cell>(Arc::new(Lab::default()), Arc::new(inbox.clone()));
    let inbox = inbox.0;
    Life { host, cells, inbox }
}

/// Objects with records, an alarm and an effect that nobody has taken.
async fn fill(dir: &Path) {
    let Life { host, cells, .. } = live(dir);
    for n in 0..20 {
        let cell = cells.stub(&id(&format!("c{n}")));
        assert_eq!(soon(cell.send(Add(n))).await, Ok(n));
    }
    let rich = cells.stub(&id("rich"));
    soon(rich.send(Fill(500))).await.unwrap();
    soon(rich.send(SetAlarm(Some(LATER)))).await.unwrap();
    assert_eq!(soon(rich.send(Emit(vec![7, 8]))).await, Ok(vec![1, 2]));
    soon(host.stop()).await;
}

fn exported(dir: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let made = backup::export(&Store::open(dir).unwrap(), &mut bytes).unwrap();
    assert_eq!(backup::verify(&mut &bytes[..]).unwrap(), made);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_has_every_record_alarm_and_effect_and_a_later_epoch() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    fill(&old).await;
    let bytes = exported(&old);
    // What happens after the backup is not in it, its epochs included.
    let lives = (0..5).map(|_| Store::open(&old).unwrap().epoch());
    let last_epoch = lives.max().unwrap();
    let restored = backup::restore(&mut &bytes[..], &new).unwrap();
    assert!(restored.records > 520, "{restored:?}");

    let Life { host, cells, inbox } = live(&new);
    assert!(host.epoch() > last_epoch, "{} {last_epoch}", host.epoch());
    for n in 0..20 {
        let cell = cells.stub(&id(&format!("c{n}")));
        assert_eq!(soon(cell.send(Read)).await, Ok(n));
    }
    let alarms = soon(host.alarms_pending()).await.unwrap();
    assert_eq!(alarms, [("cell".to_owned(), id("rich"), LATER)]);
    let effects: Vec<u64> = inbox
        .seen(2)
        .await
        .into_iter()
        .map(|(_, seq, _)| seq)
        .collect();
    assert_eq!(effects, [1, 2]);
    let rich = cells.stub(&id("rich"));
    assert_eq!(soon(rich.send(Emit(vec![9]))).await, Ok(vec![3]));
    soon(host.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_restored_store_holds_the_same_records() {
    let root = tempfile::tempdir().unwrap();
    fill(&root.path().join("old")).await;
    let first = exported(&root.path().join("old"));
    backup::restore(&mut &first[..], &root.path().join("new")).unwrap();
    let second = exported(&root.path().join("new"));
    assert_eq!(
        backup::verify(&mut &first[..]).unwrap().records,
        backup::verify(&mut &second[..]).unwrap().records
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    fill(&root.path().join("old")).await;
    let bytes = exported(&root.path().join("old"));
    let new = root.path().join("new");
    let mut damaged: Vec<Vec<u8>> = (0..bytes.len())
        .step_by(997)
        .map(|at| {
            let mut copy = bytes.clone();
            copy[at] ^= 0x10;
            copy
        })
        .collect();
    damaged.extend(
        (0..bytes.len())
            .step_by(4_999)
            .map(|at| bytes[..at].to_vec()),
    );
    damaged.push([&bytes[..], b"x"].concat());
    for (trial, copy) in damaged.iter().enumerate() {
        let refused = backup::restore(&mut &copy[..], &new).unwrap_err();
        let is_named = matches!(refused, Error::BadBackup { .. } | Error::Newer { .. });
        assert!(is_named, "trial {trial}: {refused}");
        assert_eq!(backup::verify(&mut &copy[..]), Err(refused));
        let names = std::fs::read_dir(root.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["old"], "trial {trial}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_use_is_not_restored_into() {
    let root = tempfile::tempdir().unwrap();
    let old = root.path().join("old");
    fill(&old).await;
    let bytes = exported(&old);
    let refused = backup::restore(&mut &bytes[..], &old);
    assert_eq!(refused, Err(Error::NotOurs { path: old.clone() }));
    // What lies in the way of the work in progress is not ours to remove.
    let new = root.path().join("new");
    std::fs::create_dir(root.path().join("new.restoring")).unwrap();
    std::fs::write(root.path().join("new.restoring/letter"), "dear").unwrap();
    assert!(matches!(
        backup::restore(&mut &bytes[..], &new),
        Err(Error::NotOurs { .. })
    ));
    assert!(root.path().join("new.restoring/letter").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_was_cut_short_is_begun_again() {
    let root = tempfile::tempdir().unwrap();
    fill(&root.path().join("old")).await;
    let bytes = exported(&root.path().join("old"));
    let new = root.path().join("new");
    // An empty directory is as good as none.
    std::fs::create_dir(&new).unwrap();
    drop(Store::open(root.path().join("new.restoring")).unwrap());
    backup::restore(&mut &bytes[..], &new).unwrap();
    assert!(!root.path().join("new.restoring").exists());
    let Life { host, cells, .. } = live(&new);
    assert_eq!(soon(cells.stub(&id("c9")).send(Read)).await, Ok(9));
    soon(host.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_a_damaged_record_is_not_backed_up_as_if_it_were_whole() {
    use durable::storage::{Op, Read as _};
    use durable::{SledStorage, Storage};

    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("old");
    fill(&dir).await;
    let storage = SledStorage::open(&dir).unwrap();
    let key = b"r/cell\0c3\0value".to_vec();
    let mut value = storage.get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    storage.apply(vec![Op::Put { key, value }]).unwrap();
    storage.sync().unwrap();
    drop(storage);
    let mut bytes = Vec::new();
    let refused = backup::export(&Store::open(&dir).unwrap(), &mut bytes).unwrap_err();
    assert!(
        matches!(&refused, Error::Corrupt { key, .. } if key.contains("c3")),
        "{refused}"
    );
    assert!(backup::verify(&mut &bytes[..]).is_err());
}
