//! Nothing leaves before its flush, and nothing stands still while a flush is under way.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use durable::{Error, Order};
use support::{Add, Emit, Fill, Gated, Read, World, pending, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_and_an_effect_leave_after_the_flush_only() {
    let world = World::new();
    let cell = world.cell("a");
    world.storage.hold();
    let before = world.storage.syncs();
    let mut reply = Box::pin(cell.send(Emit(vec![7])));
    world.storage.sync_after(before).await;
    assert!(pending(&mut reply).await);
    assert!(world.inbox.0.effects().is_empty());
    world.storage.release();
    assert_eq!(soon(reply).await, Ok(vec![1]));
    assert_eq!(world.inbox.0.seen(1).await, [("a".to_owned(), 1, 7)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_stepped_while_an_earlier_flush_is_under_way() {
    let world = World::new();
    let cell = world.cell("a");
    world.storage.hold();
    let before = world.storage.syncs();
    let first = cell.send(Add(1));
    world.storage.sync_after(before).await;
    let mut second = Box::pin(cell.send(Add(1)));
    let mut third = Box::pin(cell.send(Read));
    until(&world.lab.steps, |steps| *steps == 3).await;
    assert!(pending(&mut second).await);
    assert!(pending(&mut third).await, "a read saw what is not durable");
    world.storage.release();
    assert_eq!(soon(first).await, Ok(1));
    assert_eq!(soon(second).await, Ok(2));
    assert_eq!(soon(third).await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_batches_share_one_flush() {
    let world = World::new();
    world.storage.hold();
    let before = world.storage.syncs();
    let first = world.cell("first").send(Add(1));
    world.storage.sync_after(before).await;
    let others: Vec<_> = (0..50)
        .map(|n| world.cell(&format!("c{n}")).send(Add(1)))
        .collect();
    until(&world.lab.steps, |steps| *steps == 51).await;
    world.storage.release();
    soon(first).await.unwrap();
    for other in others {
        assert_eq!(soon(other).await, Ok(1));
    }
    assert!(
        world.storage.syncs() - before <= 3,
        "{} flushes",
        world.storage.syncs() - before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_from_disk_waits_for_no_flush_and_sees_nothing_before_its_own() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    world.storage.hold();
    let before = world.storage.syncs();
    let write = cell.send(Add(1));
    world.storage.sync_after(before).await;
    // The write is in the storage, but it is not durable.
    assert_eq!(soon(cell.get("value")).await, Ok(Some(1.into())));
    let seen = soon(cell.scan("", None, 9, Order::Ascending)).await;
    assert_eq!(seen, Ok(vec![("value".to_owned(), 1.into())]));
    world.storage.release();
    assert_eq!(soon(write).await, Ok(2));
    assert_eq!(soon(cell.get("value")).await, Ok(Some(2.into())));
    let seen = soon(cell.scan("", None, 9, Order::Ascending)).await;
    assert_eq!(seen, Ok(vec![("value".to_owned(), 2.into())]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_flush_lets_nothing_out_and_is_told() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(1))).await.unwrap();
    let mut fatal = world.host.fatal();
    assert_eq!(*fatal.borrow(), None);

    world.storage.hold();
    world.storage.fail.store(true, Ordering::SeqCst);
    let before = world.storage.syncs();
    let first = cell.send(Emit(vec![7]));
    world.storage.sync_after(before).await;
    let (second, other) = (cell.send(Add(1)), world.cell("b").send(Add(1)));
    until(&world.lab.steps, |steps| *steps == 3).await;
    world.storage.release();

    assert_eq!(soon(first).await, Err(Error::OutcomeUnknown));
    assert_eq!(soon(second).await, Err(Error::OutcomeUnknown));
    assert_eq!(soon(other).await, Err(Error::OutcomeUnknown));
    soon(fatal.wait_for(Option::is_some)).await.unwrap();
    // A store that works again changes nothing: what is in it is in doubt.
    world.storage.fail.store(false, Ordering::SeqCst);
    assert_eq!(soon(cell.send(Read)).await, Err(Error::OutcomeUnknown));
    assert_eq!(soon(cell.get("value")).await, Err(Error::OutcomeUnknown));
    assert_eq!(world.storage.syncs(), before + 1, "written after a failure");
    soon(world.host.stop()).await;
    assert!(world.inbox.0.effects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_is_one_atomic_write_however_large() {
    let world = World::new();
    let cell = world.cell("a");
    let before = world.storage.applied.lock().unwrap().len();
    soon(cell.send(Fill(5_000))).await.unwrap();
    let applied = world.storage.applied.lock().unwrap()[before..].to_vec();
    // Several chunks of one journal record, and nothing else before the answer.
    assert!(applied[0] > 1, "{applied:?}");
    let found = soon(cell.scan("fill/", Some("fill/04998"), 9, Order::Ascending))
        .await
        .unwrap();
    assert_eq!(found.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_one_journal_record_and_its_checkpoint_comes_in_small_slices() {
    let world = World::new();
    world.storage.hold();
    let before = world.storage.syncs();
    let first = world.cell("first").send(Add(1));
    world.storage.sync_after(before).await;
    let others: Vec<_> = (0..200)
        .map(|n| world.cell(&format!("c{n}")).send(Add(1)))
        .collect();
    until(&world.lab.steps, |steps| *steps == 201).await;
    let applied_before = world.storage.applied.lock().unwrap().len();
    world.storage.release();
    soon(first).await.unwrap();
    for other in others {
        soon(other).await.unwrap();
    }
    let applied = world.storage.applied.lock().unwrap()[applied_before..].to_vec();
    assert!(
        applied.iter().sum::<usize>() < 20,
        "some chunks of one record for 200 commits: {applied:?}"
    );
    let storage = std::sync::Arc::clone(&world.storage);
    soon(world.host.stop()).await;
    let applied = storage.applied.lock().unwrap().clone();
    assert!(applied.iter().all(|size| *size <= 64), "{applied:?}");
    let left = storage.inner.scan(b"j/", b"j0", Order::Ascending, 9);
    assert_eq!(left, Ok(Vec::new()), "a journal is left after the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_mailbox_bound_the_caller_is_told() {
    let world = World::with(Gated::new(), |mut settings| {
        settings.mailbox_max = 3;
        settings
    });
    let cell = world.cell("a");
    world.storage.hold();
    let waiting: Vec<_> = (0..3).map(|_| cell.send(Add(1))).collect();
    until(&world.lab.steps, |steps| *steps == 3).await;
    assert_eq!(soon(cell.send(Add(1))).await, Err(Error::Overloaded));
    world.storage.release();
    for (reply, value) in waiting.into_iter().zip(1..) {
        assert_eq!(soon(reply).await, Ok(value));
    }
    // The place is free again once the answer has been given.
    assert_eq!(soon(cell.send(Add(1))).await, Ok(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_commit_queue_refuses_before_the_step() {
    let world = World::with(Gated::new(), |mut settings| {
        settings.commit_queue_max = 2;
        settings
    });
    world.storage.hold();
    let before = world.storage.syncs();
    let first = world.cell("x").send(Add(1));
    world.storage.sync_after(before).await;
    let queued: Vec<_> = (0..2)
        .map(|n| world.cell(&format!("q{n}")).send(Add(1)))
        .collect();
    until(&world.lab.steps, |steps| *steps == 3).await;
    let cell = world.cell("a");
    assert_eq!(soon(cell.send(Add(1))).await, Err(Error::Overloaded));
    world.storage.release();
    soon(first).await.unwrap();
    for reply in queued {
        soon(reply).await.unwrap();
    }
    assert_eq!(soon(cell.send(Add(1))).await, Ok(1));
}
