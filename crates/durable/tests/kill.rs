//! `kill -9` of a writing process: every batch that it acknowledged is there afterwards, whole.
//!
//! The long form: `WELLHEAD_TRIALS=300 cargo test -p wellhead-durable --test kill -- --nocapture`.
// A test fails by panicking; the test speaks to whoever runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod trial;

use std::time::Duration;

use durable::Store;
use trial::{Fsync, Tally, Writer, find};

const TRIALS: usize = 20;

#[test]
fn every_acknowledged_batch_survives_kill_9() {
    if trial::was_child() {
        return;
    }
    let name = "every_acknowledged_batch_survives_kill_9";
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let mut tally = Tally::default();
    for trial in 0..trial::trials(TRIALS) {
        let mut writer = Writer::start(name, &dir, Fsync::Own);
        let then = Duration::from_micros(rand::random_range(0..10_000));
        writer.listen(rand::random_range(1..400), then);
        let (count, said) = writer.kill();
        let found = find(name, &dir);
        tally.add((count, said), &found);
        let found = found.unwrap();
        for (said, stored) in said.into_iter().zip(found.stored) {
            // Objects that have said nothing in this life may have anything from earlier ones.
            let asked = if said == 0 { u64::MAX } else { said + 1 };
            assert!(
                stored >= said,
                "trial {trial}: {said} said, {stored} stored"
            );
            assert!(stored <= asked, "trial {trial}: more stored than was asked");
        }
        assert!(found.torn.is_empty(), "trial {trial}: {:?}", found.torn);
    }
    tally.print("kill -9");
}

#[test]
fn a_directory_in_use_by_another_process_is_refused_and_free_after_its_death() {
    if trial::was_child() {
        return;
    }
    let name = "a_directory_in_use_by_another_process_is_refused_and_free_after_its_death";
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let mut writer = Writer::start(name, &dir, Fsync::Own);
    writer.listen(1, Duration::ZERO);
    let refused = Store::open(&dir).map(drop);
    let (path, pid) = (dir.clone(), Some(writer.child.id()));
    assert_eq!(refused, Err(durable::Error::Busy { path, pid }));
    writer.kill();
    assert!(Store::open(&dir).unwrap().epoch() >= 2);
}
