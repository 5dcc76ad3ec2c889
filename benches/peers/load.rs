//! The load: so many connections that each ask, wait for the answer, and ask again.
//!
//! One thread, raw sockets, all requests made beforehand, so that it takes as little as it can of
//! the machine that it shares with the server; it says what it took.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::histogram::Histogram;
use crate::http::{Connection, post};
use crate::process::own_cpu_ms;

#[derive(clap::Args)]
pub(crate) struct LoadArgs {
    /// Host and port
    #[arg(long)]
    host: String,
    /// A file with one path per line; requests go through it by turns
    #[arg(long)]
    paths: PathBuf,
    /// The file with the body of each request
    #[arg(long)]
    body: PathBuf,
    /// A bearer token
    #[arg(long)]
    bearer: Option<String>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Asked but not counted
    #[arg(long, default_value_t = 1_000)]
    warmup_ms: u64,
    #[arg(long, default_value_t = 5_000)]
    measure_ms: u64,
}

/// What a load says at its end, as one line of JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Answered while it was measured.
    pub(crate) answered: u64,
    /// Answered at all, warm-up included.
    pub(crate) answered_in_all: u64,
    /// Answers that were no success, and connections that broke.
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) max_us: u64,
    /// Of one core, while it ran.
    pub(crate) own_cpu_percent: f64,
}

struct Plan {
    host: String,
    requests: Vec<Vec<u8>>,
    turn: AtomicU64,
    from: Instant,
    until: Instant,
}

/// What one connection saw.
struct Seen {
    times: Histogram,
    in_all: u64,
    failed: u64,
}

pub(crate) fn main(args: &LoadArgs) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(load(args))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn load(args: &LoadArgs) -> Outcome<Report> {
    let body = std::fs::read_to_string(&args.body)?;
    let paths = std::fs::read_to_string(&args.paths)?;
    let request = |path| post(&args.host, path, args.bearer.as_deref(), body.trim());
    let (begin, cpu) = (Instant::now(), own_cpu_ms());
    let from = begin + Duration::from_millis(args.warmup_ms);
    let plan = Arc::new(Plan {
        host: args.host.clone(),
        requests: paths.lines().map(request).collect(),
        turn: AtomicU64::new(0),
        from,
        until: from + Duration::from_millis(args.measure_ms),
    });
    let connections: Vec<_> = (0..args.connections)
        .map(|_| tokio::spawn(connection(Arc::clone(&plan))))
        .collect();
    let mut sum = Seen {
        times: Histogram::new(),
        in_all: 0,
        failed: 0,
    };
    for connection in connections {
        let seen = connection.await?;
        sum.times.merge(&seen.times);
        sum.in_all += seen.in_all;
        sum.failed += seen.failed;
    }
    let took = begin.elapsed();
    let seconds = Duration::from_millis(args.measure_ms).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "no such counts")]
    let report = Report {
        answered: sum.times.count(),
        answered_in_all: sum.in_all,
        failed: sum.failed,
        seconds,
        per_second: sum.times.count() as f64 / seconds,
        p50_us: sum.times.per_mille(500),
        p99_us: sum.times.per_mille(990),
        max_us: sum.times.max(),
        own_cpu_percent: (own_cpu_ms() - cpu) as f64 / (took.as_secs_f64() * 10.0),
    };
    Ok(report)
}

/// Asks until the end. A broken connection is counted and opened again, at most ten times.
async fn connection(plan: Arc<Plan>) -> Seen {
    let mut seen = Seen {
        times: Histogram::new(),
        in_all: 0,
        failed: 0,
    };
    for _ in 0..10 {
        if let Err(error) = asking(&plan, &mut seen).await {
            seen.failed += 1;
            eprintln!("load: {error}");
        } else {
            break;
        }
    }
    seen
}

async fn asking(plan: &Plan, seen: &mut Seen) -> Outcome<()> {
    let mut connection = Connection::open(&plan.host).await?;
    let count = u64::try_from(plan.requests.len())?;
    let mut asked = Instant::now();
    while asked < plan.until {
        let turn = plan.turn.fetch_add(1, Ordering::Relaxed) % count.max(1);
        let request = plan
            .requests
            .get(usize::try_from(turn)?)
            .ok_or("no paths")?;
        let status = connection.ask(request).await?;
        let answered = Instant::now();
        if (200..300).contains(&status) {
            seen.in_all += 1;
            if asked >= plan.from && answered <= plan.until {
                let us = answered.duration_since(asked).as_micros();
                seen.times.add(u64::try_from(us)?);
            }
        } else {
            seen.failed += 1;
        }
        asked = answered;
    }
    Ok(())
}
