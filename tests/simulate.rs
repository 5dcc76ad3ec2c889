//! A few hundred seeds of the whole simulation, and that a seed is the whole story.
//!
//! `cargo run --release --example simulate -- --seeds 5000` runs more of them, faster.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Output};

fn simulate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--example", "simulate", "--"])
        .args(args);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{said}");
    said
}

#[test]
fn what_must_always_hold_holds_under_every_seed() {
    let output = simulate(&["--seeds", "100", "--json"]);
    let said = said(&output);
    let last = said.lines().last().unwrap();
    let sums: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(sums["seeds"], 100, "{said}");
    assert_eq!(sums["violations"], 0, "{said}");
    assert!(sums["steps"].as_u64().unwrap() > 100 * 150, "{said}");
    assert!(sums["crashes"].as_u64().unwrap() > 100, "{said}");
    assert!(!said.contains("in no list"), "{said}");
}

#[test]
fn seeds_go_on_from_the_one_that_is_named_and_none_is_an_error() {
    let three = said(&simulate(&["--seeds", "3", "--seed", "17", "--untimed"]));
    assert!(three.starts_with("3 seeds, "), "{three}");
    let last = u64::MAX.to_string();
    let behind = said(&simulate(&["--seeds", "2", "--seed", &last, "--untimed"]));
    assert!(behind.starts_with("2 seeds, "), "{behind}");
    let none = simulate(&["--seeds", "0"]);
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn a_seed_is_the_whole_story() {
    for seed in ["3", "4", "5"] {
        let story = || said(&simulate(&["--seed", seed, "--trace", "--untimed"]));
        let (one, two) = (story(), story());
        assert!(one.lines().count() > 100, "seed {seed} tells nothing");
        let differs = one.lines().zip(two.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.len(), two.len(), "seed {seed}");
    }
}

/// Rare disasters, with what each of them measured.
#[test]
fn storms_pass_by_themselves() {
    for name in ["exits", "outage", "offline"] {
        let said = said(&simulate(&["--scenario", name]));
        assert!(said.contains("held"), "{said}");
    }
}
