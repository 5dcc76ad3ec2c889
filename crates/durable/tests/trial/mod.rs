//! What the trials of sudden ends share: a process that writes and says what was acknowledged,
//! and one that reads afterwards what is there. Both are the test program itself, started again.
//!
//! It knows no way to end the writer; each test brings its own.
// Each test file uses its own part of this module.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId, Order, Records,
    Settings, SledStorage, Store, Turn,
};

/// Objects that write side by side, so that their batches share flushes.
pub const WRITERS: usize = 16;
/// Batches of one object that are kept: each overwrites the one before it by that many.
const SLOTS: u64 = 64;
/// Every such batch has a record that sled keeps in a file of its own.
const BIG_EVERY: u64 = 50;
const BIG_BYTES: usize = 200_000;
const MODE: &str = "DURABLE_TRIAL_MODE";
const DIR: &str = "DURABLE_TRIAL_DIR";
const DEADLINE: Duration = Duration::from_mins(1);

/// Acknowledged or stored counts, one per object.
pub type Counts = [u64; WRITERS];

/// How the store of a writer syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// As shipped.
    Own,
    /// By sled alone.
    TakenOut,
}

/// A number that only grows. Each step is one batch of three records that belong together.
struct Ring(u64);

struct Next;

impl Message for Next {
    type Reply = u64;
}

impl Object for Ring {
    const NAMESPACE: &'static str = "ring";
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, records: &Records<'_>, (): &()) -> Result<Self, Error> {
        Ok(Self(records.get("last")?.unwrap_or(0)))
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Next> for Ring {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, _: Next) -> u64 {
        self.0 += 1;
        let slot = self.0 % SLOTS;
        turn.put(&format!("left/{slot:02}"), &(self.0, left(self.0)));
        turn.put("last", &self.0);
        turn.put(&format!("right/{slot:02}"), &(self.0, right(self.0)));
        self.0
    }
}

fn left(n: u64) -> String {
    "l".repeat(usize::try_from(n * 37 % 400).unwrap())
}

fn right(n: u64) -> String {
    match n % BIG_EVERY {
        0 => "R".repeat(BIG_BYTES),
        rest => "r".repeat(usize::try_from(rest * 11).unwrap()),
    }
}

/// True in a process that was started to be a writer or a reader; it has done its work then.
pub fn was_child() -> bool {
    let (Some(mode), Some(dir)) = (std::env::var_os(MODE), std::env::var_os(DIR)) else {
        return false;
    };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match mode.to_str().unwrap() {
        "write" => runtime.block_on(write(Store::open(dir))),
        "write without fsync" => {
            let storage = SledStorage::open_without_fsync(dir).unwrap();
            runtime.block_on(write(Store::new(Arc::new(storage))));
        }
        "read" => runtime.block_on(read(dir)),
        other => panic!("no such mode: {other}"),
    }
    true
}

fn ring(n: usize) -> ObjectId {
    ObjectId::from_name(&format!("w{n}")).unwrap()
}

/// Counts up for ever and says each number once it is acknowledged.
async fn write(store: Result<Store, Error>) {
    let host = Host::start(store.unwrap(), Settings::default()).unwrap();
    let rings = host.namespace::<Ring>((), Arc::new(NoEffects));
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        let ring = rings.stub(&ring(n));
        writers.push(tokio::spawn(async move {
            while let Ok(value) = ring.send(Next).await {
                say(&format!("acknowledged {n} {value}"));
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Says of each object how many batches it has, and what is wrong with them.
async fn read(dir: &Path) {
    let host = match Store::open(dir).and_then(|store| Host::start(store, Settings::default())) {
        Ok(host) => host,
        Err(error) => return say(&format!("not opened: {error}")),
    };
    let rings = host.namespace::<Ring>((), Arc::new(NoEffects));
    for n in 0..WRITERS {
        match rings
            .stub(&ring(n))
            .scan("", None, usize::MAX, Order::Ascending)
            .await
        {
            Ok(found) => {
                let (last, torn) = judge(&found);
                say(&format!("stored {n} {last}"));
                for record in torn {
                    say(&format!("torn w{n}: {record}, the last is {last}"));
                }
            }
            Err(error) => return say(&format!("not read: {error}")),
        }
    }
    host.stop().await;
    say("read to the end");
}

/// The last batch, and which records are not as this batch and those before it left them.
fn judge(found: &[(String, serde_json::Value)]) -> (u64, Vec<String>) {
    let find = |key: &str| found.iter().find(|(k, _)| k == key).map(|(_, value)| value);
    let last = find("last")
        .and_then(serde_json::Value::as_u64)
        .unwrap_or(0);
    let mut wanted = 1;
    let mut torn = Vec::new();
    for n in last.saturating_sub(SLOTS - 1).max(1)..=last {
        let slot = n % SLOTS;
        for (key, text) in [
            (format!("left/{slot:02}"), left(n)),
            (format!("right/{slot:02}"), right(n)),
        ] {
            wanted += 1;
            let stored = find(&key);
            if stored != Some(&serde_json::json!([n, text])) {
                let number = stored.map(|value| value[0].clone());
                torn.push(format!("{key} of {n} is of {number:?}"));
            }
        }
    }
    if last > 0 && found.len() > wanted {
        torn.push(format!("{} records, {wanted} expected", found.len()));
    }
    (last, torn)
}

fn say(line: &str) {
    // The one who listens may be gone.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}

fn start(test: &str, mode: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(MODE, mode)
        .env(DIR, dir)
        .stdout(Stdio::piped())
        // A store that loses its file system complains a lot.
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// A writing process, and what it has said so far.
pub struct Writer {
    pub child: Child,
    said: Receiver<(usize, u64)>,
    acknowledged: Counts,
    count: usize,
}

impl Writer {
    /// Starts the test program again; that test has to ask `was_child` first.
    pub fn start(test: &str, dir: &Path, fsync: Fsync) -> Self {
        let mode = match fsync {
            Fsync::Own => "write",
            Fsync::TakenOut => "write without fsync",
        };
        let mut child = start(test, mode, dir);
        let out = BufReader::new(child.stdout.take().unwrap());
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(told) = acknowledgement(&line)
                    && tell.send(told).is_err()
                {
                    return;
                }
            }
        });
        Self {
            child,
            said,
            acknowledged: [0; WRITERS],
            count: 0,
        }
    }

    /// Listens until that many batches are acknowledged, and then for that time, so that the end
    /// of it is no particular moment in the life of a flush.
    pub fn listen(&mut self, batches: usize, then: Duration) {
        let deadline = Instant::now() + DEADLINE;
        while self.count < batches {
            let left = deadline.saturating_duration_since(Instant::now());
            let told = self
                .said
                .recv_timeout(left)
                .expect("the writer does not write");
            self.note(told);
        }
        let end = Instant::now() + then;
        loop {
            match self
                .said
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(told) => self.note(told),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => panic!("the writer ended by itself"),
            }
        }
    }

    /// What has been acknowledged up to now, as far as it was heard.
    pub fn acknowledged(&self) -> (usize, Counts) {
        (self.count, self.acknowledged)
    }

    /// `kill -9`, and everything that the writer had said before it.
    pub fn kill(mut self) -> (usize, Counts) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        while let Ok(told) = self.said.recv_timeout(DEADLINE) {
            self.note(told);
        }
        self.acknowledged()
    }

    fn note(&mut self, (writer, value): (usize, u64)) {
        self.acknowledged[writer] = self.acknowledged[writer].max(value);
        self.count += 1;
    }
}

fn acknowledgement(line: &str) -> Option<(usize, u64)> {
    let (writer, value) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((writer.parse().ok()?, value.parse().ok()?))
}

/// What a new process finds in the store.
#[derive(Debug)]
pub struct Found {
    pub stored: Counts,
    pub torn: Vec<String>,
}

/// Reads the store in a process of its own, since a damaged one might take it along.
pub fn find(test: &str, dir: &Path) -> Result<Found, String> {
    let output = start(test, "read", dir).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut found, mut ended) = (
        Found {
            stored: [0; WRITERS],
            torn: Vec::new(),
        },
        false,
    );
    for line in said.lines() {
        ended |= line == "read to the end";
        if let Some(rest) = line.strip_prefix("stored ") {
            let numbers: Vec<u64> = rest.split(' ').map(|n| n.parse().unwrap()).collect();
            found.stored[usize::try_from(numbers[0]).unwrap()] = numbers[1];
        }
        if let Some(record) = line.strip_prefix("torn ") {
            found.torn.push(record.to_owned());
        }
    }
    let why = || {
        said.lines()
            .find(|line| line.starts_with("not "))
            .unwrap_or("it died")
            .to_owned()
    };
    if ended { Ok(found) } else { Err(why()) }
}

/// What many trials came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub trials: usize,
    pub acknowledged: usize,
    pub with_loss: usize,
    pub lost: u64,
    pub torn: usize,
    pub not_opened: usize,
}

impl Tally {
    /// Compares what was acknowledged with what is there.
    pub fn add(&mut self, (count, acknowledged): (usize, Counts), found: &Result<Found, String>) {
        self.trials += 1;
        self.acknowledged += count;
        let Ok(found) = found else {
            self.not_opened += 1;
            return;
        };
        let missing = |(said, stored): (&u64, &u64)| said.saturating_sub(*stored);
        let lost: u64 = acknowledged.iter().zip(&found.stored).map(missing).sum();
        self.lost += lost;
        self.with_loss += usize::from(lost > 0);
        self.torn += usize::from(!found.torn.is_empty());
    }

    pub fn print(&self, what: &str) {
        println!(
            "| {what} | {} trials | {} acknowledged | {} with loss | {} lost | {} torn | {} not opened |",
            self.trials, self.acknowledged, self.with_loss, self.lost, self.torn, self.not_opened
        );
    }

    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.torn == 0 && self.not_opened == 0
    }
}

/// How often, if the environment does not say it.
pub fn trials(default: usize) -> usize {
    let said = std::env::var("WELLHEAD_TRIALS").ok();
    said.map_or(default, |n| n.parse().expect("WELLHEAD_TRIALS is a number"))
}
