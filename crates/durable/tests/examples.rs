//! Every example of this crate runs by one command, ends by itself and says what it shows.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

/// What an example prints, run as a person runs it.
fn output_of(name: &str, args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--example", name, "--"])
        .args(args);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

#[test]
fn million_sleeps_starts_again_and_fires_what_is_due() {
    let said = output_of("million", &["--objects", "1000", "--json"]);
    let figures: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(figures["objects"], 1_000);
    assert_eq!(figures["alarms_fired"], 20, "{figures}");
    assert_eq!(figures["alarms_early"], false, "{figures}");
    for name in [
        "rss_mb",
        "rss_peak_mb",
        "ready_ms",
        "first_answer_ms",
        "alarm_late_p99_ms",
    ] {
        assert!(figures[name].is_u64(), "{name} in {figures}");
    }
}

#[test]
fn rate_limiter_counts_over_the_end_of_its_host() {
    let said = output_of("rate_limiter", &[]);
    let (first, second) = said.split_once("life 2").unwrap();
    assert_eq!(first.matches("yes").count(), 3, "{said}");
    assert_eq!(second.matches("anna: yes").count(), 1, "{said}");
    assert_eq!(second.matches("anna: come again in").count(), 1, "{said}");
    assert!(second.contains("ben: yes"), "{said}");
}
