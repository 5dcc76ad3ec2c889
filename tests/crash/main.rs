//! `kill -9` at any moment: nothing that was acknowledged is lost, nothing is doubled, nothing is
//! left behind, and nobody else is touched.
//!
//! `WELLHEAD_TRIALS` and `WELLHEAD_REAL_TRIALS` say how many kills, `WELLHEAD_SEED` which random
//! moments. Needs git, Node and, for the real kilo, npm once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test fails by panicking, and prints what it has seen"
)]

mod alarms;
mod bystanders;
mod client;
mod report;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod town;
mod work;

use std::path::{Path, PathBuf};

use report::Report;
use tokio::sync::Mutex;
use town::{Plan, Town};

const SEED: u64 = 20_260_207;
const IN_FLIGHT_MIN: usize = 16;

/// One run at a time: each loads the machine by itself.
static ALONE: Mutex<()> = Mutex::const_new(());

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn fake() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/fake-kilo.mjs")
}

async fn run(name: &'static str, trials: u64, kilo: PathBuf, is_real: bool) -> Report {
    let _alone = ALONE.lock().await;
    let plan = Plan {
        name,
        kilo,
        fake: fake(),
        is_real,
        trials: usize::try_from(trials).unwrap(),
        seed: number("WELLHEAD_SEED", SEED),
    };
    eprintln!("{name}: {trials} kills, seed {}", plan.seed);
    let report = Box::pin(Town::new(plan).await.run()).await;
    eprintln!("{report}");
    assert!(!report.has_findings(), "{report}");
    assert!(report.in_flight_min() >= IN_FLIGHT_MIN, "{report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kills() {
    let trials = number("WELLHEAD_TRIALS", 12);
    let report = run("stand-in", trials, fake(), false).await;
    assert!(report.live_trials() * 2 >= report.trials.len(), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the long form, minutes under full load; with every run the demo kills a real kilo's server"]
async fn real_sessions_go_on_after_kills() {
    let trials = number("WELLHEAD_REAL_TRIALS", 2);
    let install = support::kilo_install().await;
    let place = install.join("node_modules/@kilocode");
    let program = std::fs::read_dir(place).unwrap().flatten();
    let mut program = program.map(|entry| entry.path().join("bin/kilo"));
    let is_native = |path: &PathBuf| path.to_string_lossy().contains("cli-linux");
    let program = program.find(is_native).expect("the native program");
    let report = run("real kilo", trials, program, true).await;
    assert!(report.live_trials() >= report.trials.len(), "{report}");
}
