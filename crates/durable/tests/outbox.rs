//! Effects are sent until they are acknowledged, in order at first, and never for nothing.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use durable::Error;
use support::{Add, Emit, Gated, GetBomb, World, id, pending, soon, until};

/// Waits until no effect is left on disk.
async fn outbox_is_empty(world: &World) {
    soon(async {
        while world.host.effects_pending().await != Ok(0) {
            // Each look is behind a commit, so the loop does not spin on nothing.
            soon(world.cell("bystander").send(Add(1))).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_leave_in_order_and_numbers_go_on_over_restarts() {
    let world = World::new();
    assert_eq!(
        soon(world.cell("a").send(Emit(vec![10, 11, 12]))).await,
        Ok(vec![1, 2, 3])
    );
    let a = |seq, effect| ("a".to_owned(), seq, effect);
    assert_eq!(world.inbox.0.seen(3).await, [a(1, 10), a(2, 11), a(3, 12)]);
    outbox_is_empty(&world).await;
    let world = world.restart().await;
    assert_eq!(
        soon(world.cell("a").send(Emit(vec![13]))).await,
        Ok(vec![4])
    );
    assert_eq!(
        world.inbox.0.seen(1).await,
        [a(4, 13)],
        "an acknowledged effect came again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_effect_comes_again_until_it_is_accepted() {
    let world = World::new();
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    for (attempt, pause_ms) in [(2, 2_000), (3, 4_000), (4, 8_000)] {
        // The pause begins when the refusal has come back.
        world.settled("a", attempt - 1).await;
        world.clock.advance(pause_ms - 1);
        let mut seen = world.inbox.0.seen.subscribe();
        seen.mark_unchanged();
        assert!(
            pending(&mut Box::pin(seen.changed())).await,
            "attempt {attempt} was early"
        );
        world.clock.advance(1);
        world.inbox.0.seen(attempt).await;
        assert!(pending(&mut Box::pin(seen.wait_for(|seen| seen.len() > attempt))).await);
    }
    world.settled("a", 4).await;
    world.inbox.0.refuse_all.store(false, Ordering::SeqCst);
    world.clock.advance(16_000);
    world.inbox.0.seen(5).await;
    outbox_is_empty(&world).await;
    world.clock.advance(1_000_000);
    outbox_is_empty(&world).await;
    assert_eq!(world.inbox.0.effects(), [7; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_effect_does_not_hold_up_others() {
    let world = World::new();
    world.inbox.0.refuse.lock().unwrap().push(1);
    world.inbox.0.swallow.lock().unwrap().push(2);
    soon(world.cell("a").send(Emit(vec![1, 2, 3])))
        .await
        .unwrap();
    soon(world.cell("a").send(Emit(vec![4]))).await.unwrap();
    let seen = world.inbox.0.seen(4).await;
    assert_eq!(
        seen.iter()
            .map(|(_, _, effect)| *effect)
            .collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_under_way_are_bounded_and_a_silent_one_times_out() {
    let world = World::with(Gated::new(), |mut settings| {
        settings.deliveries_max = 2;
        settings.deliver_timeout_ms = 200;
        settings
    });
    world.inbox.0.swallow.lock().unwrap().extend([1, 2]);
    soon(world.cell("a").send(Emit(vec![1, 2, 3])))
        .await
        .unwrap();
    assert_eq!(world.inbox.0.seen(2).await.len(), 2);
    // Only the time-out of one of the two makes room.
    assert_eq!(world.inbox.0.seen(3).await[2].2, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_acknowledged_is_sent_again_after_a_restart_without_any_message() {
    let world = World::new();
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![1, 2]))).await.unwrap();
    soon(world.cell("b").send(Emit(vec![3]))).await.unwrap();
    world.inbox.0.seen(3).await;
    let world = world.restart().await;
    let mut seen = world.inbox.0.seen(3).await;
    seen.sort();
    assert_eq!(
        seen,
        [
            ("a".to_owned(), 1, 1),
            ("a".to_owned(), 2, 2),
            ("b".to_owned(), 1, 3)
        ]
    );
    outbox_is_empty(&world).await;
    let ids = soon(world.cells.ids()).await.unwrap();
    assert!(ids.starts_with(&["a", "b"].map(id)), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_takes_no_more_until_it_has_room() {
    let world = World::with(Gated::new(), |mut settings| {
        settings.outbox_max = 2;
        settings
    });
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    let cell = world.cell("a");
    soon(cell.send(Emit(vec![1, 2]))).await.unwrap();
    assert_eq!(soon(cell.send(Emit(vec![3]))).await, Err(Error::Overloaded));
    world.settled("a", 2).await;
    world.inbox.0.refuse_all.store(false, Ordering::SeqCst);
    world.clock.advance(300_000);
    outbox_is_empty(&world).await;
    assert_eq!(soon(cell.send(Emit(vec![3]))).await, Ok(vec![3]));
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_of_an_actor_that_died_are_sent_again_without_any_message() {
    let world = World::new();
    world.inbox.0.swallow.lock().unwrap().push(7);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    world.inbox.0.seen(1).await;
    world.inbox.0.swallow.lock().unwrap().clear();
    // The reply's destructor panics on the actor's own thread, since nobody waits for it.
    let before = *world.lab.steps.borrow();
    GetBomb::explode(&world.cell("a"));
    until(&world.lab.steps, |steps| *steps > before).await;
    world.clock.advance(60_000);
    assert_eq!(world.inbox.0.seen(2).await[1], ("a".to_owned(), 1, 7));
    outbox_is_empty(&world).await;
}
