//! The whole of it by seeds: real rigs and towns on the real durable host, over a disk that fails,
//! a network that loses, containers whose sessions do anything, and people who do the same.
//!
//! ```text
//! cargo run --release --example simulate -- --seeds 5000 --json
//! cargo run --release --example simulate -- --seeds 5000 --seed 40000
//! cargo run --release --example simulate -- --seed 17 --trace
//! ```
//! One thread and virtual time for each seed, so that a seed is the whole story. Everything that
//! must always hold is checked around every step; in the end everything is mended, and then all
//! work has to come to its end by itself.

mod book;
mod container;
mod ends;
mod kinds;
mod lab;
mod net;
mod people;
mod plan;
mod procs;
mod rig_sights;
mod rng;
mod scenarios;
mod session;
mod shadow;
mod stats;
mod town_sights;
mod trees;
mod weather;
mod witness;
mod world;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;
use mimalloc::MiMalloc;

use crate::stats::Stats;

/// Half of a run is records on their way into JSON and back.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Simulates rigs and towns by seeds, and checks what must always hold.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds [default: 200, or 1 with --seed].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them [default: 0]; alone, the only one.
    #[arg(long)]
    seed: Option<u64>,
    /// Tells the story of each seed.
    #[arg(long)]
    trace: bool,
    /// The last line is one object for machines.
    #[arg(long)]
    json: bool,
    /// A disaster of its own instead: `exits`, `outage` or `offline`.
    #[arg(long)]
    scenario: Option<String>,
    /// Does not tell how long it took.
    #[arg(long)]
    untimed: bool,
    /// Threads, each with seeds of its own.
    #[arg(long, default_value_t = 2)]
    threads: u64,
}

impl Args {
    /// The first seed, and how many there are.
    fn seeds(&self) -> (u64, u64) {
        match (self.seed, self.seeds) {
            (Some(only), None) => (only, 1),
            (first, seeds) => (first.unwrap_or(0), seeds.unwrap_or(200)),
        }
    }
}

/// A seed that broke a rule.
struct Broken {
    seed: u64,
    words: Vec<String>,
}

#[expect(clippy::print_stderr, reason = "this is what the program is for")]
fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(name) = &args.scenario {
        return scenario(name);
    }
    let begun = Instant::now();
    let (stats, mut broken) = run_all(&args);
    broken.sort_by_key(|broken| broken.seed);
    for Broken { seed, words } in &broken {
        eprintln!("seed {seed}:\n  {}", words.join("\n  "));
        eprintln!("  again: cargo run --release --example simulate -- --seed {seed} --trace");
    }
    say(&stats, broken.len(), begun, &args);
    if broken.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(stats: &Stats, violations: usize, begun: Instant, args: &Args) {
    let seconds = if args.untimed {
        0.0
    } else {
        begun.elapsed().as_secs_f64()
    };
    println!(
        "{} seeds, {} steps, {} crashes ({} seeds with one), {violations} violations, {seconds:.1} s",
        stats.seeds, stats.steps, stats.crashes, stats.crashed_seeds
    );
    for what in stats.missing() {
        println!("never: {what}");
    }
    for what in stats.unlisted() {
        println!("in no list: {what}");
    }
    if args.json {
        println!("{}", stats.json(violations));
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the program is for"
)]
fn scenario(name: &str) -> ExitCode {
    match scenarios::run(name) {
        Ok(measured) => {
            println!("{name} held: {measured}");
            ExitCode::SUCCESS
        }
        Err(words) => {
            eprintln!("{name}: {words}");
            ExitCode::FAILURE
        }
    }
}

/// All seeds, spread over threads; the sums do not depend on their order.
fn run_all(args: &Args) -> (Stats, Vec<Broken>) {
    let (first, seeds) = args.seeds();
    let taken = AtomicU64::new(0);
    let work = || {
        let (mut stats, mut broken) = (Stats::default(), Vec::new());
        loop {
            let nth = taken.fetch_add(1, Ordering::Relaxed);
            if nth >= seeds {
                return (stats, broken);
            }
            // Every number is a seed; behind the last of them comes 0.
            let seed = first.wrapping_add(nth);
            let outcome = world::run(seed, args.trace);
            print_trace(&outcome.trace);
            stats.add(&outcome.stats);
            if !outcome.broken.is_empty() {
                let words = outcome.broken;
                broken.push(Broken { seed, words });
            }
        }
    };
    let threads = args.threads.clamp(1, seeds);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut all = (Stats::default(), Vec::new());
        for thread in running {
            match thread.join() {
                Ok((stats, broken)) => {
                    all.0.add(&stats);
                    all.1.extend(broken);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    })
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn print_trace(trace: &[String]) {
    for line in trace {
        println!("{line}");
    }
}
