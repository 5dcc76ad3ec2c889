//! `kill -9` of a writing process: every value that it acknowledged is there afterwards.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use durable::{Host, NoEffects, Settings, Store};
use support::{Add, Cell, Lab, id, soon};

const TRIALS: usize = 20;
const WRITERS: usize = 8;
const WRITER_DIR: &str = "DURABLE_TEST_WRITER_DIR";

fn start(dir: &Path) -> (Host, durable::Namespace<Cell>) {
    let host = Host::start(Store::open(dir).unwrap(), Settings::default()).unwrap();
    let cells = host.namespace::<Cell>(Arc::new(Lab::default()), Arc::new(NoEffects));
    (host, cells)
}

/// Counts up for ever and says each value once it is acknowledged.
async fn write_until_killed(dir: &Path) {
    let (_host, cells) = start(dir);
    let count = |n: usize| {
        let cell = cells.stub(&id(&format!("w{n}")));
        tokio::spawn(async move {
            while let Ok(value) = cell.send(Add(1)).await {
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {n} {value}").unwrap();
                out.flush().unwrap();
            }
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(count).collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn spawn_writer(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "every_acknowledged_value_survives_kill_9",
            "--nocapture",
        ])
        .env(WRITER_DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Kills the writer after some acknowledgements and gives the last one of each counter; what
/// had been written into the pipe before the kill was acknowledged too.
fn kill_after(mut child: Child, lines: usize) -> [u64; WRITERS] {
    let mut last = [0; WRITERS];
    let out = BufReader::new(child.stdout.take().unwrap());
    let (mut seen, mut killed) = (0, false);
    for line in out.lines() {
        let line = line.unwrap();
        let Some(rest) = line.strip_prefix("acknowledged ") else {
            continue;
        };
        // The very last line may have been cut by the kill.
        if let Some((n, value)) = rest.split_once(' ')
            && let (Ok(n), Ok(value)) = (n.parse::<usize>(), value.parse::<u64>())
        {
            last[n] = last[n].max(value);
        }
        seen += 1;
        if seen >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    assert!(killed, "the writer ended by itself");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_value_survives_kill_9() {
    if let Some(dir) = std::env::var_os(WRITER_DIR) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    for trial in 0..TRIALS {
        let child = spawn_writer(&dir);
        let lines = 20 + trial * 13;
        let last = tokio::task::spawn_blocking(move || kill_after(child, lines))
            .await
            .unwrap();
        let (host, cells) = start(&dir);
        for (n, acknowledged) in last.into_iter().enumerate() {
            let cell = cells.stub(&id(&format!("w{n}")));
            let stored = soon(cell.send(Add(0))).await.unwrap();
            assert!(
                stored >= acknowledged,
                "trial {trial}: {acknowledged} said, {stored} stored"
            );
            assert!(
                stored <= acknowledged + 1,
                "trial {trial}: more stored than ever asked"
            );
        }
        soon(host.stop()).await;
    }
}

#[test]
fn a_directory_in_use_by_another_process_is_refused_and_free_after_its_death() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let mut child = spawn_writer(&dir);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("acknowledged") {
        line.clear();
        assert_ne!(
            out.read_line(&mut line).unwrap(),
            0,
            "the writer ended by itself"
        );
    }
    let refused = Store::open(&dir).map(drop);
    let (path, pid) = (dir.clone(), Some(child.id()));
    assert_eq!(refused, Err(durable::Error::Busy { path, pid }));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(Store::open(&dir).unwrap().epoch() >= 2);
}
