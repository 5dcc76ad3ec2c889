//! Alarms in number: many due at one instant, many overdue at a start, many set again and again.
//!
//! First: objects whose alarms are all due at the same millisecond; how late each was handled
//! durably, that none came early and none was lost or doubled. Then the same alarms overdue at
//! the start of a host, in a store that holds many more objects asleep: when the first message is
//! answered, and when the last ring is durable. Last: 1,000 objects each of whose alarms sets the
//! next in 100 ms. `--sleeping N` sets the number asleep, `--json` prints one line for programs.
// A benchmark ends by panicking, and prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use durable::{
    Alarm, AlarmFailed, BoxFuture, Clock, Deliver, Envelope, Error, Handle, Host, Message,
    Namespace, NotDelivered, Object, ObjectId, Records, Settings, Store, SystemClock, Turn,
};
use tokio::sync::watch;

const ROUNDS: usize = 3;
const AT_ONCE: usize = 10_000;
const SLEEPING: usize = 100_000;
const AGAIN: usize = 1_000;
const AGAIN_MS: i64 = 100;
const AGAIN_SPAN: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_mins(5);
const HOUR_MS: i64 = 3_600_000;
/// Messages under way while alarms are set.
const SETTERS: usize = 512;

/// Rings once, or for ever.
struct Bell {
    rings: u64,
    ear: Arc<Ear>,
}

/// What rings have been heard, and how late.
struct Ear {
    clock: Arc<dyn Clock>,
    late_ms: Mutex<Vec<i64>>,
    heard: watch::Sender<usize>,
}

impl Ear {
    fn hear(&self, scheduled_at: i64) {
        let mut all = self.late_ms.lock().unwrap();
        all.push(self.clock.now() - scheduled_at);
        self.heard.send_replace(all.len());
    }
}

struct RingAt(i64);

impl Message for RingAt {
    type Reply = ();
}

impl Object for Bell {
    const NAMESPACE: &'static str = "bell";
    type Env = Arc<Ear>;
    type Effect = i64;

    fn load(_: &ObjectId, records: &Records<'_>, ear: &Arc<Ear>) -> Result<Self, Error> {
        Ok(Self {
            rings: records.get("rings")?.unwrap_or(0),
            ear: Arc::clone(ear),
        })
    }

    fn alarm(&mut self, turn: &mut Turn<'_, i64>, alarm: Alarm) -> Result<(), AlarmFailed> {
        self.rings += 1;
        turn.put("rings", &self.rings);
        if turn.id().as_str().starts_with("again") {
            // The next one is due only when this one is durable, so the count tells of both.
            turn.set_alarm(turn.now() + AGAIN_MS);
            self.ear.hear(alarm.scheduled_at);
        } else {
            // It leaves when the ring is durable: what its receiver sees is the true end of it.
            turn.send(alarm.scheduled_at);
        }
        Ok(())
    }
}

impl Handle<RingAt> for Bell {
    fn handle(&mut self, turn: &mut Turn<'_, i64>, RingAt(at): RingAt) {
        turn.put("rings", &self.rings);
        turn.set_alarm(at);
    }
}

struct ToEar(Arc<Ear>);

impl Deliver<i64> for ToEar {
    fn deliver(&self, ring: Envelope<i64>) -> BoxFuture<'static, Result<(), NotDelivered>> {
        self.0.hear(ring.effect);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The system's clock, set forward.
#[derive(Debug)]
struct Later {
    clock: SystemClock,
    ms: i64,
}

impl Clock for Later {
    fn now(&self) -> i64 {
        self.clock.now() + self.ms
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        self.clock.sleep_until(at - self.ms)
    }
}

struct Town {
    host: Host,
    bells: Namespace<Bell>,
    ear: Arc<Ear>,
    clock: Arc<dyn Clock>,
}

impl Town {
    fn open(dir: &Path, ahead_ms: i64) -> Self {
        let clock = SystemClock::new();
        let clock: Arc<dyn Clock> = Arc::new(Later {
            clock,
            ms: ahead_ms,
        });
        let settings = Settings {
            clock: Arc::clone(&clock),
            ..Settings::default()
        };
        let ear = Arc::new(Ear {
            clock: Arc::clone(&clock),
            late_ms: Mutex::default(),
            heard: watch::Sender::new(0),
        });
        let host = Host::start(Store::open(dir).unwrap(), settings).unwrap();
        let (env, deliver) = (Arc::clone(&ear), Arc::new(ToEar(Arc::clone(&ear))));
        let bells = host.namespace::<Bell>(env, deliver);
        Self {
            host,
            bells,
            ear,
            clock,
        }
    }

    /// Sets the alarm of every object of that name; a bounded number of them at once.
    async fn set(&self, name: &str, count: usize, at: i64) {
        let places = Arc::new(tokio::sync::Semaphore::new(SETTERS));
        for n in 0..count {
            let place = Arc::clone(&places).acquire_owned().await.unwrap();
            let id = ObjectId::from_name(&format!("{name}{n:07}")).unwrap();
            let set = self.bells.stub(&id).send(RingAt(at));
            tokio::spawn(async move {
                set.await.unwrap();
                drop(place);
            });
        }
        let all = u32::try_from(SETTERS).unwrap();
        drop(places.acquire_many(all).await.unwrap());
    }

    /// Waits for all rings and gives how late they were, in order.
    async fn heard(&self, count: usize) -> Vec<i64> {
        let mut heard = self.ear.heard.subscribe();
        let all = heard.wait_for(|heard| *heard >= count);
        let all = tokio::time::timeout(PATIENCE, all).await;
        drop(all.expect("alarms are lost").unwrap());
        let mut late = self.ear.late_ms.lock().unwrap().clone();
        assert_eq!(late.len(), count, "alarms rang twice");
        late.sort_unstable();
        assert!(late[0] >= 0, "an alarm rang {} ms early", -late[0]);
        late
    }
}

/// All due at one instant; how late p99 and the last one were.
async fn at_once() -> [i64; 2] {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::open(&dir.path().join("store"), 0);
    let at = town.clock.now() + 8_000;
    town.set("once", AT_ONCE, at).await;
    assert!(town.clock.now() < at, "not all could be set in time");
    let late = town.heard(AT_ONCE).await;
    town.host.stop().await;
    [p99(&late), late[late.len() - 1]]
}

/// A start over many asleep and many overdue: ms until the store is open and the first message
/// is answered, and from the start until the last ring is durable.
async fn restart(dir: &Path, sleeping: usize) -> [i64; 2] {
    let town = Town::open(dir, 0);
    let now = town.clock.now();
    town.set("sleeping", sleeping, now + 100 * HOUR_MS).await;
    town.set("once", AT_ONCE, now + HOUR_MS).await;
    town.host.stop().await;
    let begin = Instant::now();
    let town = Town::open(dir, HOUR_MS + 1_000);
    let first = ObjectId::from_name("first").unwrap();
    let far = town.clock.now() + 100 * HOUR_MS;
    town.bells.stub(&first).send(RingAt(far)).await.unwrap();
    let answered = begin.elapsed();
    town.heard(AT_ONCE).await;
    let drained = begin.elapsed();
    town.host.stop().await;
    [answered, drained].map(|took| i64::try_from(took.as_millis()).unwrap())
}

/// Rings per second, and how late p99 was begun.
async fn again() -> [i64; 2] {
    let dir = tempfile::tempdir().unwrap();
    let town = Town::open(&dir.path().join("store"), 0);
    town.set("again", AGAIN, town.clock.now()).await;
    let mut heard = town.ear.heard.subscribe();
    // The first rounds are not counted.
    drop(heard.wait_for(|heard| *heard >= 10 * AGAIN).await.unwrap());
    town.ear.late_ms.lock().unwrap().clear();
    tokio::time::sleep(AGAIN_SPAN).await;
    let mut late = town.ear.late_ms.lock().unwrap().clone();
    town.host.stop().await;
    late.sort_unstable();
    let seconds = i64::try_from(AGAIN_SPAN.as_secs()).unwrap();
    [i64::try_from(late.len()).unwrap() / seconds, p99(&late)]
}

fn p99(sorted: &[i64]) -> i64 {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

fn spread(rounds: &[[i64; 2]], place: usize) -> [i64; 3] {
    let mut values: Vec<i64> = rounds.iter().map(|round| round[place]).collect();
    values.sort_unstable();
    [
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    ]
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let sleeping = args.iter().position(|arg| arg == "--sleeping");
    let sleeping = sleeping.map_or(SLEEPING, |at| args[at + 1].parse().unwrap());
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rounds[0].push(at_once().await);
        let dir = tempfile::tempdir().unwrap();
        rounds[1].push(restart(&dir.path().join("store"), sleeping).await);
        rounds[2].push(again().await);
    }
    let lines = [
        ("due_at_once_p99_late_ms", 0, 0),
        ("due_at_once_last_late_ms", 0, 1),
        ("restart_first_answer_ms", 1, 0),
        ("restart_overdue_done_ms", 1, 1),
        ("again_per_second", 2, 0),
        ("again_p99_late_ms", 2, 1),
    ];
    if args.iter().any(|arg| arg == "--json") {
        let line: serde_json::Map<String, serde_json::Value> = lines
            .iter()
            .map(|(name, part, place)| ((*name).to_owned(), spread(&rounds[*part], *place).into()))
            .collect();
        println!("{}", serde_json::Value::from(line));
        return;
    }
    println!("{AT_ONCE} alarms, {sleeping} asleep; {AGAIN} setting one in {AGAIN_MS} ms again");
    println!("| | min / median / max |");
    println!("|---|---|");
    for (name, part, place) in lines {
        let [min, median, max] = spread(&rounds[part], place);
        println!("| {name} | {min} / {median} / {max} |");
    }
}
