//! Every example runs by one command, ends by itself and says what it shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::process::Command;

/// What an example prints, run as a person runs it.
fn output_of(name: &str) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["run", "--quiet", "--example", name]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    said
}

#[test]
fn embed_serves_its_own_route_with_a_town_inside() {
    let said = output_of("embed");
    assert!(
        said.contains("the host answered: write-a-changelog is on the hook of"),
        "{said}"
    );
    assert!(
        said.contains("the town holds 1 bead: write-a-changelog"),
        "{said}"
    );
}

#[test]
fn counter_keeps_its_count_and_its_alarm_over_the_end_of_its_host() {
    let said = output_of("counter");
    let (_, second) = said.split_once("life 2 counts 4 visits").expect(&said);
    assert!(second.contains("the alarm rings at 4 visits"), "{said}");
}

#[test]
fn breaker_opens_checks_without_a_session_and_closes_with_new_credentials() {
    let said = output_of("breaker");
    let (before, after) = said.split_once("new credentials").expect(&said);
    let open = "credential's breaker open; checks: 2, dispatches: 0, open escalations: 1";
    assert!(before.contains(open), "{said}");
    assert!(!before.contains("dispatches: 1"), "{said}");
    assert!(
        after.contains("dispatches: 1, open escalations: 0"),
        "{said}"
    );
}

#[test]
fn crash_recovery_goes_on_with_the_same_session() {
    let said = output_of("crash_recovery");
    assert!(said.contains("signal: 9"), "{said}");
    assert!(
        said.contains("the bead is closed after 2 dispatches"),
        "{said}"
    );
    assert!(said.contains("they worked in 1 session"), "{said}");
}
