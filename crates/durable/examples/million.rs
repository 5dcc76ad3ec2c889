//! A million sleeping objects, each with an alarm: what they cost, and how they come back.
//!
//! Run it: `cargo run --release -p wellhead-durable --example million -- --objects 1000000`. The
//! first life makes the objects and lets them sleep; a second process then opens the same store
//! "an hour later", answers, and fires what came due meanwhile and what comes due now.
//!
//! Both lives are processes of their own with `MALLOC_ARENA_MAX=2`: glibc otherwise keeps freed
//! memory for each thread apart, which makes half as much again of nothing.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use durable::{Alarm, AlarmFailed, BoxFuture, Clock, Error, Handle, Host, Message, Namespace};
use durable::{NoEffects, Object, ObjectId, Records, Settings, Store, SystemClock, Turn};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const HOUR_MS: i64 = 3_600_000;
/// Requests that wait for an answer at once.
const WINDOW: u64 = 2_048;
/// One of so many is due while nothing runs, and one more soon after the second start.
const EVERY: u64 = 100;

/// How late alarms were, in ms, counted from the second start.
#[derive(Default)]
struct Fired {
    since: i64,
    late_ms: Mutex<Vec<i64>>,
}

struct Sleeper {
    alarms: u64,
    fired: Arc<Fired>,
}

/// Sets the alarm; answers how often it has fired.
struct WakeAt(Option<i64>);

impl Message for WakeAt {
    type Reply = u64;
}

impl Object for Sleeper {
    const NAMESPACE: &'static str = "sleeper";
    type Env = Arc<Fired>;
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, fired: &Self::Env) -> Result<Self, Error> {
        let (alarms, fired) = (records.get("alarms")?.unwrap_or(0), Arc::clone(fired));
        Ok(Self { alarms, fired })
    }

    fn alarm(&mut self, turn: &mut Turn<'_, ()>, alarm: Alarm) -> Result<(), AlarmFailed> {
        self.alarms += 1;
        turn.put("alarms", &self.alarms);
        let late_ms = turn.now() - alarm.scheduled_at.max(self.fired.since);
        let all = self.fired.late_ms.lock();
        all.unwrap_or_else(PoisonError::into_inner).push(late_ms);
        Ok(())
    }
}

impl Handle<WakeAt> for Sleeper {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, WakeAt(at): WakeAt) -> u64 {
        if let Some(at) = at {
            turn.put("alarms", &self.alarms);
            turn.set_alarm(at);
        }
        self.alarms
    }
}

/// The system's clock, as if it were another hour.
#[derive(Debug)]
struct Shifted {
    system: SystemClock,
    by_ms: i64,
}

impl Shifted {
    fn starting_at(now: i64) -> Self {
        let system = SystemClock::new();
        let by_ms = now - system.now();
        Self { system, by_ms }
    }
}

impl Clock for Shifted {
    fn now(&self) -> i64 {
        self.system.now() + self.by_ms
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        self.system.sleep_until(at - self.by_ms)
    }
}

#[derive(Debug, Clone, Copy)]
enum Life {
    First,
    Second,
}

impl Life {
    fn option(self) -> &'static str {
        match self {
            Self::First => "--first",
            Self::Second => "--second",
        }
    }
}

struct Args {
    objects: u64,
    json: bool,
    dir: Option<PathBuf>,
    /// Given to a process that is one of the lives: which one, and when the first one began.
    life: Option<(Life, i64)>,
}

fn args() -> Result<Args, Failure> {
    let (mut objects, mut json, mut dir, mut life) = (1_000_000, false, None, None);
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().ok_or(format!("{name} needs a value"));
        match name.as_str() {
            "--objects" => objects = value()?.parse()?,
            "--json" => json = true,
            "--dir" => dir = Some(PathBuf::from(value()?)),
            "--first" => life = Some((Life::First, value()?.parse()?)),
            "--second" => life = Some((Life::Second, value()?.parse()?)),
            _ => return Err(format!("{name}: known are --objects N, --dir DIR, --json").into()),
        }
    }
    Ok(Args {
        objects,
        json,
        dir,
        life,
    })
}

/// Names in no order, as ids of real objects are.
fn id(n: u64) -> Result<ObjectId, Error> {
    let scattered = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ObjectId::from_name(&format!("{scattered:016x}"))
}

/// When the object of that number is to wake up.
fn alarm_at(n: u64, objects: u64, start: i64) -> i64 {
    let share_of = |ms: i64| ms * n.cast_signed() / objects.cast_signed();
    match n % EVERY {
        0 => start + HOUR_MS / 2,
        1 => start + HOUR_MS + 2_000 + share_of(6_000),
        _ => start + 2 * HOUR_MS + share_of(24 * HOUR_MS),
    }
}

/// A figure of `/proc/self/status`, in MB.
fn memory_mb(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kb: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kb / 1_024)
}

fn open(dir: &Path, now: i64, fired: Arc<Fired>) -> Result<(Host, Namespace<Sleeper>), Error> {
    let settings = Settings {
        clock: Arc::new(Shifted::starting_at(now)),
        idle_ms: 1_000,
        ..Settings::default()
    };
    let host = Host::start(Store::open(dir)?, settings)?;
    let sleepers = host.namespace::<Sleeper>(fired, Arc::new(NoEffects));
    Ok((host, sleepers))
}

/// Makes the objects, lets them sleep, and says what they cost.
async fn first_life(dir: &Path, objects: u64, start: i64) -> Result<Value, Failure> {
    let (host, sleepers) = open(dir, start, Arc::default())?;
    let began = Instant::now();
    for first in (0..objects).step_by(usize::try_from(WINDOW)?) {
        let numbers = first..objects.min(first + WINDOW);
        let made = numbers.map(|n| {
            let at = alarm_at(n, objects, start);
            Ok::<_, Error>(sleepers.stub(&id(n)?).send(WakeAt(Some(at))))
        });
        for answer in made.collect::<Vec<_>>() {
            answer?.await?;
        }
    }
    let made_s = began.elapsed().as_secs_f64();
    while host.awake() > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (rss, peak) = (memory_mb("VmRSS:"), memory_mb("VmHWM:"));
    host.stop().await;
    Ok(json!({"objects": objects, "made_s": made_s, "rss_peak_mb": peak, "rss_mb": rss}))
}

/// Opens the store an hour after the first life began, and waits for the alarms.
async fn second_life(dir: &Path, objects: u64, start: i64) -> Result<Value, Failure> {
    let (began, since) = (Instant::now(), start + HOUR_MS);
    let late_ms = Mutex::default();
    let fired = Arc::new(Fired { since, late_ms });
    let (host, sleepers) = open(dir, since, Arc::clone(&fired))?;
    let ready_ms = began.elapsed().as_millis();
    sleepers.stub(&id(objects - 1)?).send(WakeAt(None)).await?;
    let first_answer_ms = began.elapsed().as_millis();
    let due = (0..objects).filter(|n| n % EVERY < 2).count();
    let mut late = Vec::new();
    while late.len() < due && began.elapsed() < Duration::from_mins(1) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        late.clone_from(&fired.late_ms.lock().unwrap_or_else(PoisonError::into_inner));
    }
    late.sort_unstable();
    let p99 = late.get(late.len().saturating_sub(1) * 99 / 100);
    let peak = memory_mb("VmHWM:");
    host.stop().await;
    Ok(json!({
        "ready_ms": ready_ms, "first_answer_ms": first_answer_ms, "alarms_fired": late.len(),
        "alarms_due": due, "alarm_late_p99_ms": p99, "alarms_early": late.first() < Some(&0),
        "second_rss_peak_mb": peak,
    }))
}

/// Runs one life in a process of its own, so that nothing is in memory before it.
fn lived(life: Life, dir: &Path, objects: u64, start: i64) -> Result<Value, Failure> {
    let output = std::process::Command::new(std::env::current_exe()?)
        .env("MALLOC_ARENA_MAX", "2")
        .args(["--objects", &objects.to_string()])
        .args([life.option(), &start.to_string(), "--dir"])
        .arg(dir)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    let said = String::from_utf8(output.stdout)?;
    Ok(serde_json::from_str(said.lines().last().unwrap_or(""))?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args = args()?;
    let objects = args.objects.max(EVERY);
    if let (Some((life, start)), Some(dir)) = (args.life, &args.dir) {
        let figures = match life {
            Life::First => first_life(dir, objects, start).await?,
            Life::Second => second_life(dir, objects, start).await?,
        };
        println!("{figures}");
        return Ok(());
    }
    let own = tempfile::tempdir()?;
    let dir = args.dir.unwrap_or_else(|| own.path().join("store"));
    let start = SystemClock::new().now();
    let mut figures = serde_json::Map::new();
    for life in [Life::First, Life::Second] {
        let one = tokio::task::block_in_place(|| lived(life, &dir, objects, start))?;
        figures.extend(one.as_object().cloned().unwrap_or_default());
    }
    let figures = Value::Object(figures);
    if args.json {
        println!("{figures}");
        return Ok(());
    }
    for name in [
        "objects",
        "rss_mb",
        "rss_peak_mb",
        "ready_ms",
        "first_answer_ms",
    ] {
        println!("{name}: {}", figures[name]);
    }
    for name in ["alarms_fired", "alarm_late_p99_ms"] {
        println!("{name}: {}", figures[name]);
    }
    Ok(())
}
