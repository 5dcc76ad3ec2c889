//! The runner: everybody in turn, several rounds, each on an empty directory; then the table.
//!
//! Turns are taken within a round, so that a slow minute of the machine hits all alike.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use crate::Outcome;
use crate::load::Report;
use crate::peer::{Peer, Running, tools};
use crate::process::{Used, used};
use crate::table;

#[derive(Clone, clap::Args)]
pub(crate) struct RunArgs {
    /// How often each is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Numbers of rigs
    #[arg(long, value_delimiter = ',', default_value = "1,1000")]
    rigs: Vec<usize>,
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Who takes part
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "durable,workerd,restate,sling"
    )]
    peers: Vec<Peer>,
    /// Print one JSON object instead of the table
    #[arg(long)]
    json: bool,
}

impl Default for RunArgs {
    fn default() -> Self {
        Self {
            rounds: 3,
            connections: 64,
            rigs: vec![1, 1_000],
            seconds: 5,
            peers: vec![Peer::Durable, Peer::Workerd, Peer::Restate, Peer::Sling],
            json: false,
        }
    }
}

/// One turn of one peer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Turn {
    pub(crate) peer: &'static str,
    pub(crate) rigs: usize,
    pub(crate) load: Report,
    /// Of the server, per answered request.
    pub(crate) cpu_us: f64,
    pub(crate) written_bytes: f64,
    pub(crate) resident_mb: f64,
    /// fsync and fdatasync; none where `perf` cannot count them.
    pub(crate) syncs_per_second: Option<f64>,
    pub(crate) answered_per_sync: Option<f64>,
}

pub(crate) fn main(args: &RunArgs) -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let turns = runtime.block_on(rounds(args))?;
    if args.json {
        println!("{}", serde_json::to_string(&turns)?);
    } else {
        table::print(&turns, args.connections);
    }
    Ok(())
}

async fn rounds(args: &RunArgs) -> Outcome<Vec<Turn>> {
    let own = |peer: &Peer| matches!(peer, Peer::Durable | Peer::Sling);
    let tools = if args.peers.iter().all(own) {
        "/".into()
    } else {
        tools()?
    };
    let files = tempfile::tempdir()?;
    let body = serde_json::json!({
        "title": "Make the parser refuse what it cannot read",
        "body": "It takes an empty field for a zero. ".repeat(6),
    });
    let body = body.to_string();
    std::fs::write(files.path().join("body"), &body)?;
    let mut turns = Vec::new();
    for round in 1..=args.rounds {
        for rigs in args.rigs.iter().copied() {
            for peer in args.peers.iter().copied() {
                let running = peer.start(rigs, &body, &tools).await?;
                let turn = turn(args, peer, &running, rigs, files.path())?;
                eprintln!(
                    "round {round}: {} with {rigs} rigs: {:.0}/s, p99 {:.1} ms, {} failed",
                    turn.peer,
                    turn.load.per_second,
                    table::ms(turn.load.p99_us),
                    turn.load.failed
                );
                turns.push(turn);
            }
        }
    }
    Ok(turns)
}

fn turn(args: &RunArgs, peer: Peer, running: &Running, rigs: usize, files: &Path) -> Outcome<Turn> {
    std::fs::write(files.join("paths"), running.paths.join("\n"))?;
    let mut load = Command::new(std::env::current_exe()?);
    load.args(["load", "--host", &running.host, "--paths"])
        .arg(files.join("paths"));
    load.arg("--body").arg(files.join("body"));
    load.args(["--connections", &args.connections.to_string()]);
    load.args(["--measure-ms", &(args.seconds * 1_000).to_string()]);
    if let Some(token) = &running.bearer {
        load.args(["--bearer", token]);
    }
    let before = sum(running);
    let syncs = Syncs::count(running, Duration::from_secs(args.seconds + 1));
    let output = load.stderr(Stdio::inherit()).output()?;
    let report: Report = serde_json::from_slice(&output.stdout)?;
    let after = sum(running);
    let syncs_per_second = syncs.and_then(Syncs::per_second);
    #[expect(clippy::cast_precision_loss, reason = "no such counts")]
    let (answered, used) = (report.answered_in_all.max(1) as f64, |a: u64, b: u64| {
        (a - b) as f64
    });
    Ok(Turn {
        peer: peer.name(),
        rigs,
        cpu_us: used(after.cpu_ms, before.cpu_ms) * 1_000.0 / answered,
        written_bytes: used(after.written_bytes, before.written_bytes) / answered,
        resident_mb: used(after.resident_kb, 0) / 1_024.0,
        answered_per_sync: syncs_per_second.map(|syncs| report.per_second / syncs.max(0.001)),
        syncs_per_second,
        load: report,
    })
}

fn sum(running: &Running) -> Used {
    running
        .pids()
        .into_iter()
        .map(used)
        .fold(Used::default(), |a, b| Used {
            cpu_ms: a.cpu_ms + b.cpu_ms,
            written_bytes: a.written_bytes + b.written_bytes,
            resident_kb: a.resident_kb + b.resident_kb,
        })
}

/// Counts syncs by the kernel's tracepoints, which cost next to nothing.
struct Syncs {
    perf: Child,
    seconds: Duration,
}

impl Syncs {
    fn count(running: &Running, seconds: Duration) -> Option<Self> {
        let pids: Vec<String> = running.pids().iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args([
            "stat",
            "-x,",
            "-e",
            "syscalls:sys_enter_fsync,syscalls:sys_enter_fdatasync",
        ]);
        perf.args([
            "-p",
            &pids.join(","),
            "sleep",
            &seconds.as_secs_f64().to_string(),
        ]);
        perf.stdout(Stdio::null()).stderr(Stdio::piped());
        let perf = perf.spawn().ok()?;
        Some(Self { perf, seconds })
    }

    fn per_second(self) -> Option<f64> {
        let output = self.perf.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let counts: Vec<f64> = text
            .lines()
            .filter(|line| line.contains("sys_enter"))
            .filter_map(|line| line.split(',').next()?.parse().ok())
            .collect();
        let counted = counts.len() == 2;
        counted.then(|| counts.iter().sum::<f64>() / self.seconds.as_secs_f64())
    }
}
