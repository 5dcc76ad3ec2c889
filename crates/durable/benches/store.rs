//! What the host costs beside its store: the same commits on the bare store and through `Stub`.
//!
//! Bare: waiters, one thread that writes one journal record per group, syncs, answers, and writes
//! the records behind. Both sides write three records of 300 bytes per transition of one of
//! 1,000 objects, on the same disk, alternating. `--json` prints one line for programs.
// A benchmark ends by panicking, and prints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use durable::storage::Op;
use durable::{
    Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId, Records,
    Settings, SledStorage, Storage, Store, Turn,
};
use tokio::sync::{mpsc, oneshot};

const OBJECTS: u64 = 1_000;
const RECORD_BYTES: usize = 300;
const RECORDS: [&str; 3] = ["item", "holder", "count"];
const WAITERS: [usize; 3] = [1, 64, 256];
const SLICE_KEYS: usize = 64;
const CHUNK_BYTES: usize = 7 * 1024;
const JOURNAL_BYTES: usize = 16 * 1024 * 1024;

struct Thing {
    payload: String,
}

struct Transition;

impl Message for Transition {
    type Reply = ();
}

impl Object for Thing {
    const NAMESPACE: &'static str = "thing";
    type Env = ();
    type Effect = ();

    fn load(_: &ObjectId, _: &Records<'_>, (): &()) -> Result<Self, Error> {
        let payload = "x".repeat(RECORD_BYTES - 2);
        Ok(Self { payload })
    }

    fn alarm(&mut self, _: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

impl Handle<Transition> for Thing {
    fn handle(&mut self, turn: &mut Turn<'_, ()>, _: Transition) {
        for key in RECORDS {
            turn.put(key, &self.payload);
        }
    }
}

/// Counts what waiters get done for a while; each of them has one transition under way.
async fn measure<F, W>(waiters: usize, span: Duration, work: W) -> f64
where
    W: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (done, next) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..waiters)
        .map(|_| {
            let (done, next) = (Arc::clone(&done), Arc::clone(&next));
            let (stop, work) = (Arc::clone(&stop), work.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    work(next.fetch_add(1, Ordering::Relaxed) % OBJECTS).await;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let begun = Instant::now();
    tokio::time::sleep(span).await;
    let count = done.load(Ordering::Relaxed);
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(u32::try_from(count).unwrap()) / seconds
}

async fn hosted(dir: &Path, waiters: usize, span: Duration) -> f64 {
    let host = Host::start(Store::open(dir).unwrap(), Settings::default()).unwrap();
    let things = host.namespace::<Thing>((), Arc::new(NoEffects));
    let stubs: Arc<Vec<_>> = Arc::new(
        (0..OBJECTS)
            .map(|n| things.stub(&ObjectId::from_name(&name(n)).unwrap()))
            .collect(),
    );
    for stub in stubs.iter() {
        stub.send(Transition).await.unwrap();
    }
    let work = move |n: u64| {
        let sent = stubs[usize::try_from(n).unwrap()].send(Transition);
        async move { sent.await.unwrap() }
    };
    let rate = measure(waiters, span, work).await;
    host.stop().await;
    rate
}

type Commit = (Vec<Op>, oneshot::Sender<()>);

async fn bare(dir: &Path, waiters: usize, span: Duration) -> f64 {
    let storage = SledStorage::open(dir).unwrap();
    let (queue, commits) = mpsc::channel(16_384);
    let thread = std::thread::spawn(move || Bare::new(storage).run(commits));
    let work = move |n: u64| {
        let queue = queue.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let put = |key: &str| Op::Put {
                key: [b"r/", name(n).as_bytes(), b"\0", key.as_bytes()].concat(),
                value: vec![b'x'; RECORD_BYTES],
            };
            let ops = RECORDS.into_iter().map(put).collect();
            queue.send((ops, answer)).await.unwrap();
            answered.await.unwrap();
        }
    };
    let rate = measure(waiters, span, work).await;
    thread.join().unwrap();
    rate
}

/// The fastest layout that was measured on the bare store, with nothing around it.
struct Bare {
    storage: SledStorage,
    seq: u64,
    bytes: usize,
    records: Vec<Vec<u8>>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    behind: Vec<Op>,
    gone: Vec<Vec<u8>>,
}

impl Bare {
    fn new(storage: SledStorage) -> Self {
        Self {
            storage,
            seq: 0,
            bytes: 0,
            records: Vec::new(),
            state: BTreeMap::new(),
            behind: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn run(mut self, mut commits: mpsc::Receiver<Commit>) {
        while let Some(first) = commits.blocking_recv() {
            let mut group = vec![first];
            while let Some(next) = commits.try_recv().ok().filter(|_| group.len() < 4_096) {
                group.push(next);
            }
            self.commit(&group);
            for (ops, answer) in group {
                for op in ops {
                    if let Op::Put { key, value } = op {
                        self.state.insert(key, value);
                    }
                }
                let _ = answer.send(());
            }
            self.write_behind();
        }
    }

    fn commit(&mut self, group: &[Commit]) {
        let mut record = Vec::new();
        for op in group.iter().flat_map(|(ops, _)| ops) {
            if let Op::Put { key, value } = op {
                for bytes in [key, value] {
                    record.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
                    record.extend_from_slice(bytes);
                }
            }
        }
        self.bytes += record.len();
        let mut ops = Vec::new();
        for chunk in record.chunks(CHUNK_BYTES) {
            let key = [&b"j/"[..], &self.seq.to_be_bytes()].concat();
            let value = chunk.to_vec();
            self.records.push(key.clone());
            ops.push(Op::Put { key, value });
            self.seq += 1;
        }
        self.storage.apply(ops).unwrap();
        self.storage.sync().unwrap();
    }

    fn write_behind(&mut self) {
        if self.bytes > JOURNAL_BYTES && self.behind.is_empty() && self.gone.is_empty() {
            let put = |(key, value)| Op::Put { key, value };
            let state = std::mem::take(&mut self.state);
            self.behind = state.into_iter().map(put).rev().collect();
            self.gone = std::mem::take(&mut self.records);
            self.bytes = 0;
        }
        let mut ops: Vec<Op> = Vec::new();
        if self.behind.is_empty() {
            let from = self.gone.len().saturating_sub(SLICE_KEYS);
            ops.extend(
                self.gone
                    .split_off(from)
                    .into_iter()
                    .map(|key| Op::Delete { key }),
            );
        } else {
            let from = self.behind.len().saturating_sub(SLICE_KEYS);
            ops.extend(self.behind.split_off(from).into_iter().rev());
        }
        if !ops.is_empty() {
            self.storage.apply(ops).unwrap();
        }
    }
}

fn name(n: u64) -> String {
    format!("thing\0{n:08}")
        .split_once('\0')
        .map(|(_, id)| id.to_owned())
        .unwrap()
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

fn spread(mut rates: Vec<f64>) -> Spread {
    rates.sort_by(f64::total_cmp);
    Spread {
        min: rates[0],
        median: rates[rates.len() / 2],
        max: rates[rates.len() - 1],
    }
}

fn argument(name: &str, default: u64) -> u64 {
    let mut words = std::env::args().skip_while(|word| word != name);
    words
        .nth(1)
        .map_or(default, |word| word.parse().expect("a number"))
}

fn main() {
    let json = std::env::args().any(|word| word == "--json");
    let rounds = argument("--rounds", 5);
    let span = Duration::from_millis(argument("--ms", 2_000));
    let only = argument("--waiters", 0);
    let dir = std::env::var_os("WELLHEAD_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut lines = Vec::new();
    for waiters in WAITERS {
        if only != 0 && only != waiters as u64 {
            continue;
        }
        let (mut bares, mut hosteds) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            for (rates, with_host) in [(&mut bares, false), (&mut hosteds, true)] {
                let root = tempfile::tempdir_in(&dir).unwrap();
                let store = root.path().join("store");
                rates.push(runtime.block_on(async {
                    if with_host {
                        hosted(&store, waiters, span).await
                    } else {
                        bare(&store, waiters, span).await
                    }
                }));
            }
        }
        let (bare, hosted) = (spread(bares), spread(hosteds));
        let ratio = hosted.median / bare.median;
        if !json {
            println!(
                "{waiters:>4} waiters  bare {:>7.0} / {:>7.0} / {:>7.0}  host {:>7.0} / {:>7.0} / {:>7.0}  ratio {ratio:.2}",
                bare.min, bare.median, bare.max, hosted.min, hosted.median, hosted.max
            );
        }
        lines.push(format!(
            "{{\"waiters\":{waiters},\"bare\":[{:.0},{:.0},{:.0}],\"host\":[{:.0},{:.0},{:.0}],\"ratio\":{ratio:.3}}}",
            bare.min, bare.median, bare.max, hosted.min, hosted.median, hosted.max
        ));
    }
    if json {
        println!(
            "{{\"transitions_per_s_min_median_max\":[{}]}}",
            lines.join(",")
        );
    }
}
