//! Dead letters on disk: whatever crashes, there is the effect or its letter; at most a hundred are
//! kept; and whatever carries a store carries them.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use durable::storage::{Fault, FaultyStorage, Left, Op, Read as _};
use durable::{
    Error, Host, InlineHost, Namespace, Order, Pace, Settings, SledStorage, Storage, Store,
    TokioClock, backup,
};
use support::letters::{PAUSE, again, attempts, keys, letters, numbers, told, tries, world};
use support::{Add, Cell, Emit, Gated, Inbox, Lab, POISON, Purge, START, ToInbox, World, id, soon};
use tokio::task::LocalSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_letters_are_kept_and_the_oldest_leave() {
    let world = World::with(Gated::new(), |settings| Settings {
        deliveries_max: 1,
        poison_tries_max: 1,
        ..settings
    });
    soon(world.cell("a").send(Emit(vec![POISON; 104])))
        .await
        .unwrap();
    told(&world, 104).await;
    let kept = letters(&world, "a").await;
    assert_eq!(numbers(&kept), (5..=104).collect::<Vec<_>>());
    // The list of them is the same after a restart.
    let world = again(world, 1).await;
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    told(&world, 1).await;
    assert_eq!(
        numbers(&letters(&world, "a").await),
        (6..=105).collect::<Vec<_>>()
    );
    soon(world.host.stop()).await;
    let found = Store::new(Arc::<Gated>::clone(&world.storage))
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!((found.dead_letters, found.damage), (100, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_and_counts_survive_delete_all() {
    let world = world(2);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 1, 2).await;
    told(&world, 1).await;
    soon(world.cell("a").send(Emit(vec![POISON + 1])))
        .await
        .unwrap();
    world.settled("a", 3).await;
    soon(world.cell("a").send(Purge(None, None, None)))
        .await
        .unwrap();
    assert_eq!(numbers(&letters(&world, "a").await), [1]);
    let world = again(world, 2).await;
    assert_eq!(soon(world.cells.ids()).await, Ok(vec![id("a")]));
    assert_eq!(told(&world, 1).await[0].tries, 2, "the count was wiped");
    assert_eq!(numbers(&letters(&world, "a").await), [1, 2]);
    assert_eq!(world.inbox.0.effects(), [POISON + 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_has_letters_and_counts() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    let on = |dir| Gated::over(Arc::new(SledStorage::open(dir).unwrap()));
    let world = World::with(on(&old), |settings| tries(settings, 2));
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 1, 2).await;
    let letter = told(&world, 1).await;
    soon(world.cell("a").send(Emit(vec![POISON + 1])))
        .await
        .unwrap();
    world.settled("a", 3).await;
    soon(world.cell("a").send(Add(1))).await.unwrap();
    let (clock, begun) = (Arc::clone(&world.clock), letter[0].last_tried_at);
    soon(world.host.stop()).await;
    drop(world);

    let mut bytes = Vec::new();
    backup::export(&Store::open(&old).unwrap(), &mut bytes).unwrap();
    backup::restore(&mut &bytes[..], &new).unwrap();
    let store = Store::open(&new).unwrap();
    let found = store.verify().unwrap();
    assert_eq!((found.effects, found.dead_letters), (1, 1));
    assert_eq!(found.damage, []);
    drop(store);
    clock.advance(1_000);
    let world = World::at(on(&new), clock, |settings| tries(settings, 2));
    let told = told(&world, 1).await;
    assert_eq!((told[0].tries, told[0].first_tried_at), (2, begun));
    assert_eq!(letters(&world, "a").await, [letter, told].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_letters_is_found_and_not_backed_up() {
    let world = world(2);
    soon(world.cell("a").send(Emit(vec![POISON, POISON, POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 3, 3).await;
    world.clock.advance(PAUSE);
    told(&world, 3).await;
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 7, 7).await;
    soon(world.cell("a").send(Add(1))).await.unwrap();
    soon(world.host.stop()).await;
    let end = [u8::MAX];
    let all = world
        .storage
        .scan(&[], &end, Order::Ascending, 999)
        .unwrap();
    let own = |space: &[u8]| all.iter().filter(|(key, _)| key.starts_with(space)).count();
    assert_eq!(
        (own(b"d/"), own(b"t/")),
        (4, 1),
        "a list, three letters, a count"
    );
    for (key, value) in all {
        if !key.starts_with(b"d/") && !key.starts_with(b"t/") {
            continue;
        }
        let mut bad = value.clone();
        *bad.last_mut().unwrap() ^= 1;
        let put = |value| Op::Put {
            key: key.clone(),
            value,
        };
        let mut trials = vec![put(bad)];
        if key.starts_with(b"d/") {
            trials.push(Op::Delete { key: key.clone() });
        }
        for trial in trials {
            let is_flip = matches!(trial, Op::Put { .. });
            world.storage.apply(vec![trial]).unwrap();
            let store = Store::new(Arc::<Gated>::clone(&world.storage)).unwrap();
            assert_ne!(store.verify().unwrap().damage, [], "{key:?} {is_flip}");
            let exported = backup::export(&store, &mut Vec::new());
            assert_eq!(exported.is_err(), is_flip, "{key:?}");
            world.storage.apply(vec![put(value.clone())]).unwrap();
        }
    }
    let store = Store::new(Arc::<Gated>::clone(&world.storage)).unwrap();
    assert_eq!(store.verify().unwrap().damage, []);
}

/// A program that knows of no counts removes the effect alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_without_its_effect_is_removed() {
    let world = world(8);
    soon(world.cell("a").send(Emit(vec![POISON, POISON])))
        .await
        .unwrap();
    world.settled("a", 2).await;
    soon(world.cell("a").send(Add(1))).await.unwrap();
    soon(world.host.stop()).await;
    assert_eq!(keys(&world, "t/").len(), 2);
    let key = [&b"o/cell\0a\0"[..], &1_u64.to_be_bytes()].concat();
    world.storage.apply(vec![Op::Delete { key }]).unwrap();
    let world = again(world, 8).await;
    world.settled("a", 1).await;
    soon(world.cell("a").send(Add(1))).await.unwrap();
    soon(world.host.stop()).await;
    assert_eq!(keys(&world, "t/").len(), 1);
    assert_eq!(world.inbox.0.effects(), [POISON]);
}

/// One life of a process in virtual time.
struct Life {
    disk: Arc<FaultyStorage>,
    inbox: Arc<Inbox>,
    host: InlineHost,
    cells: Namespace<Cell>,
}

impl Life {
    fn on(disk: FaultyStorage, later: bool) -> Self {
        let disk = Arc::new(disk);
        let settings = Settings {
            clock: Arc::new(TokioClock::new(START)),
            seed: Some(1),
            poison_tries_max: 2,
            ..Settings::default()
        };
        let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&disk);
        let host = Host::inline(Store::new(storage).unwrap(), settings, Pace::default()).unwrap();
        let inbox = ToInbox::default();
        inbox.0.refuse_all.store(later, Ordering::SeqCst);
        let cells = host.namespace::<Cell>(Arc::<Lab>::default(), Arc::new(inbox.clone()));
        let inbox = inbox.0;
        Self {
            disk,
            inbox,
            host,
            cells,
        }
    }

    /// Ends it from one moment to the next; gives what the disk has kept.
    fn crash(self, left: Left) -> FaultyStorage {
        self.host.crash();
        self.disk.crash(left)
    }

    async fn retry(&self) -> Result<bool, Error> {
        self.inbox.cured.store(true, Ordering::SeqCst);
        self.cells.stub(&id("a")).retry_dead_letter(1).await
    }

    fn arrived(&self) -> bool {
        !self.inbox.taken.lock().unwrap().is_empty()
    }
}

async fn secs(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

/// Effects, letters, and whether the object has noted its letter.
fn stored(disk: FaultyStorage) -> ((u64, u64, bool), FaultyStorage) {
    let disk = Arc::new(disk);
    let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&disk);
    let found = Store::new(storage).unwrap().verify().unwrap();
    assert_eq!(found.damage, []);
    let found = (found.effects, found.dead_letters, found.records == 2);
    (found, disk.crash(Left::Synced))
}

/// The effect is refused twice, becomes a letter, is retried and taken; at that write all ends.
/// Answers whether it came to that.
async fn crash_at(point: u64, left: Left, outcomes: &mut [usize; 4]) -> bool {
    let life = Life::on(FaultyStorage::new(point), true);
    let sent = life.cells.stub(&id("a")).send(Emit(vec![POISON])).await;
    assert_eq!(sent, Ok(vec![1]));
    let at = life.disk.points() + point;
    life.disk.fail_at(at, Fault::Crash);
    life.inbox.refuse_all.store(false, Ordering::SeqCst);
    secs(30).await;
    let retried = life.retry().await;
    secs(30).await;
    let (arrived, came) = (life.arrived(), life.disk.points() > at);
    let (found, disk) = stored(life.crash(left));
    let is_retried = retried == Ok(true);
    let outcome = match found {
        (1, 0, false) if !is_retried => 0,
        (0, 1, true) if !is_retried => 1,
        (1, 0, true) => 2,
        (0, 0, true) if arrived => 3,
        torn => panic!("point {point}, {left:?}: {torn:?} {retried:?} {arrived}"),
    };
    outcomes[outcome] += 1;

    let life = Life::on(disk, false);
    secs(30).await;
    let retried = life.retry().await;
    assert_eq!(
        retried,
        Ok(outcome < 3),
        "point {point}, {left:?}: {found:?}"
    );
    secs(30).await;
    assert!(life.arrived() || arrived);
    assert_eq!(life.host.effects_pending().await, Ok(0));
    let noted = life.cells.stub(&id("a")).get("dead/1").await;
    assert_eq!(noted, Ok(Some(2.into())));
    life.host.stop().await;
    came
}

#[test]
fn a_crash_at_any_write_leaves_the_effect_or_the_letter() {
    let mut outcomes = [0; 4];
    for left in [Left::Synced, Left::First(1), Left::Any] {
        let points = (0..).take_while(|point| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, crash_at(*point, left, &mut outcomes))
        });
        let points = points.count();
        assert!(points > 8, "{points}");
    }
    assert!(outcomes.iter().all(|seen| *seen > 1), "{outcomes:?}");
}
