//! One alarm per object: never early, at least once, over restarts, repeated after failures.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;

use durable::{Alarm, Error};
use support::{Add, OnAlarm, Read, START, SetAlarm, World, id, pending, soon, until};

fn alarm(scheduled_at: i64, retry: u32) -> Alarm {
    Alarm {
        scheduled_at,
        retry,
    }
}

/// When the object's alarm runs next, by the index on disk.
async fn next_at(world: &World) -> Option<i64> {
    let alarms = soon(world.host.alarms_pending()).await.unwrap();
    alarms.first().map(|(namespace, object, at)| {
        assert_eq!((namespace.as_str(), object), ("cell", &id("a")));
        *at
    })
}

/// Waits until the index on disk says what it should.
async fn until_next_at(world: &World, expected: impl Fn(Option<i64>) -> bool) -> Option<i64> {
    soon(async {
        loop {
            let at = next_at(world).await;
            if expected(at) {
                return at;
            }
        }
    })
    .await
}

/// Asserts that no alarm runs, by letting messages of the same object pass by.
async fn nothing_fires(world: &World, fired_before: usize) {
    let mut fired = world.lab.alarms.subscribe();
    fired.mark_unchanged();
    assert!(pending(&mut Box::pin(fired.changed())).await);
    assert_eq!(world.lab.alarms.borrow().len(), fired_before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_fires_once_and_not_a_millisecond_early() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(SetAlarm(Some(START + 10_000))))
        .await
        .unwrap();
    world.clock.advance(9_999);
    nothing_fires(&world, 0).await;
    world.clock.advance(1);
    let fired = world.lab.fired(1).await;
    assert_eq!(fired, [(alarm(START + 10_000, 0), START + 10_000, None)]);
    until_next_at(&world, |at| at.is_none()).await;
    world.clock.advance(10_000_000);
    nothing_fires(&world, 1).await;
    assert_eq!(soon(cell.send(Read)).await, Ok(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_has_passed_means_at_once() {
    let world = World::new();
    soon(world.cell("a").send(SetAlarm(Some(5)))).await.unwrap();
    assert_eq!(world.lab.fired(1).await, [(alarm(5, 0), START, None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_can_be_moved_both_ways_and_deleted() {
    let world = World::new();
    let cell = world.cell("a");
    assert_eq!(
        soon(cell.send(SetAlarm(Some(START + 1_000)))).await,
        Ok(None)
    );
    assert_eq!(
        soon(cell.send(SetAlarm(Some(START + 9_000)))).await,
        Ok(Some(START + 1_000))
    );
    assert_eq!(next_at(&world).await, Some(START + 9_000));
    world.clock.advance(1_000);
    nothing_fires(&world, 0).await;
    soon(cell.send(SetAlarm(Some(START + 2_000))))
        .await
        .unwrap();
    world.clock.advance(1_000);
    assert_eq!(world.lab.fired(1).await[0].0, alarm(START + 2_000, 0));
    soon(cell.send(SetAlarm(Some(START + 3_000))))
        .await
        .unwrap();
    soon(cell.send(SetAlarm(None))).await.unwrap();
    assert_eq!(next_at(&world).await, None);
    world.clock.advance(100_000);
    nothing_fires(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_alarm_fires_after_a_restart_without_any_message() {
    let world = World::new();
    soon(world.cell("a").send(SetAlarm(Some(START + 1_000))))
        .await
        .unwrap();
    soon(world.host.stop()).await;
    world.clock.advance(60_000);
    let world = world.restart().await;
    let fired = world.lab.fired(1).await;
    assert_eq!(fired, [(alarm(START + 1_000, 0), START + 60_000, None)]);
    until_next_at(&world, |at| at.is_none()).await;
    let world = world.restart().await;
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(100));
    nothing_fires(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_alarm_stores_nothing_but_its_counter_and_comes_again() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(cell.send(SetAlarm(Some(START)))).await.unwrap();
    world.lab.fired(1).await;
    let next = until_next_at(&world, |at| at > Some(START)).await.unwrap();
    assert!((START + 2_000..=START + 2_500).contains(&next), "{next}");
    assert_eq!(
        soon(cell.send(Read)).await,
        Ok(1),
        "the failed turn left something"
    );
    world.lab.on_alarm(OnAlarm::Panic);
    world.clock.advance(next - START);
    assert_eq!(world.lab.fired(2).await[1].0, alarm(START, 1));
    let again = until_next_at(&world, |at| at > Some(next)).await.unwrap();
    assert!((next + 4_000..=next + 5_000).contains(&again), "{again}");
    world.lab.on_alarm(OnAlarm::Succeed);
    world.clock.advance(again - next);
    assert_eq!(world.lab.fired(3).await[2].0, alarm(START, 2));
    until_next_at(&world, |at| at.is_none()).await;
    assert_eq!(soon(cell.send(Read)).await, Ok(101));
}

/// So no crash finds it used up and not run, nor run and not used up.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_run_is_one_commit_with_its_own_end() {
    let world = World::new();
    let last = world.host.last_seq();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(world.cell("a").send(SetAlarm(Some(START))))
        .await
        .unwrap();
    let next = until_next_at(&world, |at| at > Some(START)).await.unwrap();
    assert_eq!(*last.borrow(), 2, "a failed run");
    world.lab.on_alarm(OnAlarm::Succeed);
    world.clock.advance(next - START);
    until_next_at(&world, |at| at.is_none()).await;
    assert_eq!(*last.borrow(), 3, "a run");
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_retry_counter_survives_a_restart() {
    let world = World::new();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(world.cell("a").send(SetAlarm(Some(START))))
        .await
        .unwrap();
    world.lab.fired(1).await;
    until_next_at(&world, |at| at > Some(START)).await;
    let world = world.restart().await;
    nothing_fires(&world, 0).await;
    world.clock.advance(2_500);
    assert_eq!(world.lab.fired(1).await[0].0, alarm(START, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn setting_the_same_time_again_does_not_reset_the_back_off() {
    let world = World::new();
    let cell = world.cell("a");
    world.lab.on_alarm(OnAlarm::Fail);
    soon(cell.send(SetAlarm(Some(START)))).await.unwrap();
    world.lab.fired(1).await;
    let next = until_next_at(&world, |at| at > Some(START)).await;
    assert_eq!(
        soon(cell.send(SetAlarm(Some(START)))).await,
        Ok(Some(START))
    );
    assert_eq!(next_at(&world).await, next);
    nothing_fires(&world, 1).await;
    // Another time is a new alarm.
    soon(cell.send(SetAlarm(Some(START - 1)))).await.unwrap();
    assert_eq!(world.lab.fired(2).await[1].0, alarm(START - 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_six_failures_the_object_is_shown_and_retried_slowly_for_ever() {
    let world = World::new();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(world.cell("a").send(SetAlarm(Some(START))))
        .await
        .unwrap();
    let (mut now, mut last) = (START, START);
    for run in 1..=8 {
        world.lab.fired(run).await;
        last = until_next_at(&world, |at| at > Some(last)).await.unwrap();
        let shown = soon(world.host.quarantined()).await.unwrap();
        assert_eq!(shown.len(), usize::from(run >= 6), "after {run} failures");
        if run >= 6 {
            assert_eq!(last - now, 1_024_000);
            assert_eq!((&shown[0].id, shown[0].failures as usize), (&id("a"), run));
        }
        world.clock.advance(last - now);
        now = last;
    }
    // The object itself goes on answering.
    assert_eq!(soon(world.cell("a").send(Add(1))).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_set_in_the_handler_wins() {
    let world = World::new();
    world.lab.on_alarm(OnAlarm::SetAgain(START + 50_000));
    soon(world.cell("a").send(SetAlarm(Some(START))))
        .await
        .unwrap();
    world.lab.fired(1).await;
    until_next_at(&world, |at| at == Some(START + 50_000)).await;
    world.lab.on_alarm(OnAlarm::Succeed);
    world.clock.advance(50_000);
    assert_eq!(world.lab.fired(2).await[1].0, alarm(START + 50_000, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_whose_commit_fails_is_not_used_up() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(SetAlarm(Some(START + 1_000))))
        .await
        .unwrap();
    world.storage.hold();
    let before = world.storage.syncs();
    world.clock.advance(1_000);
    world.storage.sync_after(before).await;
    world
        .storage
        .fail
        .store(true, std::sync::atomic::Ordering::SeqCst);
    world.storage.release();
    let mut fatal = world.host.fatal();
    soon(fatal.wait_for(Option::is_some)).await.unwrap();
    assert_eq!(soon(cell.send(Read)).await, Err(Error::OutcomeUnknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_alarms_due_at_once_all_fire() {
    let world = World::new();
    let set: Vec<_> = (0..500)
        .map(|n| {
            world
                .cell(&format!("c{n}"))
                .send(SetAlarm(Some(START + 1_000 + n % 3)))
        })
        .collect();
    for reply in set {
        soon(reply).await.unwrap();
    }
    world.clock.advance(1_002);
    until(&world.lab.alarms, |fired| fired.len() == 500).await;
    assert!(
        world
            .lab
            .alarms
            .borrow()
            .iter()
            .all(|(alarm, now, _)| alarm.scheduled_at <= *now)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_from_an_old_entry_runs_nothing() {
    let world = World::new();
    world.lab.on_alarm(OnAlarm::SetAgain(START + 50_000));
    soon(world.cell("a").send(SetAlarm(Some(START + 1_000))))
        .await
        .unwrap();
    world.storage.hold();
    world.clock.advance(1_000);
    world.lab.fired(1).await;
    // The commit is held, so the clock still looks again for the alarm that has just run.
    world.clock.advance(30_000);
    nothing_fires(&world, 1).await;
    world.storage.release();
    until_next_at(&world, |at| at == Some(START + 50_000)).await;
    world.clock.advance(19_000);
    world.lab.fired(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_behind_a_failed_alarm_sees_the_state_from_disk() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(cell.send(SetAlarm(Some(START + 1_000))))
        .await
        .unwrap();
    world.storage.hold();
    world.clock.advance(1_000);
    world.lab.fired(1).await;
    let mut read = Box::pin(cell.send(Read));
    assert!(pending(&mut read).await);
    world.storage.release();
    assert_eq!(soon(read).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_overdue_alarms_fires_with_few_objects_in_memory() {
    const COUNT: usize = 20_000;
    let world = World::new();
    let set: Vec<_> = (0..COUNT)
        .map(|n| {
            let cell = world.cell(&format!("c{n}"));
            cell.send(SetAlarm(Some(START + 3_600_000)))
        })
        .collect();
    for reply in set {
        soon(reply).await.unwrap();
    }
    soon(world.host.stop()).await;
    world.clock.advance(7_200_000);
    let world = world.restart().await;
    let mut most = 0;
    while world.lab.alarms.borrow().len() < COUNT {
        most = most.max(world.host.awake());
        soon(world.lab.alarms.subscribe().changed()).await.unwrap();
    }
    assert!(most <= 10_240, "{most} objects at once");
    soon(async { while !soon(world.host.alarms_pending()).await.unwrap().is_empty() {} }).await;
    assert_eq!(world.lab.alarms.borrow().len(), COUNT, "some fired twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_of_a_kind_that_is_registered_late_fire() {
    let world = World::new();
    soon(world.cell("a").send(SetAlarm(Some(START + 1_000))))
        .await
        .unwrap();
    soon(world.host.stop()).await;
    world.clock.advance(2_000);
    let settings = durable::Settings {
        clock: Arc::<durable::ManualClock>::clone(&world.clock),
        ..durable::Settings::default()
    };
    let storage = Arc::<support::Gated>::clone(&world.storage);
    let store = durable::Store::new(storage).unwrap();
    let host = durable::Host::start(store, settings).unwrap();
    let none = Arc::new(durable::NoEffects);
    let _first = host.namespace::<Early>((), Arc::<durable::NoEffects>::clone(&none));
    // The clock has read past the alarm of the kind that it does not know yet.
    world.clock.advance(100_000);
    soon(host.alarms_pending()).await.unwrap();
    let lab = Arc::new(support::Lab::default());
    let _second = host.namespace::<support::Cell>(Arc::clone(&lab), none);
    assert_eq!(lab.fired(1).await[0].0, alarm(START + 1_000, 0));
}

/// A kind of object that is never used.
#[derive(Debug)]
struct Early;

impl durable::Object for Early {
    const NAMESPACE: &'static str = "early";
    type Env = ();
    type Effect = ();

    fn load(_: &durable::ObjectId, _: &durable::Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self)
    }

    fn alarm(
        &mut self,
        _: &mut durable::Turn<'_, ()>,
        _: Alarm,
    ) -> Result<(), durable::AlarmFailed> {
        Ok(())
    }
}
