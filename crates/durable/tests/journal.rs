//! The journal as a program meets it: numbers of commits, lost ends, verification.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use durable::storage::{Op, Read as _};
use durable::{Error, Host, NoEffects, Order, Settings, SledStorage, Storage, Store};
use support::{Add, Cell, Emit, Fill, Gated, Lab, Read, SetAlarm, World, id, soon};

/// Runs a host on the directory, adds one to a cell as often as that, and ends it.
async fn add(dir: &Path, times: u64) -> u64 {
    let host = Host::start(Store::open(dir).unwrap(), Settings::default()).unwrap();
    let cells = host.namespace::<Cell>(Arc::new(Lab::default()), Arc::new(NoEffects));
    for _ in 0..times {
        soon(cells.stub(&id("a")).send(Add(1))).await.unwrap();
    }
    let last = *host.last_seq().borrow();
    soon(host.stop()).await;
    last
}

/// Opens the storage, which is closed a moment after its last handle, below the store.
fn below(dir: &Path) -> SledStorage {
    SledStorage::open(dir).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_counted_without_gaps_over_restarts() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    assert_eq!(add(&dir, 3).await, 3);
    assert_eq!(add(&dir, 0).await, 3);
    assert_eq!(add(&dir, 2).await, 5);
    assert_eq!(Store::open(&dir).unwrap().last_seq(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn last_seq_follows_what_is_durable_and_reads_have_no_number() {
    let world = World::new();
    let mut last = world.host.last_seq();
    world.storage.hold();
    let before = world.storage.syncs();
    let write = world.cell("a").send(Add(1));
    world.storage.sync_after(before).await;
    assert_eq!(*last.borrow_and_update(), 0);
    world.storage.release();
    soon(write).await.unwrap();
    soon(last.wait_for(|last| *last == 1)).await.unwrap();
    soon(world.cell("a").send(Read)).await.unwrap();
    soon(world.cell("b").send(Add(1))).await.unwrap();
    assert_eq!(*world.host.last_seq().borrow(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_lost_its_end_is_refused_with_the_number_of_commits() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let last = add(&dir, 5).await;
    {
        // As if the end of the log had been cut off: the older number is a sound value too.
        let storage = below(&dir);
        let other = root.path().join("other");
        assert_eq!(add(&other, 3).await, 3);
        let value = below(&other).get(b"s/seq").unwrap().unwrap();
        let key = b"s/seq".to_vec();
        storage.apply(vec![Op::Put { key, value }]).unwrap();
        storage.sync().unwrap();
    }
    let refused = Store::open(&dir).map(drop);
    let mark = dir.join("last-commit");
    let missing = last - 3;
    let expected = Error::Missing {
        mark: mark.clone(),
        missing,
    };
    assert_eq!(refused, Err(expected.clone()));
    let said = expected.to_string();
    assert!(said.contains("2 commits are missing") && said.contains("restore"));
    assert!(said.contains(&mark.display().to_string()));
    // Whoever has no backup may go on without them.
    std::fs::remove_file(mark).unwrap();
    assert_eq!(Store::open(&dir).unwrap().last_seq(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_mark_is_no_reason_to_refuse() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    add(&dir, 5).await;
    for text in [&b""[..], b"short", b"nonsense of a sort"] {
        std::fs::write(dir.join("last-commit"), text).unwrap();
        assert_eq!(Store::open(&dir).unwrap().last_seq(), 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_counts_a_sound_store_and_finds_what_is_wrong_in_a_damaged_one() {
    let world = World::new();
    soon(world.cell("a").send(Fill(3))).await.unwrap();
    soon(world.cell("a").send(SetAlarm(Some(9_999_999))))
        .await
        .unwrap();
    world
        .inbox
        .0
        .refuse_all
        .store(true, std::sync::atomic::Ordering::SeqCst);
    soon(world.cell("b").send(Emit(vec![7]))).await.unwrap();
    let storage = Arc::clone(&world.storage);
    soon(world.host.stop()).await;
    let verify = || Store::new(Arc::<Gated>::clone(&storage)).unwrap().verify();
    let sound = verify().unwrap();
    assert_eq!((sound.records, sound.objects), (4, 2));
    assert_eq!((sound.effects, sound.alarms, sound.last_seq), (1, 1, 3));
    assert_eq!(sound.damage, []);

    let index = storage.scan(b"a/", b"a0", Order::Ascending, 9).unwrap();
    let (alarm, value) = index.first().unwrap().clone();
    storage
        .apply(vec![Op::Delete { key: alarm.clone() }])
        .unwrap();
    assert_eq!(verify().unwrap().damage.len(), 1, "a missing index entry");
    let mut other = alarm.clone();
    other[9] ^= 1;
    let put = |key: Vec<u8>, value: Vec<u8>| vec![Op::Put { key, value }];
    storage.apply(put(alarm, value.clone())).unwrap();
    storage.apply(put(other.clone(), value)).unwrap();
    assert_eq!(verify().unwrap().damage.len(), 1, "an entry too many");
    storage.apply(vec![Op::Delete { key: other }]).unwrap();
    let key = b"r/cell\0a\0fill/00001".to_vec();
    let mut value = storage.get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    storage.apply(put(key, value)).unwrap();
    let damage = verify().unwrap().damage;
    assert!(
        matches!(&damage[..], [Error::Corrupt { object, .. }] if object == "a"),
        "{damage:?}"
    );
}

/// What a crash leaves of a host's storage.
fn crashed(world: &World) -> Arc<durable::MemoryStorage> {
    let copy = durable::MemoryStorage::new();
    let all = world
        .storage
        .inner
        .scan(&[0], &[u8::MAX], Order::Ascending, usize::MAX);
    let put = |(key, value)| Op::Put { key, value };
    copy.apply(all.unwrap().into_iter().map(put).collect())
        .unwrap();
    Arc::new(copy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_commit_in_the_journal_stops_its_object_only() {
    let world = World::new();
    for name in ["a", "b", "a"] {
        soon(world.cell(name).send(Add(1))).await.unwrap();
    }
    let disk = crashed(&world);
    let journal = disk.scan(b"j/", b"j0", Order::Ascending, 9).unwrap();
    let (key, mut value) = journal[2].clone();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    disk.apply(vec![Op::Put { key, value }]).unwrap();

    let mut world = World::with(Gated::over(disk), |settings| settings);
    // The second time the journal is empty, and the damage is still known.
    for _ in 0..2 {
        let answer = soon(world.cell("a").send(Read)).await;
        assert!(
            matches!(&answer, Err(Error::Corrupt { object, .. }) if object == "a"),
            "{answer:?}"
        );
        let read = soon(world.cell("a").get("value")).await;
        assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
        assert_eq!(soon(world.cell("b").send(Read)).await, Ok(1));
        let ids = soon(world.cells.ids()).await.unwrap();
        assert_eq!(ids, ["a", "b"].map(id));
        world = world.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_and_effects_that_are_only_in_the_journal_come_after_a_crash() {
    let world = World::new();
    let refuse = &world.inbox.0.refuse_all;
    refuse.store(true, std::sync::atomic::Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    let at = support::START + 5;
    soon(world.cell("b").send(SetAlarm(Some(at))))
        .await
        .unwrap();
    let disk = crashed(&world);
    assert_eq!(disk.scan(b"a/", b"a0", Order::Ascending, 9), Ok(vec![]));
    let world = World::with(Gated::over(disk), |settings| settings);
    assert_eq!(world.inbox.0.seen(1).await, [("a".to_owned(), 1, 7)]);
    world.clock.advance(5);
    world.lab.fired(1).await;
}
