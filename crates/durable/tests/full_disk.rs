//! A full disk: clear refusals, nothing half stored, reads go on, and writes come back without a
//! restart. (D1, D2) Once on a storage that fails as told, and once on a real file system.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use durable::storage::{Fault, FaultyStorage, Read as _, Space};
use durable::{Error, Host, Namespace, Settings, Storage, Store, Stub};
use support::{Add, Cell, DEADLINE, Emit, Fill, Inbox, Lab, Read, ToInbox, id, soon};

struct Life {
    host: Host,
    cells: Namespace<Cell>,
    inbox: Arc<Inbox>,
}

fn live(store: Store) -> Life {
    let host = Host::start(store, Settings::default()).unwrap();
    let inbox = ToInbox::default();
    let cells = host.namespace::<Cell>(Arc::new(Lab::default()), Arc::new(inbox.clone()));
    let inbox = inbox.0;
    Life { host, cells, inbox }
}

fn on(storage: &Arc<FaultyStorage>) -> Life {
    live(Store::new(Arc::<FaultyStorage>::clone(storage)).unwrap())
}

fn space(free: u64) -> Space {
    let reserve = 1_000_000;
    Space { free, reserve }
}

/// Writes until it works, and gives the value.
async fn add_until_taken(cell: &Stub<Cell>) -> u64 {
    let begun = Instant::now();
    loop {
        match soon(cell.send(Add(1))).await {
            Ok(value) => return value,
            Err(error) => assert!(begun.elapsed() < DEADLINE, "still {error}"),
        }
        // Another look at what only time brings.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_write_is_refused_before_it_is_begun_and_reads_go_on() {
    let storage = Arc::new(FaultyStorage::new(1));
    let Life { host, cells, .. } = on(&storage);
    let cell = cells.stub(&id("a"));
    assert_eq!(soon(cell.send(Add(5))).await, Ok(5));
    storage.set_space(Some(space(999_999)));
    let points = storage.points();
    for _ in 0..20 {
        let refused = soon(cell.send(Add(1))).await;
        assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
        assert_eq!(soon(cell.send(Read)).await, Ok(5));
    }
    assert_eq!(storage.points(), points, "something was written");
    assert!(host.full().borrow().is_some());
    storage.set_space(Some(space(9_000_000)));
    assert_eq!(soon(cell.send(Add(1))).await, Ok(6));
    assert!(host.full().borrow().is_none());
    assert!(host.fatal().borrow().is_none());
    soon(host.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn room_that_comes_back_is_noticed_without_a_write() {
    let storage = Arc::new(FaultyStorage::new(1));
    let Life { host, cells, .. } = on(&storage);
    storage.set_space(Some(space(0)));
    assert!(soon(cells.stub(&id("a")).send(Add(1))).await.is_err());
    storage.set_space(Some(space(9_000_000)));
    let mut full = host.full();
    soon(full.wait_for(Option::is_none)).await.unwrap();
    soon(host.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_refused_turn_is_seen_or_sent_and_its_numbers_are_free() {
    let storage = Arc::new(FaultyStorage::new(1));
    let Life { host, cells, inbox } = on(&storage);
    let cell = cells.stub(&id("a"));
    assert_eq!(soon(cell.send(Emit(vec![10]))).await, Ok(vec![1]));
    inbox.seen(1).await;
    storage.set_space(Some(space(0)));
    // Many at once: those behind the first stepped on memory that was never stored.
    let emit = |n| soon(cell.send(Emit(vec![n])));
    let refused = futures_util::future::join_all((0..50).map(emit)).await;
    assert!(
        refused
            .iter()
            .all(|one| matches!(one, Err(Error::Full { .. }))),
        "{refused:?}"
    );
    storage.set_space(None);
    assert_eq!(soon(cell.send(Read)).await, Ok(1));
    assert_eq!(soon(cell.send(Emit(vec![11]))).await, Ok(vec![2]));
    inbox.seen(2).await;
    assert_eq!(inbox.effects(), [10, 11]);
    soon(host.stop()).await;
}

/// A write that fails half way has an unknown outcome: wholly there or not at all, and the same
/// for everybody who asks, now and after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_for_want_of_room_is_settled_by_opening_again() {
    let mut outcomes = [0, 0];
    for seed in 0..24 {
        let storage = Arc::new(FaultyStorage::new(seed));
        let Life { host, cells, .. } = on(&storage);
        let (cell, other) = (cells.stub(&id("a")), cells.stub(&id("b")));
        assert_eq!(soon(cell.send(Add(5))).await, Ok(5));
        assert_eq!(soon(other.send(Add(7))).await, Ok(7));
        // The apply, or the sync behind it.
        storage.fail_at(storage.points() + seed % 2, Fault::NoSpace);
        assert_eq!(soon(cell.send(Add(1))).await, Err(Error::OutcomeUnknown));
        assert_eq!(storage.reopened(), 1);
        let now = soon(cell.send(Read)).await.unwrap();
        assert!(now == 5 || now == 6, "seed {seed}: {now}");
        assert_eq!(soon(other.send(Read)).await, Ok(7));
        outcomes[usize::from(now == 6)] += 1;
        let then = soon(cell.send(Add(1))).await.unwrap();
        assert_eq!(then, now + 1, "seed {seed}");
        assert!(host.fatal().borrow().is_none());
        soon(host.stop()).await;
        let Life { host, cells, .. } = on(&storage);
        assert_eq!(
            soon(cells.stub(&id("a")).send(Read)).await,
            Ok(then),
            "seed {seed}"
        );
        assert_eq!(
            soon(cells.stub(&id("b")).send(Read)).await,
            Ok(7),
            "seed {seed}"
        );
        soon(host.stop()).await;
    }
    assert!(outcomes.iter().all(|count| *count > 0), "{outcomes:?}");
}

/// D2: what a disk says that is broken, nobody repeats as if nothing had happened. D8: nor on a
/// file system that has become read-only.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_disk_is_the_end_at_once() {
    let faults = [
        (Fault::Io, "os error 5"),
        (Fault::ReadOnly, "Read-only file system"),
    ];
    for (point, (fault, words)) in (0..2).flat_map(|point| faults.map(|fault| (point, fault))) {
        let storage = Arc::new(FaultyStorage::new(1));
        let Life { host, cells, .. } = on(&storage);
        let cell = cells.stub(&id("a"));
        assert_eq!(soon(cell.send(Add(5))).await, Ok(5));
        let points = storage.points();
        storage.fail_at(points + point, fault);
        assert_eq!(soon(cell.send(Add(1))).await, Err(Error::OutcomeUnknown));
        let mut fatal = host.fatal();
        let reason = soon(fatal.wait_for(Option::is_some)).await.unwrap().clone();
        assert!(reason.unwrap().contains(words));
        assert_eq!(soon(cell.send(Read)).await, Err(Error::OutcomeUnknown));
        assert_eq!(storage.points(), points + point + 1, "it was tried again");
        assert_eq!(storage.reopened(), 0);
        soon(host.stop()).await;
    }
}

/// D8: a directory that is taken away is noticed at the next write.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_deleted_while_it_runs_is_the_end_with_a_reason() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let Life { host, cells, .. } = live(Store::open(&dir).unwrap());
    let cell = cells.stub(&id("a"));
    assert_eq!(soon(cell.send(Add(5))).await, Ok(5));
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(soon(cell.send(Add(1))).await, Err(Error::OutcomeUnknown));
    let reason = host.fatal().borrow().clone().unwrap();
    assert!(reason.contains("deleted while it was in use"), "{reason}");
    soon(host.stop()).await;
}

/// A file system of its own in memory, gone with this value.
struct Tiny(PathBuf);

impl Tiny {
    fn mount(path: &Path, megabytes: u32) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let size = format!("size={megabytes}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(path)
            .output();
        let mounted = mount.as_ref().is_ok_and(|out| out.status.success());
        assert!(
            mounted,
            "this test mounts a tmpfs, which is not permitted here ({mount:?}): run it as root or \
             in `unshare -Urm`, or leave it out with --skip on_a_real_file_system"
        );
        Self(path.to_owned())
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        let block = vec![0; 4_096];
        while file.write_all(&block).is_ok() {}
    }

    fn remount(&self, mode: &str) {
        let mut mount = Command::new("mount");
        let mount = mount.args(["-o", &format!("remount,{mode}")]).arg(&self.0);
        assert!(mount.status().unwrap().success(), "{mount:?}");
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_file_system_acknowledged_values_stay_and_writes_come_back() {
    let root = tempfile::tempdir().unwrap();
    let tiny = Tiny::mount(&root.path().join("tiny"), 24);
    let dir = tiny.0.join("store");
    let Life { host, cells, inbox } = live(Store::open(&dir).unwrap());
    inbox.refuse_all.store(false, Ordering::SeqCst);
    assert!(dir.join("BALLAST").metadata().unwrap().len() >= 2 << 20);
    let cell = cells.stub(&id("a"));
    let mut acknowledged = 0;
    for _ in 0..100 {
        acknowledged = soon(cell.send(Add(1))).await.unwrap();
    }
    for round in 0..3 {
        tiny.fill();
        let mut refusals = 0;
        while refusals < 20 {
            match soon(cell.send(Add(1))).await {
                Ok(value) => acknowledged = value,
                Err(error) => {
                    assert!(
                        matches!(error, Error::Full { .. } | Error::OutcomeUnknown),
                        "{error}"
                    );
                    refusals += 1;
                    let seen = soon(cell.send(Read)).await.unwrap();
                    assert!(
                        (acknowledged..=acknowledged + 1).contains(&seen),
                        "round {round}"
                    );
                    acknowledged = seen;
                }
            }
        }
        assert!(
            host.fatal().borrow().is_none(),
            "{:?}",
            host.fatal().borrow()
        );
        tiny.free();
        acknowledged = add_until_taken(&cell).await;
        soon(cells.stub(&id("b")).send(Fill(2_000))).await.unwrap();
    }
    assert!(
        dir.join("BALLAST").exists(),
        "the ballast was not made again"
    );

    // A start without room, twice: on the ballast, then without any.
    tiny.fill();
    soon(host.stop()).await;
    for _ in 0..2 {
        let Life { host, cells, .. } = live(Store::open(&dir).unwrap());
        let cell = cells.stub(&id("a"));
        assert_eq!(soon(cell.send(Read)).await, Ok(acknowledged));
        let refused = soon(cell.send(Add(1))).await;
        if let Ok(value) = refused {
            acknowledged = value;
        }
        soon(host.stop()).await;
    }
    tiny.free();
    let Life { host, cells, .. } = live(Store::open(&dir).unwrap());
    assert_eq!(
        soon(cells.stub(&id("a")).send(Add(1))).await,
        Ok(acknowledged + 1)
    );
    soon(host.stop()).await;
}

/// The bare storage: what a failed write leaves is readable after opening again in place.
#[test]
fn on_a_real_file_system_a_storage_that_ran_full_opens_again_in_place() {
    use durable::storage::Op;
    let root = tempfile::tempdir().unwrap();
    let tiny = Tiny::mount(&root.path().join("tiny"), 24);
    let storage = durable::SledStorage::open(tiny.0.join("store")).unwrap();
    let mut synced = 0_u32;
    let error = loop {
        let key = b"n".to_vec();
        let filler = Op::Put {
            key: synced.to_be_bytes().to_vec(),
            value: vec![7; 2_000],
        };
        let value = (synced + 1).to_be_bytes().to_vec();
        let written = storage.apply(vec![Op::Put { key, value }, filler]);
        match written.and_then(|()| storage.sync()) {
            Ok(()) => synced += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_full(), "{error}");
    storage.reopen().unwrap();
    let value = storage.get(b"n").unwrap().unwrap();
    let value = u32::from_be_bytes(value.try_into().unwrap());
    assert!((synced..=synced + 1).contains(&value), "{synced} {value}");
}

/// D8: a start on a read-only file system says so, and the store is as it was when it is writable.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_real_file_system_that_is_read_only_a_start_is_refused_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let tiny = Tiny::mount(&root.path().join("tiny"), 24);
    let dir = tiny.0.join("store");
    let Life { host, cells, .. } = live(Store::open(&dir).unwrap());
    assert_eq!(soon(cells.stub(&id("a")).send(Add(5))).await, Ok(5));
    soon(host.stop()).await;
    tiny.remount("ro");
    let refused = Store::open(&dir).unwrap_err().to_string();
    assert!(refused.contains("Read-only file system"), "{refused}");
    tiny.remount("rw");
    let Life { host, cells, .. } = live(Store::open(&dir).unwrap());
    assert_eq!(soon(cells.stub(&id("a")).send(Read)).await, Ok(5));
    soon(host.stop()).await;
}
