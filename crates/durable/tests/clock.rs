//! Jumps of the wall clock and long gaps: no alarm is lost or early, and objects are told once.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use durable::{
    Alarm, AlarmFailed, ClockJump, Error, Handle, Host, ManualClock, MemoryStorage, Namespace,
    NoEffects, Object, ObjectId, Records, Settings, Storage, Store, Turn,
};
use support::{Add, START, SetAlarm, id, pending, soon, until};
use tokio::sync::watch;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What an object met, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    Jump(ClockJump),
    Alarm { scheduled_at: i64, now: i64 },
    Message,
}

#[derive(Debug, Default)]
struct Diary {
    met: watch::Sender<Vec<Met>>,
    panics: AtomicBool,
}

impl Diary {
    fn add(&self, met: Met) {
        self.met.send_modify(|all| all.push(met));
    }

    async fn read(&self, count: usize) -> Vec<Met> {
        until(&self.met, |met| met.len() >= count).await
    }
}

#[derive(Debug)]
struct Watcher(u64, Arc<Diary>);

impl Object for Watcher {
    const NAMESPACE: &'static str = "watcher";
    type Env = Arc<Diary>;
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, diary: &Arc<Diary>) -> Result<Self, Error> {
        Ok(Self(records.get("n")?.unwrap_or(0), Arc::clone(diary)))
    }

    fn alarm(&mut self, turn: &mut Turn<'_, ()>, alarm: Alarm) -> Result<(), AlarmFailed> {
        let (scheduled_at, now) = (alarm.scheduled_at, turn.now());
        self.1.add(Met::Alarm { scheduled_at, now });
        Ok(())
    }

    fn clock_jumped(&mut self, turn: &mut Turn<'_, ()>, jump: ClockJump) {
        self.0 += 100;
        turn.put("n", &self.0);
        self.1.add(Met::Jump(jump));
        assert!(!self.1.panics.load(Ordering::SeqCst), "panics as told");
    }
}

impl Handle<Add> for Watcher {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Add(n): Add) -> u64 {
        self.0 += n;
        turn.put("n", &self.0);
        self.1.add(Met::Message);
        self.0
    }
}

impl Handle<SetAlarm> for Watcher {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, SetAlarm(at): SetAlarm) -> Option<i64> {
        at.inspect(|at| turn.set_alarm(*at))
    }
}

struct World {
    storage: Arc<dyn Storage>,
    clock: Arc<ManualClock>,
    diary: Arc<Diary>,
    host: Host,
    all: Namespace<Watcher>,
}

impl World {
    /// Objects stay in memory.
    fn new() -> Self {
        Self::with_idle(100 * DAY_MS)
    }

    fn with_idle(idle_ms: i64) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        Self::on(Arc::new(MemoryStorage::new()), clock, idle_ms)
    }

    fn on(storage: Arc<dyn Storage>, clock: Arc<ManualClock>, idle_ms: i64) -> Self {
        let settings = Settings {
            idle_ms: idle_ms.unsigned_abs(),
            clock: Arc::<ManualClock>::clone(&clock),
            ..Settings::default()
        };
        let host = Host::start(Store::new(Arc::clone(&storage)).unwrap(), settings).unwrap();
        let diary = Arc::new(Diary::default());
        let all = host.namespace::<Watcher>(Arc::clone(&diary), Arc::new(NoEffects));
        Self {
            storage,
            clock,
            diary,
            host,
            all,
        }
    }

    async fn set(&self, name: &str, at: i64) {
        let stub = self.all.stub(&id(name));
        soon(stub.send(SetAlarm(Some(at)))).await.unwrap();
    }

    async fn add(&self, name: &str, n: u64) -> u64 {
        soon(self.all.stub(&id(name)).send(Add(n))).await.unwrap()
    }

    /// Lets the time pass in steps in which the host looks at its clock.
    async fn pass(&self, ms: i64) {
        for _ in 0..ms / 5_000 {
            self.clock.advance(5_000);
            self.quiet().await;
        }
    }

    /// Waits until the host has seen the time, shown by an alarm of a bystander.
    async fn quiet(&self) {
        let before = self.diary.met.borrow().len();
        self.set("bystander", 0).await;
        let bystander = |met: &Met| {
            matches!(
                met,
                Met::Alarm {
                    scheduled_at: 0,
                    ..
                }
            )
        };
        until(&self.diary.met, |met| {
            met.iter().skip(before).any(bystander)
        })
        .await;
        self.diary
            .met
            .send_modify(|met| met.retain(|met| !bystander(met)));
    }
}

fn jump(gap_ms: i64, wall_ms: i64) -> Met {
    Met::Jump(ClockJump { gap_ms, wall_ms })
}

fn alarm(scheduled_at: i64) -> Met {
    let now = scheduled_at;
    Met::Alarm { scheduled_at, now }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_a_day_ahead_fires_nothing_early() {
    let world = World::new();
    world.quiet().await;
    world.set("a", START + 20_000).await;
    world.clock.jump_wall(DAY_MS);
    world.pass(15_000).await;
    // The bystander and "a" are told, nobody else is there.
    assert_eq!(
        *world.diary.met.borrow(),
        [jump(0, DAY_MS), jump(0, DAY_MS)]
    );
    world.clock.advance(5_000);
    assert_eq!(world.diary.read(3).await[2], alarm(START + 20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_a_day_behind_stops_no_alarm() {
    let world = World::new();
    world.set("a", START + 20_000).await;
    world.clock.jump_wall(-DAY_MS);
    world.clock.advance(10_000);
    assert_eq!(world.diary.read(1).await, [jump(0, -DAY_MS)]);
    world.clock.advance(10_000);
    assert_eq!(world.diary.read(2).await[1], alarm(START + 20_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_eight_hours_of_sleep_objects_are_told_before_their_overdue_alarms() {
    let world = World::new();
    world.set("a", START + HOUR_MS).await;
    world.clock.advance(8 * HOUR_MS);
    let late = Met::Alarm {
        scheduled_at: START + HOUR_MS,
        now: START + 8 * HOUR_MS,
    };
    assert_eq!(world.diary.read(2).await, [jump(8 * HOUR_MS, 0), late]);
    // Told once.
    world.add("a", 1).await;
    world.clock.advance(10_000);
    world.add("a", 1).await;
    assert_eq!(world.diary.met.borrow()[2..], [Met::Message, Met::Message]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_its_overdue_alarm_wakes_is_told_of_the_jump_first() {
    let world = World::with_idle(10_000);
    world.set("a", START + HOUR_MS).await;
    world.clock.advance(11_000);
    soon(async {
        while world.host.awake() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.clock.advance(8 * HOUR_MS);
    let late = Met::Alarm {
        scheduled_at: START + HOUR_MS,
        now: START + 8 * HOUR_MS + 11_000,
    };
    let met = world.diary.read(2).await;
    // Whether the clock had looked after the first eleven seconds is its own business.
    let first = [8 * HOUR_MS, 8 * HOUR_MS + 11_000].map(|gap_ms| jump(gap_ms, 0));
    assert!(first.contains(&met[0]) && met[1] == late, "{met:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_passes_in_small_steps_is_no_jump() {
    let world = World::new();
    world.quiet().await;
    world.set("a", START + 60_000).await;
    world.pass(60_000).await;
    assert_eq!(world.diary.read(1).await, [alarm(START + 60_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleeping_object_is_told_once_when_it_wakes_and_a_new_one_is_not() {
    let world = World::with_idle(10_000);
    assert_eq!(world.add("a", 1).await, 1);
    world.pass(15_000).await;
    // Only the bystander is in memory.
    assert!(world.host.awake() <= 1);
    world.diary.met.send_modify(Vec::clear);
    world.clock.jump_wall(DAY_MS);
    world.pass(10_000).await;
    world.clock.jump_wall(-HOUR_MS);
    world.pass(10_000).await;
    world.diary.met.send_modify(Vec::clear);
    assert_eq!(world.add("a", 1).await, 102);
    let both = jump(0, DAY_MS - HOUR_MS);
    assert_eq!(world.diary.read(2).await, [both, Met::Message]);
    world.pass(15_000).await;
    assert_eq!(
        world.add("a", 1).await,
        103,
        "told again after another sleep"
    );
    assert_eq!(
        world.add("new", 1).await,
        1,
        "told of what was before its time"
    );
    soon(world.host.stop()).await;
    let world = World::on(world.storage, world.clock, 10_000);
    assert_eq!(world.add("a", 1).await, 104, "told again after a restart");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_clock_jumped_is_met_once() {
    let world = World::new();
    assert_eq!(world.add("a", 1).await, 1);
    world.diary.panics.store(true, Ordering::SeqCst);
    world.clock.advance(HOUR_MS);
    world.diary.read(2).await;
    assert_eq!(
        world.add("a", 1).await,
        2,
        "the turn that panicked left something"
    );
    assert_eq!(
        world.diary.met.borrow()[1..],
        [jump(HOUR_MS, 0), Met::Message]
    );
    let mut more = Box::pin(world.diary.read(4));
    assert!(pending(&mut more).await);
}
