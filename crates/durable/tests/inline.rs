//! The inline mode by itself: nothing runs after a crash, nothing is left after an end, time is
//! the runtime's, and no wait is a loop. What a host promises in this mode: `simulation.rs`.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::cell::Cell as StdCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use durable::storage::{FaultyStorage, Left};
use durable::{
    Clock, Error, Host, InlineHost, Namespace, Pace, Settings, Storage, Store, TokioClock,
};
use support::{Add, Cell, Emit, Lab, START, SetAlarm, ToInbox, id};
use tokio::task::LocalSet;

/// Runs in virtual time, on one thread.
fn virtually<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

struct World {
    disk: Arc<FaultyStorage>,
    clock: Arc<TokioClock>,
    lab: Arc<Lab>,
    inbox: ToInbox,
    host: InlineHost,
    cells: Namespace<Cell>,
}

impl World {
    fn new(pace: Pace) -> Self {
        Self::on(FaultyStorage::new(1), pace)
    }

    fn on(disk: FaultyStorage, pace: Pace) -> Self {
        let disk = Arc::new(disk);
        let clock = Arc::new(TokioClock::new(START));
        let settings = Settings {
            clock: Arc::<TokioClock>::clone(&clock),
            seed: Some(1),
            deliveries_max: 1,
            ..Settings::default()
        };
        let storage: Arc<dyn Storage> = Arc::<FaultyStorage>::clone(&disk);
        let host = Host::inline(Store::new(storage).unwrap(), settings, pace).unwrap();
        let (lab, inbox) = (Arc::<Lab>::default(), ToInbox::default());
        let cells = host.namespace::<Cell>(Arc::clone(&lab), Arc::new(inbox.clone()));
        Self {
            disk,
            clock,
            lab,
            inbox,
            host,
            cells,
        }
    }

    fn send(&self, n: u64) -> impl Future<Output = Result<u64, Error>> + use<> {
        self.cells.stub(&id("a")).send(Add(n))
    }
}

async fn secs(secs: u64) {
    tokio::time::sleep(Duration::from_secs(secs)).await;
}

#[test]
fn a_day_passes_at_once_and_its_alarm_is_on_time() {
    virtually(async {
        let world = World::new(Pace::default());
        let at = START + 86_400_000;
        let cell = world.cells.stub(&id("a"));
        assert_eq!(cell.send(SetAlarm(Some(at))).await, Ok(None));
        secs(86_399).await;
        assert!(world.lab.alarms.borrow().is_empty());
        secs(2).await;
        let fired = world.lab.alarms.borrow().clone();
        assert_eq!(
            fired.iter().map(|(_, now, _)| *now).collect::<Vec<_>>(),
            [at]
        );
        world.host.stop().await;
    });
}

#[test]
fn nothing_runs_after_a_crash_and_what_was_answered_is_there() {
    virtually(async {
        let world = World::new(Pace {
            flush_ms: 10..=10,
            read_ms: 4..=4,
        });
        assert_eq!(world.send(1).await, Ok(1));
        // One is under way to the disk, one in the object's mailbox.
        let under_way = world.send(10);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let in_mailbox = world.send(100);
        let steps = *world.lab.steps.borrow();
        world.host.crash();
        assert_eq!(
            *world.lab.steps.borrow(),
            steps,
            "a handler ran after the crash"
        );
        assert_eq!(under_way.await, Err(Error::OutcomeUnknown));
        assert_eq!(in_mailbox.await, Err(Error::OutcomeUnknown));
        assert_eq!(world.send(5).await, Err(Error::OutcomeUnknown));
        let read = world.cells.stub(&id("a")).get("value").await;
        assert_eq!(read, Err(Error::OutcomeUnknown));
        assert_eq!(
            Arc::strong_count(&world.disk),
            1,
            "something holds the disk"
        );
        world.host.stop().await;
        secs(60).await;
        assert_eq!(*world.lab.steps.borrow(), steps);

        let after = World::on(world.disk.crash(Left::Synced), Pace::default());
        assert_eq!(after.send(1).await, Ok(2));
    });
}

#[test]
fn nothing_leaves_while_a_crash_clears_up() {
    for rounds in 0..60 {
        virtually(async {
            let world = World::new(Pace::default());
            let emitted = world.cells.stub(&id("a")).send(Emit((0..8).collect()));
            // More tasks than a local set polls in one round: it is always in the middle of things.
            for _ in 0..100 {
                world.host.spawn(async {
                    loop {
                        tokio::task::yield_now().await;
                    }
                });
            }
            for _ in 0..rounds {
                tokio::task::yield_now().await;
            }
            let before = world.inbox.0.effects();
            world.host.crash();
            assert_eq!(world.inbox.0.effects(), before, "after {rounds} rounds");
            drop(emitted);
        });
    }
}

#[test]
fn tasks_of_the_process_end_with_it_even_from_within() {
    virtually(async {
        let world = Rc::new(World::new(Pace::default()));
        let (ticks, polled) = (Rc::new(StdCell::new(0)), Rc::new(StdCell::new(false)));
        let (counter, own, late) = (Rc::clone(&ticks), Rc::clone(&world), Rc::clone(&polled));
        world.host.spawn(async move {
            for _ in 0..3 {
                secs(1).await;
                counter.set(counter.get() + 1);
            }
            own.host.crash();
            tokio::task::yield_now().await;
            late.set(true);
        });
        let counter = Rc::clone(&ticks);
        world.host.spawn(async move {
            loop {
                secs(10).await;
                counter.set(counter.get() + 100);
            }
        });
        secs(100).await;
        assert_eq!((ticks.get(), polled.get()), (3, false));
        world
            .host
            .spawn(async { panic!("a task of a process that has ended") });
        secs(1).await;
        assert_eq!(Arc::strong_count(&world.disk), 1);
    });
}

#[test]
fn an_orderly_end_stores_everything_and_leaves_nothing() {
    virtually(async {
        let world = World::new(Pace {
            flush_ms: 10..=10,
            ..Pace::default()
        });
        let queued = [world.send(1), world.send(2)];
        secs(1).await;
        let last = world.send(4);
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.host.stop().await;
        for answer in queued {
            assert!(answer.await.is_ok());
        }
        assert_eq!(last.await, Ok(7));
        assert_eq!(world.send(1).await, Err(Error::Stopped));
        assert_eq!(
            Arc::strong_count(&world.disk),
            1,
            "something holds the disk"
        );
    });
}

#[test]
fn a_sleep_of_the_machine_is_noticed_at_once() {
    virtually(async {
        let world = World::new(Pace::default());
        let cell = world.cells.stub(&id("a"));
        cell.send(SetAlarm(Some(START + 50_000))).await.unwrap();
        world.clock.slept(60_000);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(world.lab.alarms.borrow().len(), 1);
        assert_eq!(world.clock.now(), START + 60_010);
        world.clock.jump_wall(-5_000);
        assert_eq!(world.clock.wall(), START + 55_010);
    });
}

#[test]
fn an_overdue_effect_without_a_place_costs_no_turns() {
    let (ended, end) = std::sync::mpsc::channel();
    // Virtual time passes only while nobody has anything to do: in a loop it stands for ever.
    std::thread::spawn(move || {
        virtually(async {
            let world = World::new(Pace::default());
            let cell = world.cells.stub(&id("a"));
            world.inbox.0.refuse.lock().unwrap().push(1);
            world.inbox.0.swallow.lock().unwrap().push(2);
            // The first is refused and waits for 2 s; the second takes the one place for 30 s.
            cell.send(Emit(vec![1, 2])).await.unwrap();
            secs(25).await;
            assert_eq!(world.inbox.0.effects(), [1, 2]);
            world.inbox.0.refuse.lock().unwrap().clear();
            secs(6).await;
            assert_eq!(world.inbox.0.effects(), [1, 2, 1]);
        });
        ended.send(())
    });
    let ended = end.recv_timeout(support::DEADLINE);
    assert_eq!(ended, Ok(()), "the object was woken without an end");
}

#[test]
fn a_clone_of_the_host_does_not_keep_it_running() {
    virtually(async {
        let World {
            host, cells, lab, ..
        } = World::new(Pace::default());
        let clone = host.host().clone();
        drop(host);
        let answer = cells.stub(&id("a")).send(Add(1)).await;
        assert_eq!(answer, Err(Error::OutcomeUnknown));
        assert_eq!(lab.loads.load(Ordering::SeqCst), 0);
        clone.stop().await;
    });
}
