//! Lines of the checklist of durable objects that no other test file is about.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, ManualClock, MemoryStorage, Message, Namespace,
    NoEffects, Object, ObjectId, Records, Settings, Storage, Store, Turn,
};
use support::{Dying, Gated, START, SetAlarm, World, id, soon, until};
use tokio::sync::watch;

#[derive(Debug, Default)]
struct Lab {
    inside: AtomicBool,
    overlapped: AtomicBool,
    fired: watch::Sender<Vec<String>>,
}

/// Its alarm panics if it is called so.
const POISON: &str = "poison";

#[derive(Debug)]
struct Trial(Arc<Lab>);

/// What a message does to the alarm, and whether it panics afterwards.
#[derive(Debug, Clone, Copy)]
enum Do {
    Nothing,
    Set(i64),
    SetAndPanic(i64),
    DeleteAndPanic,
}

impl Message for Do {
    type Reply = Option<i64>;
}

impl Object for Trial {
    const NAMESPACE: &'static str = "trial";
    type Env = Arc<Lab>;
    type Effect = ();

    fn load(_: &ObjectId, _: &Records<'_>, lab: &Arc<Lab>) -> Result<Self, Error> {
        Ok(Self(Arc::clone(lab)))
    }

    fn alarm(&mut self, turn: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        let id = turn.id().to_string();
        assert_ne!(id, POISON, "panics as told");
        self.0.fired.send_modify(|fired| fired.push(id));
        turn.set_alarm(turn.now() + 1_000);
        Ok(())
    }
}

impl Handle<Do> for Trial {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, what: Do) -> Option<i64> {
        let lab = &self.0;
        let other = lab.inside.swap(true, Ordering::SeqCst);
        lab.overlapped.fetch_or(other, Ordering::SeqCst);
        // Room for another one to come in.
        std::thread::yield_now();
        match what {
            Do::Nothing => {}
            Do::Set(at) | Do::SetAndPanic(at) => turn.set_alarm(at),
            Do::DeleteAndPanic => turn.delete_alarm(),
        }
        let seen = turn.alarm();
        lab.inside.store(false, Ordering::SeqCst);
        if matches!(what, Do::SetAndPanic(_) | Do::DeleteAndPanic) {
            panic!("panics as told");
        }
        seen
    }
}

fn start(
    storage: &Arc<dyn Storage>,
    clock: &Arc<ManualClock>,
) -> (Host, Namespace<Trial>, Arc<Lab>) {
    let settings = Settings {
        clock: Arc::<ManualClock>::clone(clock),
        ..Settings::default()
    };
    let host = Host::start(Store::new(Arc::clone(storage)).unwrap(), settings).unwrap();
    let lab = Arc::new(Lab::default());
    let all = host.namespace::<Trial>(Arc::clone(&lab), Arc::new(NoEffects));
    (host, all, lab)
}

fn fresh() -> (Arc<dyn Storage>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    (Arc::new(MemoryStorage::new()), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_handlers_synchronous_parts_overlap() {
    let (storage, clock) = fresh();
    let (_host, all, lab) = start(&storage, &clock);
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let stub = all.stub(&id("a"));
            tokio::spawn(async move {
                for _ in 0..300 {
                    soon(stub.send(Do::Nothing)).await.unwrap();
                }
            })
        })
        .collect();
    for sender in senders {
        soon(sender).await.unwrap();
    }
    assert!(!lab.overlapped.load(Ordering::SeqCst));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_turn_did_to_the_alarm_rolls_back_with_it() {
    let (storage, clock) = fresh();
    let (host, all, _) = start(&storage, &clock);
    let stub = all.stub(&id("a"));
    let panicked = |answer| matches!(answer, Err(Error::Panicked { .. }));
    assert!(panicked(soon(stub.send(Do::SetAndPanic(START + 1))).await));
    assert_eq!(soon(stub.send(Do::Nothing)).await, Ok(None));
    let at = START + 60_000;
    assert_eq!(soon(stub.send(Do::Set(at))).await, Ok(Some(at)));
    assert!(panicked(soon(stub.send(Do::SetAndPanic(at + 1))).await));
    assert!(panicked(soon(stub.send(Do::DeleteAndPanic)).await));
    assert_eq!(soon(stub.send(Do::Nothing)).await, Ok(Some(at)));
    let pending = soon(host.alarms_pending()).await.unwrap();
    assert_eq!(pending, [("trial".to_owned(), id("a"), at)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_an_alarm_earlier_or_later_is_crash_safe_at_every_write() {
    let before = START + 10_000;
    for after in [START + 5_000, START + 20_000] {
        let mut moved = 0;
        for writes in 0..4 {
            let disk = Dying::new();
            let world = World::with(Gated::over(Arc::<Dying>::clone(&disk)), |settings| settings);
            soon(world.cell("a").send(SetAlarm(Some(before))))
                .await
                .unwrap();
            disk.left.store(writes, Ordering::SeqCst);
            let answer = soon(world.cell("a").send(SetAlarm(Some(after)))).await;
            disk.left.store(usize::MAX, Ordering::SeqCst);
            let world = world.restart().await;
            let pending = soon(world.host.alarms_pending()).await.unwrap();
            let [(_, _, at)] = pending[..] else {
                panic!("{writes} writes: {pending:?}");
            };
            assert!(
                at == after || (at == before && answer.is_err()),
                "{writes}: {at}"
            );
            moved += usize::from(at == after);
            world.clock.advance(at - START);
            let fired = world.lab.fired(1).await;
            assert_eq!((fired[0].0.scheduled_at, fired[0].1), (at, at));
        }
        assert!((1..4).contains(&moved), "{moved} of 4 moved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_alarm_does_not_crash_loop_the_host() {
    let (storage, clock) = fresh();
    for life in 0..4 {
        let (host, all, lab) = start(&storage, &clock);
        if life == 0 {
            for name in [POISON, "good"] {
                let stub = all.stub(&id(name));
                soon(stub.send(Do::Set(START))).await.unwrap();
            }
        }
        // The neighbour's alarm fires in every life, and the poisoned object still answers.
        until(&lab.fired, |fired| !fired.is_empty()).await;
        soon(all.stub(&id(POISON)).send(Do::Nothing)).await.unwrap();
        assert_eq!(*host.fatal().borrow(), None);
        soon(host.stop()).await;
        clock.advance(20_000);
    }
}
