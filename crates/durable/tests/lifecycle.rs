//! How instances come and go: one per id, fresh from disk after a failure, gone with the host.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use durable::storage::Read as _;
use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, NoEffects, Object, ObjectId, Records, Settings,
    Storage, Store, Turn,
};
use support::{
    Add, AddAndPanic, Cell, Fill, Gated, GetBomb, Lab, PutNonsense, Read, SetAlarm, World, id,
    pending, soon, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_first_calls_make_one_instance() {
    let world = World::new();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let cell = world.cell("a");
            tokio::spawn(async move { cell.send(Add(1)).await })
        })
        .collect();
    let mut values = Vec::new();
    for call in calls {
        values.push(soon(call).await.unwrap().unwrap());
    }
    values.sort_unstable();
    assert_eq!(values, (1..=100).collect::<Vec<u64>>());
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn state_is_read_again_after_a_restart_and_ids_are_listed() {
    let world = World::new();
    for name in ["b", "a", "ab"] {
        soon(world.cell(name).send(Add(5))).await.unwrap();
    }
    soon(world.cell("only-read").send(Read)).await.unwrap();
    soon(world.cell("alarm").send(SetAlarm(Some(9_999_999))))
        .await
        .unwrap();
    let epoch = world.host.epoch();
    let world = world.restart().await;
    assert_eq!(world.host.epoch(), epoch + 1);
    assert_eq!(soon(world.cell("a").send(Add(1))).await, Ok(6));
    let ids = soon(world.cells.ids()).await.unwrap();
    assert_eq!(ids, ["a", "ab", "alarm", "b"].map(id));
    soon(world.cell("alarm").send(SetAlarm(None)))
        .await
        .unwrap();
    assert_eq!(soon(world.cells.ids()).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_told_and_the_next_message_sees_the_disk() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    let calls = (
        cell.send(AddAndPanic(50)),
        cell.send(Add(1)),
        cell.send(Read),
    );
    assert!(matches!(soon(calls.0).await, Err(Error::Panicked { .. })));
    assert_eq!(soon(calls.1).await, Ok(2));
    assert_eq!(soon(calls.2).await, Ok(2));
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_new_instance_loads_while_the_old_one_has_a_batch_in_flight() {
    let world = World::new();
    let cell = world.cell("a");
    world.storage.hold();
    let before = world.storage.syncs();
    let first = cell.send(Add(1));
    world.storage.sync_after(before).await;
    // Stepped, but not even applied while the first flush is held.
    let second = cell.send(Add(1));
    let panicked = cell.send(AddAndPanic(50));
    let mut third = Box::pin(cell.send(Add(1)));
    until(&world.lab.steps, |steps| *steps == 2).await;
    assert!(pending(&mut third).await);
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 1);
    world.storage.release();
    assert_eq!(soon(first).await, Ok(1));
    assert_eq!(soon(second).await, Ok(2));
    assert!(matches!(soon(panicked).await, Err(Error::Panicked { .. })));
    assert_eq!(soon(third).await, Ok(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_cannot_be_stored_voids_the_whole_turn() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    let refused = soon(cell.send(PutNonsense(50))).await;
    assert!(matches!(refused, Err(Error::Encode { ref key, .. }) if key == "nonsense"));
    assert_eq!(soon(cell.send(Add(1))).await, Ok(2));
    assert_eq!(*world.host.fatal().borrow(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_actor_is_replaced_at_the_next_message() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    // The reply's destructor panics on the actor's own thread, since nobody waits for it.
    let before = *world.lab.steps.borrow();
    GetBomb::explode(&cell);
    until(&world.lab.steps, |steps| *steps > before).await;
    let mut answer = soon(cell.send(Add(1))).await;
    if answer == Err(Error::OutcomeUnknown) {
        // It was in the mailbox of the actor that died.
        answer = soon(cell.send(Add(1))).await;
    }
    assert_eq!(answer, Ok(2));
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 2);
    soon(world.cell("a").send(GetBomb::now()))
        .await
        .unwrap()
        .defuse();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_panics_does_not_take_the_committer_along() {
    let world = World::new();
    let cell = world.cell("a");
    world.storage.hold();
    let before = world.storage.syncs();
    let first = cell.send(Add(1));
    world.storage.sync_after(before).await;
    // Held back behind the flush, so that it is dropped on the committer's thread.
    GetBomb::explode(&cell);
    // A later step shows that the answer before it is already in the committer's hands.
    let read = cell.send(Read);
    until(&world.lab.steps, |steps| *steps == 3).await;
    world.storage.release();
    assert_eq!(soon(first).await, Ok(1));
    assert_eq!(soon(read).await, Ok(1));
    assert_eq!(soon(cell.send(Add(1))).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_panics_on_every_message_is_rested() {
    let world = World::new();
    let cell = world.cell("a");
    for _ in 0..6 {
        let answer = soon(cell.send(AddAndPanic(1))).await;
        assert!(matches!(answer, Err(Error::Panicked { .. })));
    }
    let answer = soon(cell.send(Add(1))).await;
    assert!(
        matches!(answer, Err(Error::Quarantined { .. })),
        "{answer:?}"
    );
    assert_eq!(soon(world.cell("b").send(Add(1))).await, Ok(1));
    world.clock.advance(2_000);
    assert_eq!(soon(cell.send(Add(1))).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_load_is_told_and_tried_again() {
    let world = World::new();
    world.lab.load_panics.store(true, Ordering::SeqCst);
    let cell = world.cell("a");
    assert!(matches!(
        soon(cell.send(Add(1))).await,
        Err(Error::Panicked { .. })
    ));
    world.lab.load_panics.store(false, Ordering::SeqCst);
    assert_eq!(soon(cell.send(Add(1))).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_hangs_is_given_up_and_the_host_lives() {
    let world = World::with(Gated::new(), |mut settings| {
        settings.arbiters = 1;
        settings.load_timeout_ms = 50;
        settings
    });
    soon(world.cell("b").send(Add(1))).await.unwrap();
    world.lab.hold_loads(true);
    let cell = world.cell("a");
    let waiting = [cell.send(Add(1)), cell.send(Add(1))];
    // Another object of the same thread is served meanwhile.
    assert_eq!(soon(world.cell("b").send(Add(1))).await, Ok(2));
    for answer in waiting {
        let answer = soon(answer).await;
        assert!(
            matches!(answer, Err(Error::LoadTimeout { .. })),
            "{answer:?}"
        );
    }
    // It is not tried again while the first one hangs.
    let again = soon(cell.send(Add(1))).await;
    assert!(matches!(again, Err(Error::LoadTimeout { .. })), "{again:?}");
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 2);
    world.lab.hold_loads(false);
    let answer = soon(async {
        loop {
            let answer = cell.send(Add(1)).await;
            if answer.is_ok() {
                return answer;
            }
        }
    });
    assert_eq!(answer.await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_stops_though_a_load_hangs() {
    let world = World::new();
    world.lab.hold_loads(true);
    let waiting = world.cell("a").send(Add(1));
    soon(async {
        while world.lab.loads.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(world.host.stop()).await;
    assert_eq!(soon(waiting).await, Err(Error::Stopped));
    world.lab.hold_loads(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_stops_its_object_only() {
    let world = World::new();
    for name in ["a", "b"] {
        soon(world.cell(name).send(Add(1))).await.unwrap();
    }
    let storage = Arc::clone(&world.storage);
    // With the end everything has gone from the journal into the records.
    soon(world.host.stop()).await;
    let key = b"r/cell\0a\0value".to_vec();
    let mut value = storage.get(&key).unwrap().unwrap();
    *value.last_mut().unwrap() ^= 1;
    storage
        .apply(vec![durable::storage::Op::Put { key, value }])
        .unwrap();
    let world = world.restart().await;
    let answer = soon(world.cell("a").send(Read)).await;
    assert!(matches!(answer, Err(Error::Corrupt { ref object, .. }) if object == "a"));
    assert_eq!(soon(world.cell("b").send(Read)).await, Ok(1));
}

/// Another kind of object with the name of the first.
#[derive(Debug)]
struct Impostor;

impl Object for Impostor {
    const NAMESPACE: &'static str = Cell::NAMESPACE;
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, _: &Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self)
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Read> for Impostor {
    fn handle(&mut self, _: &mut Turn<'_, ()>, _: Read) -> u64 {
        0
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_has_one_kind_and_one_set_of_instances() {
    let world = World::new();
    let lab = Arc::new(Lab::default());
    let again = world
        .host
        .namespace::<Cell>(Arc::clone(&lab), Arc::new(NoEffects));
    soon(world.cell("a").send(Add(1))).await.unwrap();
    assert_eq!(soon(again.stub(&id("a")).send(Add(1))).await, Ok(2));
    assert_eq!(lab.loads.load(Ordering::SeqCst), 0);
    let other = world.host.namespace::<Impostor>((), Arc::new(NoEffects));
    let refused = soon(other.stub(&id("a")).send(Read)).await;
    assert!(matches!(refused, Err(Error::NamespaceTaken { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_lets_commits_end_and_refuses_what_comes_later() {
    let world = World::new();
    let cell = world.cell("a");
    world.storage.hold();
    let before = world.storage.syncs();
    let first = cell.send(Add(1));
    world.storage.sync_after(before).await;
    let second = cell.send(Fill(3));
    soon(cell.send(Read).now_or_later(&world)).await;
    let mut stop = Box::pin(world.host.stop());
    assert!(pending(&mut stop).await);
    assert_eq!(soon(cell.send(Add(1))).await, Err(Error::Stopped));
    world.storage.release();
    soon(stop).await;
    assert_eq!(soon(first).await, Ok(1));
    assert_eq!(soon(second).await, Ok(()));
    soon(world.host.stop()).await;
    assert_eq!(soon(cell.send(Read)).await, Err(Error::Stopped));
    assert_eq!(soon(cell.get("value")).await, Err(Error::Stopped));
}

/// Waits until the message has been stepped, not for its answer.
trait NowOrLater {
    async fn now_or_later(self, world: &World);
}

impl<F: Future> NowOrLater for F {
    async fn now_or_later(self, world: &World) {
        until(&world.lab.steps, |steps| *steps >= 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_ends_the_threads_though_stubs_live() {
    let storage = Gated::new();
    let world = World::with(Arc::clone(&storage), |settings| settings);
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    let watched = Arc::downgrade(&world.lab);
    drop(world);
    // Instances, registries and arbiters are gone when nobody holds what they were given.
    soon(async {
        while watched.strong_count() > 0 || Arc::strong_count(&storage) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(soon(cell.send(Add(1))).await, Err(Error::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_can_be_started_again_on_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let host = Host::start(
            Store::open(dir.path().join("s")).unwrap(),
            Settings::default(),
        )
        .unwrap();
        let cells = host.namespace::<Cell>(Arc::new(Lab::default()), Arc::new(NoEffects));
        let cell = cells.stub(&id("a"));
        assert_eq!(soon(cell.send(Add(1))).await, Ok(round));
        assert_eq!(soon(cell.get("value")).await, Ok(Some(round.into())));
        soon(host.stop()).await;
        drop((host, cells));
        assert_eq!(soon(cell.send(Add(1))).await, Err(Error::Stopped));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_run_side_by_side_and_one_stop_leaves_the_other() {
    let (one, two) = (World::new(), World::new());
    soon(one.cell("a").send(Add(1))).await.unwrap();
    soon(two.cell("a").send(Add(1))).await.unwrap();
    soon(one.host.stop()).await;
    assert_eq!(soon(two.cell("a").send(Add(1))).await, Ok(2));
}

#[test]
fn settings_out_of_range_are_named() {
    let settings = Settings {
        arbiters: 0,
        ..Settings::default()
    };
    let refused = Host::start(Store::memory().unwrap(), settings).map(drop);
    assert!(matches!(
        refused,
        Err(Error::Setting {
            name: "arbiters",
            ..
        })
    ));
}

#[test]
fn handles_may_go_to_any_thread() {
    fn assert_shared<T: Clone + Send + Sync + 'static>() {}
    assert_shared::<Host>();
    assert_shared::<durable::Namespace<Cell>>();
    assert_shared::<durable::Stub<Cell>>();
}
