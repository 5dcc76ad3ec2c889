//! An object that nobody uses leaves memory, and nobody can tell.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, ManualClock, NoEffects, Object, ObjectId, Records,
    Settings, Store, Turn,
};
use support::{Add, Emit, Gated, OnAlarm, Read, START, SetAlarm, World, id, pending, soon};

const IDLE: i64 = 11_000;

/// Waits until that many objects are in memory.
async fn awake(host: &Host, count: usize) {
    soon(async {
        while host.awake() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Asserts that the objects stay in memory though the idle time passes several times.
async fn stays_awake(world: &World, count: usize) {
    for _ in 0..3 {
        world.clock.advance(IDLE);
        // A message of another object passes the same registries.
        let bystanders = (0..8).map(|n| world.cell(&format!("bystander {n}")).send(Read));
        for bystander in bystanders.collect::<Vec<_>>() {
            soon(bystander).await.unwrap();
        }
        assert!(world.host.awake() >= count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_eviction_with_no_observable_difference() {
    let world = World::new();
    let cell = world.cell("a");
    soon(cell.send(Add(3))).await.unwrap();
    assert_eq!(world.host.awake(), 1);
    world.clock.advance(9_000);
    assert_eq!(soon(cell.send(Read)).await, Ok(3), "used again in time");
    world.clock.advance(9_000);
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 1);
    assert_eq!(world.host.awake(), 1);
    world.clock.advance(2_000);
    awake(&world.host, 0).await;
    assert_eq!(soon(cell.send(Add(1))).await, Ok(4));
    assert_eq!(world.lab.loads.load(Ordering::SeqCst), 2);
    assert_eq!(world.host.awake(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_idle_objects_leave_memory_together() {
    let world = World::new();
    let calls: Vec<_> = (0..3_000)
        .map(|n| world.cell(&format!("c{n}")).send(Add(1)))
        .collect();
    for call in calls {
        soon(call).await.unwrap();
    }
    assert_eq!(world.host.awake(), 3_000);
    world.clock.advance(IDLE);
    awake(&world.host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_a_batch_in_flight_stays_awake() {
    let world = World::new();
    world.storage.hold();
    let before = world.storage.syncs();
    let mut reply = Box::pin(world.cell("a").send(Add(1)));
    world.storage.sync_after(before).await;
    world.clock.advance(IDLE);
    assert!(pending(&mut reply).await);
    assert_eq!(world.host.awake(), 1);
    world.storage.release();
    assert_eq!(soon(reply).await, Ok(1));
    world.clock.advance(IDLE);
    awake(&world.host, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_an_effect_under_way_stays_awake() {
    let world = World::new();
    world.inbox.0.swallow.lock().unwrap().push(7);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    world.inbox.0.seen(1).await;
    stays_awake(&world, 1).await;
    assert_eq!(world.inbox.0.effects(), [7], "sent again while under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_effect_keeps_its_back_off_over_a_sleep() {
    let world = World::new();
    world.inbox.0.refuse_all.store(true, Ordering::SeqCst);
    soon(world.cell("a").send(Emit(vec![7]))).await.unwrap();
    for (attempt, pause_ms) in [(2, 2_000), (3, 4_000), (4, 8_000)] {
        world.settled("a", attempt - 1).await;
        world.clock.advance(pause_ms);
        world.inbox.0.seen(attempt).await;
    }
    world.settled("a", 4).await;
    world.clock.advance(IDLE);
    awake(&world.host, 0).await;
    // A message wakes it, and that is no reason to try again.
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(1));
    let mut fifth = Box::pin(world.inbox.0.seen(5));
    assert!(pending(&mut fifth).await, "the back-off began anew");
    world.clock.advance(16_000 - IDLE);
    soon(fifth).await;
    assert_eq!(world.inbox.0.effects(), [7; 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_object_is_woken_by_its_alarm() {
    let world = World::new();
    let at = START + 3_600_000;
    soon(world.cell("a").send(SetAlarm(Some(at))))
        .await
        .unwrap();
    world.clock.advance(IDLE);
    awake(&world.host, 0).await;
    world.clock.advance(3_600_000 - IDLE);
    let fired = world.lab.fired(1).await;
    assert_eq!((fired[0].0.scheduled_at, fired[0].1), (at, at));
    assert_eq!(soon(world.cell("a").send(Read)).await, Ok(100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_alarm_keeps_its_counter_over_a_sleep() {
    let world = World::new();
    world.lab.on_alarm(OnAlarm::Fail);
    soon(world.cell("a").send(SetAlarm(Some(START))))
        .await
        .unwrap();
    let mut retries = Vec::new();
    for run in 1..=7 {
        let fired = world.lab.fired(run).await;
        retries.push(fired[run - 1].0.retry);
        // The next time is on disk, and the object idle, before the clock moves on.
        soon(async {
            while soon(world.host.alarms_pending()).await.unwrap()[0].2 <= fired[run - 1].1 {}
        })
        .await;
        let next = soon(world.host.alarms_pending()).await.unwrap()[0].2;
        world.clock.advance(next - fired[run - 1].1);
    }
    assert_eq!(retries, [0, 1, 2, 3, 4, 5, 6]);
}

/// Counts its instances.
#[derive(Debug)]
struct Solo {
    id: String,
    value: u64,
    lab: Arc<SoloLab>,
}

#[derive(Debug, Default)]
struct SoloLab {
    alive: Mutex<HashMap<String, usize>>,
    most: AtomicUsize,
    loads: AtomicUsize,
}

impl Drop for Solo {
    fn drop(&mut self) {
        *self.lab.alive.lock().unwrap().get_mut(&self.id).unwrap() -= 1;
    }
}

impl Object for Solo {
    const NAMESPACE: &'static str = "solo";
    type Env = Arc<SoloLab>;
    type Effect = ();

    fn load(id: &ObjectId, records: &Records<'_>, lab: &Arc<SoloLab>) -> Result<Self, Error> {
        lab.loads.fetch_add(1, Ordering::SeqCst);
        let mut alive = lab.alive.lock().unwrap();
        let here = alive.entry(id.to_string()).or_default();
        *here += 1;
        lab.most.fetch_max(*here, Ordering::SeqCst);
        Ok(Self {
            id: id.to_string(),
            value: records.get("value")?.unwrap_or(0),
            lab: Arc::clone(lab),
        })
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Add> for Solo {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Add(n): Add) -> u64 {
        self.value += n;
        turn.put("value", &self.value);
        self.value
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_message_is_lost_between_sleep_and_load_and_no_second_instance_lives() {
    const EACH: u64 = 400;
    let clock = Arc::new(ManualClock::new(START));
    let settings = Settings {
        idle_ms: 1,
        clock: Arc::<ManualClock>::clone(&clock),
        ..Settings::default()
    };
    let host = Host::start(Store::memory().unwrap(), settings).unwrap();
    let lab = Arc::new(SoloLab::default());
    let all = host.namespace::<Solo>(Arc::clone(&lab), Arc::new(NoEffects));
    let senders: Vec<_> = (0..4u64)
        .map(|n| {
            let stub = all.stub(&id(&format!("s{n}")));
            let clock = Arc::clone(&clock);
            tokio::spawn(async move {
                for sent in 1..=EACH {
                    assert_eq!(soon(stub.send(Add(1))).await, Ok(sent));
                    // The next message comes at any moment of the way to sleep.
                    clock.advance(2);
                    for _ in 0..(sent * 7 + n * 3) % 50 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        soon(sender).await.unwrap();
    }
    assert_eq!(lab.most.load(Ordering::SeqCst), 1);
    clock.advance(2);
    assert!(lab.loads.load(Ordering::SeqCst) > 100, "hardly ever asleep");
    awake(&host, 0).await;
    assert!(lab.alive.lock().unwrap().values().all(|alive| *alive == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_died_is_let_go_like_others() {
    let world = World::with(Gated::new(), |settings| settings);
    let before = *world.lab.steps.borrow();
    support::GetBomb::explode(&world.cell("a"));
    support::until(&world.lab.steps, |steps| *steps > before).await;
    world.clock.advance(IDLE);
    soon(async {
        while world.host.awake() > 0 {
            world.clock.advance(1_000);
            tokio::task::yield_now().await;
        }
    })
    .await;
}
