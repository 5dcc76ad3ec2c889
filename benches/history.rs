//! What a step costs when there is much history: 100,000 closed beads against 10.
//!
//! Two parts: a durable object with that many records that its steps do not touch, and a rig with
//! that many closed beads, whose steps make a bead and close it. 64 steps are under way at once,
//! so that flushes are shared and what is left is the cost of the steps. The one with much and
//! the one with little history take turns. `--json` prints one line for programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark ends by panicking, and prints"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId, Records,
    Settings, Store, Stub, Turn,
};
use rig::{Input, NewBead};
use runtime::{RigStub, Runtime};
use tokio::task::JoinSet;

const FEW: u64 = 10;
const MANY: u64 = 100_000;
const ROUNDS: usize = 7;
const STEPS: usize = 4_000;
const AT_ONCE: usize = 64;

/// A number, beside records that only grow.
struct Counter(u64);

/// Writes that many records of history.
struct Remember(std::ops::Range<u64>);

struct Count;

impl Message for Remember {
    type Reply = ();
}

impl Message for Count {
    type Reply = u64;
}

impl Object for Counter {
    const NAMESPACE: &'static str = "counter";
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self(records.get("count")?.unwrap_or(0)))
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Remember> for Counter {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, Remember(range): Remember) {
        for n in range {
            turn.put(&format!("past/{n:09}"), &"x".repeat(300));
        }
    }
}

impl Handle<Count> for Counter {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, _: Count) -> u64 {
        self.0 += 1;
        turn.put("count", &self.0);
        self.0
    }
}

/// Does the work so many times, a bounded number of them at once, and gives the time per one.
async fn timed<F>(count: usize, work: impl Fn() -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        if tasks.len() == AT_ONCE {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.spawn(work());
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap())
}

async fn objects(dir: &Path) -> Vec<[f64; 2]> {
    let host = Host::start(Store::open(dir).unwrap(), Settings::default()).unwrap();
    let all = host.namespace::<Counter>((), Arc::new(NoEffects));
    let [little, much] = ["little", "much"].map(|name| all.stub(&name.try_into().unwrap()));
    for (counter, count) in [(&little, FEW), (&much, MANY)] {
        for from in (0..count).step_by(500) {
            let range = from..count.min(from + 500);
            counter.send(Remember(range)).await.unwrap();
        }
    }
    let count = |counter: &Stub<Counter>| {
        let counted = counter.send(Count);
        async move {
            counted.await.unwrap();
        }
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let few = timed(STEPS, || count(&little)).await;
        let many = timed(STEPS, || count(&much)).await;
        rounds.push([few, many]);
    }
    host.stop().await;
    rounds
}

/// Makes a bead and closes it.
async fn make_and_close(rig: RigStub) {
    let bead = rig.create_bead(NewBead::issue("Closed soon")).await;
    let (bead, by) = (bead.unwrap().id, None);
    rig.tell(Input::Close { bead, by }).await.unwrap();
}

async fn rigs(dir: &Path) -> Vec<[f64; 2]> {
    let town = Runtime::start(runtime::Settings::new(dir)).await.unwrap();
    let stub = |name: &str| {
        let id = name.to_owned().try_into().unwrap();
        town.rig(&id).unwrap()
    };
    let much = stub("much");
    timed(usize::try_from(MANY).unwrap(), || {
        make_and_close(much.clone())
    })
    .await;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        // A new one each time: its own steps are history too.
        let little = stub(&format!("little-{round}"));
        timed(usize::try_from(FEW).unwrap(), || {
            make_and_close(little.clone())
        })
        .await;
        let few = timed(STEPS / 8, || make_and_close(little.clone())).await;
        let many = timed(STEPS / 8, || make_and_close(much.clone())).await;
        rounds.push([few, many]);
    }
    town.stop(Duration::from_secs(10)).await;
    rounds
}

fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [
        values[0],
        values[values.len() / 2],
        values[values.len() - 1],
    ]
}

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let parts = [
        ("durable object", objects(&dir.path().join("objects")).await),
        ("rig", rigs(&dir.path().join("rigs")).await),
    ];
    let is_json = std::env::args().any(|arg| arg == "--json");
    let mut line = serde_json::Map::new();
    if !is_json {
        println!("| a step, in µs | history {FEW} | history {MANY} | ratio of medians |");
        println!("|---|---|---|---|");
    }
    for (name, rounds) in parts {
        let few = spread(rounds.iter().map(|round| round[0]).collect());
        let many = spread(rounds.iter().map(|round| round[1]).collect());
        let ratio = many[1] / few[1];
        line.insert(name.to_owned(), serde_json::json!([few, many, ratio]));
        if !is_json {
            let shown = |[min, median, max]: [f64; 3]| format!("{min:.1} / {median:.1} / {max:.1}");
            println!("| {name} | {} | {} | {ratio:.2} |", shown(few), shown(many));
        }
    }
    if is_json {
        println!("{}", serde_json::Value::from(line));
    }
}
