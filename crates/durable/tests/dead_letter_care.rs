//! What an operator does with dead letters: looks, sends again, drops.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use support::letters::{PAUSE, again, keys, letters, numbers, told, world};
use support::{Emit, POISON, id, pending, soon};

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_letter_leaves_under_its_number_and_is_counted_anew() {
    let world = world(2);
    soon(world.cell("a").send(Emit(vec![POISON, 8])))
        .await
        .unwrap();
    world.settled("a", 2).await;
    world.clock.advance(PAUSE);
    told(&world, 1).await;
    letters(&world, "a").await;
    assert_eq!(soon(world.cell("a").retry_dead_letter(1)).await, Ok(true));
    assert_eq!(letters(&world, "a").await, []);
    world.settled("a", 4).await;
    assert_eq!(letters(&world, "a").await, [], "the old tries were counted");
    world.clock.advance(PAUSE);
    assert_eq!(told(&world, 2).await[1].tries, 2);
    letters(&world, "a").await;

    world.inbox.0.cured.store(true, Ordering::SeqCst);
    assert_eq!(soon(world.cell("a").retry_dead_letter(1)).await, Ok(true));
    let seen = world.inbox.0.seen(6).await;
    assert_eq!(seen[5], ("a".to_owned(), 1, POISON));
    for seq in [1, 2, 77] {
        assert_eq!(
            soon(world.cell("a").retry_dead_letter(seq)).await,
            Ok(false)
        );
    }
    assert_eq!(soon(world.cell("a").send(Emit(vec![9]))).await, Ok(vec![3]));
    assert_eq!(world.inbox.0.seen(7).await.len(), 7);
    assert_eq!(soon(world.cells.dead_lettered()).await, Ok(vec![]));
    soon(world.host.stop()).await;
    assert_eq!(keys(&world, "d/"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_retries_one_finds_the_letter() {
    let world = world(1);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    told(&world, 1).await;
    letters(&world, "a").await;
    world.inbox.0.cured.store(true, Ordering::SeqCst);
    // Both have read the letter before either has changed anything.
    world.storage.hold();
    let retries = [0, 1].map(|_| {
        let cell = world.cell("a");
        tokio::spawn(async move { cell.retry_dead_letter(1).await })
    });
    let drops = world.cell("a");
    let drops = tokio::spawn(async move { drops.drop_dead_letter(1).await });
    world.inbox.0.seen(1).await;
    world.storage.release();
    let mut found = vec![soon(drops).await.unwrap().unwrap()];
    for retry in retries {
        found.push(soon(retry).await.unwrap().unwrap());
    }
    assert_eq!(found.iter().filter(|found| **found).count(), 1, "{found:?}");
    assert_eq!(letters(&world, "a").await, []);
    assert!(world.inbox.0.effects().len() <= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_does_not_leave_before_it_is_on_disk_and_survives_a_restart() {
    let world = world(1);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    told(&world, 1).await;
    letters(&world, "a").await;
    world.inbox.0.cured.store(true, Ordering::SeqCst);
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    // Another one, which waits for 2 s.
    let sent = soon(world.cell("a").send(Emit(vec![3]))).await;
    assert_eq!(sent, Ok(vec![2]));
    world.settled("a", 2).await;
    let before = world.storage.syncs();
    world.storage.hold();
    let cell = world.cell("a");
    let retry = tokio::spawn(async move { cell.retry_dead_letter(1).await });
    world.storage.sync_after(before).await;
    // What is due leaves, and nothing else.
    world.clock.advance(2_000);
    let seen = world.inbox.0.seen(3).await;
    assert_eq!(seen[2].1, 2);
    let mut fourth = Box::pin(world.inbox.0.seen(4));
    assert!(pending(&mut fourth).await, "it left too early");
    drop(fourth);
    world.storage.release();
    assert_eq!(soon(retry).await.unwrap(), Ok(true));
    assert_eq!(world.inbox.0.seen(4).await[3].1, 1);
    let world = again(world, 8).await;
    let seen = world.inbox.0.seen(2).await;
    assert_eq!(seen, [("a".to_owned(), 1, POISON), ("a".to_owned(), 2, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_wakes_nobody_and_a_dropped_letter_is_gone() {
    let world = world(1);
    soon(world.cell("a").send(Emit(vec![POISON, POISON + 1])))
        .await
        .unwrap();
    told(&world, 2).await;
    letters(&world, "a").await;
    let world = again(world, 1).await;
    assert_eq!(
        numbers(&soon(world.cell("a").dead_letters()).await.unwrap()),
        [1, 2]
    );
    assert_eq!(soon(world.cells.dead_lettered()).await, Ok(vec![id("a")]));
    assert_eq!(soon(world.cell("a").drop_dead_letter(9)).await, Ok(false));
    assert_eq!(soon(world.cell("b").retry_dead_letter(1)).await, Ok(false));
    assert_eq!(world.host.awake(), 0, "somebody was woken");
    assert_eq!(soon(world.cell("a").drop_dead_letter(1)).await, Ok(true));
    assert_eq!(soon(world.cell("a").drop_dead_letter(1)).await, Ok(false));
    assert_eq!(numbers(&letters(&world, "a").await), [2]);
    let world = again(world, 1).await;
    assert_eq!(numbers(&letters(&world, "a").await), [2]);
    assert!(world.inbox.0.effects().is_empty());
}
