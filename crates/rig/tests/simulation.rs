//! Deterministic simulation of the rig: thousands of seeds of virtual time, each with crashes,
//! lost and doubled messages, clock jumps and people's commands, and every invariant checked after
//! every step.
//!
//! `WELLHEAD_SEED=n` replays one seed with its trace; `WELLHEAD_SEEDS=n` sets how many are run.

#![expect(
    clippy::expect_used,
    reason = "the simulated world's own constants are valid"
)]

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::{
    stats::{SOMETIMES, Stats},
    world,
};

const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One seed; a panic of the rig is a failure like any other.
fn run(seed: u64) -> Result<Stats, String> {
    let seeds = catch_unwind(AssertUnwindSafe(|| world::run(seed, false)));
    match seeds {
        Ok((world, result)) => result.map(|()| world.stats),
        Err(_) => Err("the rig panicked".to_owned()),
    }
}

fn run_all(seeds: u64) -> Result<Stats, (u64, String)> {
    let threads = 2;
    let part = |first: u64| {
        let mut sum = Stats::default();
        for seed in (first..seeds).step_by(2) {
            sum.add(&run(seed).map_err(|error| (seed, error))?);
        }
        Ok(sum)
    };
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|n| scope.spawn(move || part(n))).collect();
        let mut sum = Stats::default();
        for part in parts {
            let stats = part.join().map_err(|_| (0, "a thread died".to_owned()))?;
            sum.add(&stats?);
        }
        Ok(sum)
    })
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Some(seed) = number("WELLHEAD_SEED") {
        let (world, result) = world::run(seed, true);
        println!("{}", world.trace.unwrap_or_default().join("\n"));
        println!("seed {seed}: {} steps, {result:?}", world.stats.steps);
        assert_eq!(result, Ok(()), "seed {seed}");
        return;
    }
    let seeds = number("WELLHEAD_SEEDS").unwrap_or(SEEDS);
    let stats = match run_all(seeds) {
        Ok(stats) => stats,
        Err((seed, error)) => panic!("seed {seed}: {error}\nreplay it with WELLHEAD_SEED={seed}"),
    };
    let per_seed = stats.steps / stats.seeds.max(1);
    println!(
        "{} seeds, {} steps ({per_seed} per seed), {} refused, {} crashes in {} seeds",
        stats.seeds, stats.steps, stats.refused, stats.crashes, stats.seeds_with_crash
    );
    for what in SOMETIMES {
        println!("  {what}: {}", stats.count(what));
    }
    assert_eq!(stats.unlisted(), Vec::<&str>::new());
    assert!(per_seed >= 150, "too short: {per_seed} steps per seed");
    assert!(
        stats.seeds_with_crash * 2 >= stats.seeds,
        "too few seeds with a crash"
    );
    if seeds >= SEEDS {
        for what in SOMETIMES {
            assert!(stats.count(what) > 0, "never reached: {what}");
        }
    }
}

#[test]
fn a_seed_is_the_whole_story() {
    let trace = |seed| world::run(seed, true).0.trace;
    for seed in 0..5 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}
