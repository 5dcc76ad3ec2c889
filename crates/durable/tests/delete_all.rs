//! Deleting everything of an object is one change, over crashes too.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use durable::Order;
use durable::storage::Read as _;
use support::{
    Add, Dying, Emit, Fill, Gated, Purge, Read, START, SetAlarm, World, id, pending, soon,
};

const NOTHING: Purge = Purge(None, None, None);

async fn records(world: &World, name: &str) -> Vec<String> {
    let cell = world.cell(name);
    let found = soon(cell.scan("", None, 9_999, Order::Ascending));
    let found = found.await.unwrap();
    found.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_all_removes_state_and_alarm_atomically() {
    let world = World::new();
    for name in ["a", "ab"] {
        soon(world.cell(name).send(Fill(200))).await.unwrap();
        soon(world.cell(name).send(SetAlarm(Some(START + 10_000))))
            .await
            .unwrap();
    }
    assert_eq!(soon(world.cell("a").send(NOTHING)).await, Ok(None));
    assert_eq!(records(&world, "a").await, Vec::<String>::new());
    assert_eq!(records(&world, "ab").await.len(), 200, "another object's");
    let alarms = soon(world.host.alarms_pending()).await.unwrap();
    assert_eq!(alarms.len(), 1);
    assert_eq!(soon(world.cells.ids()).await, Ok(vec![id("ab")]));
    world.clock.advance(20_000);
    assert_eq!(world.lab.fired(1).await.len(), 1);
    let mut more = Box::pin(world.lab.fired(2));
    assert!(pending(&mut more).await, "the deleted alarm fired");
    drop(more);
    let world = world.restart().await;
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_after_delete_all_in_the_same_turn_is_kept() {
    let world = World::new();
    soon(world.cell("a").send(Fill(3))).await.unwrap();
    let purge = Purge(Some(5), None, Some(START + 10_000));
    soon(world.cell("a").send(purge)).await.unwrap();
    assert_eq!(records(&world, "a").await, ["value"]);
    let world = world.restart().await;
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(5));
    world.clock.advance(10_000);
    assert_eq!(world.lab.fired(1).await[0].0.scheduled_at, START + 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_survive_delete_all_and_their_numbers_go_on() {
    let world = World::new();
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![10]))).await.unwrap();
    soon(world.cell("a").send(Purge(None, Some(11), None)))
        .await
        .unwrap();
    world.inbox.0.seen(2).await;
    let world = world.restart().await;
    let mut seen = world.inbox.0.seen(2).await;
    seen.sort();
    assert_eq!(
        seen,
        [("a".to_owned(), 1, 10), ("a".to_owned(), 2, 11)],
        "not sent again after the restart"
    );
    world.settled("a", 2).await;
    let world = world.restart().await;
    assert_eq!(
        soon(world.cell("a").send(Emit(vec![12]))).await,
        Ok(vec![3])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_an_object_that_has_nothing_stores_nothing() {
    let world = World::new();
    assert_eq!(soon(world.cell("a").send(NOTHING)).await, Ok(None));
    // Whatever was stored lies in its own place after the end.
    let world = world.restart().await;
    let left = world
        .storage
        .scan(b"m/", b"s/", Order::Ascending, 9)
        .unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(soon(world.cell("a").send(Add(1))).await, Ok(1));
    soon(world.cell("a").send(NOTHING)).await.unwrap();
    assert_eq!(soon(world.cell("a").send(Add(1))).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_write_leaves_all_of_the_object_or_nothing() {
    let mut outcomes = [0; 2];
    for writes in 0..4 {
        let disk = Dying::new();
        let world = World::with(Gated::over(Arc::<Dying>::clone(&disk)), |settings| settings);
        // More records than are merged into one application.
        soon(world.cell("a").send(Fill(300))).await.unwrap();
        soon(world.cell("a").send(SetAlarm(Some(START + 10_000))))
            .await
            .unwrap();
        disk.left.store(writes, Ordering::SeqCst);
        let answer = soon(world.cell("a").send(Purge(Some(7), None, None))).await;
        disk.left.store(usize::MAX, Ordering::SeqCst);
        let world = world.restart().await;
        let found = records(&world, "a").await;
        let alarms = soon(world.host.alarms_pending()).await.unwrap();
        match (found.len(), alarms.len()) {
            (300, 1) => outcomes[0] += 1,
            (1, 0) if found == ["value"] => outcomes[1] += 1,
            torn => panic!("{writes} writes: {torn:?} {answer:?}"),
        }
        assert!(answer.is_err() || found.len() == 1, "answered too early");
    }
    assert!(outcomes.iter().all(|seen| *seen > 0), "{outcomes:?}");
}
