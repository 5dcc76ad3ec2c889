//! An effect that its receiver refuses for good ends as a dead letter: after so many tries, over
//! restarts, in one batch with the turn in which its object is told. One that may go better later
//! never does.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::Ordering;

use durable::{DeadLetter, Error, Host, Settings, Store};
use support::letters::{PAUSE, again, attempts, keys, letters, numbers, told, tries, world};
use support::{
    Add, AddAndPanic, BREAKS, BREAKS_AT_ONCE, Emit, Gated, OnLetter, POISON, Read, START, World,
    id, pending, soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn poison_is_a_dead_letter_after_so_many_tries() {
    let world = world(3);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 1, 2).await;
    assert_eq!(letters(&world, "a").await, [], "too early");
    world.clock.advance(PAUSE);
    let told = told(&world, 1).await;
    let letter = DeadLetter {
        seq: 1,
        effect: POISON,
        reason: "no use for 9000".to_owned(),
        tries: 3,
        first_tried_at: START,
        last_tried_at: START + 2 * PAUSE,
    };
    assert_eq!(told, [letter]);
    assert_eq!(letters(&world, "a").await, told);
    let noted = soon(world.cell("a").get("dead/1")).await;
    assert_eq!(noted, Ok(Some(3.into())), "what the object wrote");
    assert_eq!(world.host.effects_pending().await, Ok(0));
    assert_eq!(soon(world.cells.dead_lettered()).await, Ok(vec![id("a")]));
    world.clock.advance(100 * PAUSE);
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(1_001));
    assert_eq!(world.inbox.0.effects(), [POISON; 3], "it was sent again");
    soon(world.host.stop()).await;
    assert_eq!(keys(&world, "t/"), [""; 0], "counts are left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_go_better_later_is_never_counted_nor_written() {
    let world = world(2);
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    let commits = *world.host.last_seq().borrow();
    for (attempt, pause_ms) in [(1, 2_000), (2, 4_000), (3, 8_000), (4, 16_000)] {
        world.settled("a", attempt).await;
        world.clock.advance(pause_ms);
    }
    world.settled("a", 5).await;
    assert_eq!(*world.host.last_seq().borrow(), commits);
    // Longer pauses are jumps of time, which are written down.
    world.clock.advance(PAUSE);
    attempts(&world, "a", 6, 40).await;
    // One try of another kind between them counts as one.
    world.inbox.0.refuse_all.store(false, Ordering::SeqCst);
    world.clock.advance(PAUSE);
    world.settled("a", 41).await;
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    world.clock.advance(PAUSE);
    attempts(&world, "a", 42, 60).await;
    assert_eq!(letters(&world, "a").await, []);
    world.inbox.0.refuse_all.store(false, Ordering::SeqCst);
    world.clock.advance(PAUSE);
    assert_eq!(told(&world, 1).await[0].tries, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_survives_restarts() {
    let mut world = world(3);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    for _ in 0..2 {
        world.settled("a", 1).await;
        // A reply is behind everything that was written before it.
        soon(world.cell("a").send(Add(1))).await.unwrap();
        world.clock.advance(1_000);
        world = again(world, 3).await;
    }
    let told = told(&world, 1).await;
    assert_eq!((told[0].tries, told[0].first_tried_at), (3, START));
    assert_eq!(letters(&world, "a").await, told);
    assert_eq!(world.inbox.0.effects(), [POISON], "tried too often");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_survives_a_sleep() {
    let world = world(6);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    for (attempt, pause_ms) in [(1, 2_000), (2, 4_000), (3, 8_000)] {
        world.settled("a", attempt).await;
        world.clock.advance(pause_ms);
    }
    world.settled("a", 4).await;
    world.clock.advance(11_000);
    soon(async {
        while world.host.awake() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.clock.advance(5_000);
    attempts(&world, "a", 5, 6).await;
    assert_eq!(told(&world, 1).await[0].tries, 6);
    assert_eq!(world.inbox.0.effects(), [POISON; 6]);
}

/// What is one commit is whole or not there, whatever crashes.
#[tokio::test(flavor = "multi_thread")]
async fn the_move_and_what_the_object_does_about_it_are_one_commit() {
    let world = world(2);
    // The first try may be on disk as soon as what it tries.
    let mut commits = *world.host.last_seq().borrow() + 1;
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    for attempt in 1..=2 {
        world.settled("a", attempt).await;
        // A read is behind what was written before it, and no commit.
        soon(world.cell("a").send(Read)).await.unwrap();
        commits += 1;
        assert_eq!(*world.host.last_seq().borrow(), commits);
        world.clock.advance(2_000);
    }
    assert_eq!(told(&world, 1).await.len(), 1);
    let noted = soon(world.cell("a").get("dead/1")).await;
    assert_eq!(noted, Ok(Some(2.into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_an_instance_is_told_at_once() {
    let world = world(1);
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    world.settled("a", 1).await;
    let failed = soon(world.cell("a").send(AddAndPanic(1))).await;
    assert!(matches!(failed, Err(Error::Panicked { .. })), "{failed:?}");
    world.inbox.0.refuse_all.store(false, Ordering::SeqCst);
    world.clock.advance(2_000);
    assert_eq!(told(&world, 1).await[0].tries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_delivery_is_poison() {
    for (effect, reason) in [
        (BREAKS, "delivery panics as told"),
        (BREAKS_AT_ONCE, "delivery panics at once as told"),
    ] {
        let world = world(2);
        soon(world.cell("a").send(Emit(vec![effect])))
            .await
            .unwrap();
        attempts(&world, "a", 1, 2).await;
        let told = told(&world, 1).await;
        assert_eq!((told[0].tries, told[0].reason.as_str()), (2, reason));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_takes_too_long_is_no_poison() {
    let world = World::with(Gated::new(), |settings| Settings {
        deliver_timeout_ms: 20,
        poison_tries_max: 1,
        ..settings
    });
    world.inbox.0.swallow.lock().unwrap().push(7);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    for attempt in 1..4 {
        world.inbox.0.seen(attempt).await;
        soon(async {
            while world.inbox.0.seen.borrow().len() == attempt {
                world.clock.advance(PAUSE);
                soon(world.cell("a").send(Read)).await.unwrap();
            }
        })
        .await;
    }
    assert_eq!(letters(&world, "a").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_effects_leave_in_order_as_if_nothing_were_poison() {
    let world = world(2);
    let effects = vec![1, POISON, 2, BREAKS_AT_ONCE, 3];
    soon(world.cell("a").send(Emit(effects.clone())))
        .await
        .unwrap();
    world.settled("a", 5).await;
    assert_eq!(world.inbox.0.effects(), effects);
    soon(world.cell("a").send(Emit(vec![4]))).await.unwrap();
    world.settled("a", 6).await;
    assert_eq!(world.inbox.0.effects()[5], 4, "held up by what waits");
    world.clock.advance(PAUSE);
    assert_eq!(numbers(&told(&world, 2).await), [2, 4]);
    assert_eq!(numbers(&letters(&world, "a").await), [2, 4]);
    assert_eq!(world.host.effects_pending().await, Ok(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_full_of_poison_empties_itself() {
    let world = World::with(Gated::new(), |settings| Settings {
        outbox_max: 2,
        poison_tries_max: 2,
        ..settings
    });
    soon(world.cell("a").send(Emit(vec![POISON, POISON])))
        .await
        .unwrap();
    attempts(&world, "a", 2, 2).await;
    assert_eq!(
        soon(world.cell("a").send(Read)).await,
        Err(Error::Overloaded)
    );
    world.clock.advance(PAUSE);
    told(&world, 2).await;
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(2_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_object_sends_when_it_is_told_is_sent() {
    let world = world(1);
    *world.lab.on_letter.lock().unwrap() = OnLetter::Send(5);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    let seen = world.inbox.0.seen(2).await;
    assert_eq!(seen[1], ("a".to_owned(), 2, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_told_keeps_its_state_and_gets_its_letter() {
    for what in [OnLetter::Panic, OnLetter::Nonsense] {
        let world = world(1);
        *world.lab.on_letter.lock().unwrap() = what;
        soon(world.cell("a").send(Emit(vec![POISON, POISON])))
            .await
            .unwrap();
        told(&world, 2).await;
        assert_eq!(soon(world.cell("a").send(Read)).await, Ok(1), "{what:?}");
        assert_eq!(numbers(&letters(&world, "a").await), [1, 2]);
        assert_eq!(soon(world.cell("a").get("dead/1")).await, Ok(None));
        assert_eq!(world.host.effects_pending().await, Ok(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_loaded_is_told_once_it_can() {
    let world = world(2);
    soon(world.cell("a").send(Emit(vec![POISON])))
        .await
        .unwrap();
    world.settled("a", 1).await;
    world.lab.load_panics.store(true, Ordering::SeqCst);
    let failed = soon(world.cell("a").send(AddAndPanic(1))).await;
    assert!(matches!(failed, Err(Error::Panicked { .. })), "{failed:?}");
    world.clock.advance(2_000);
    // It is not sent again while it waits for its object.
    world.settled("a", 2).await;
    let mut none = Box::pin(told(&world, 1));
    assert!(pending(&mut none).await);
    assert_eq!(world.host.effects_pending().await, Ok(1));
    world.lab.load_panics.store(false, Ordering::SeqCst);
    world.clock.advance(60_000);
    assert_eq!(none.await[0].tries, 2);
    assert_eq!(world.inbox.0.effects(), [POISON; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tries_at_all_is_no_setting() {
    let settings = tries(Settings::default(), 0);
    let refused = Host::start(Store::memory().unwrap(), settings);
    let named = matches!(&refused, Err(Error::Setting { name, .. }) if *name == "poison_tries_max");
    assert!(named, "{refused:?}");
}
