//! Ends processes and proves that they are gone: TERM, a grace, KILL, one by one.
//!
//! It must not know sessions or HTTP. A process without our marker and not of our ancestry is
//! reported, never signalled.

use crate::process::{self, Identity};
use rustix::process::Signal;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How often a process that was signalled is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A killed process is gone in milliseconds; longer means it hangs in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// New children may be forked while the old ones are ended; a fork bomb ends here.
const ROUNDS_MAX: usize = 5;

/// What became of a set of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Proven gone.
    pub ended: usize,
    /// Still there after KILL.
    pub survivors: Vec<u32>,
    /// In the directory, but not ours: never signalled.
    pub foreign: Vec<u32>,
}

/// Ends every process with this marker; for leftovers of an earlier run.
pub async fn end_marked(marker: &[(String, String)], grace: Duration) -> Swept {
    let marker = marker.to_vec();
    sweep(move || process::marked(&marker), grace).await
}

/// Ends these very processes and everything that descends from them; for leftovers that were
/// recorded, of this boot. A number that belongs to somebody else by now is not touched.
pub async fn end_recorded(recorded: Vec<Identity>, grace: Duration) -> Swept {
    let family = move || {
        let living = recorded.iter().copied().filter(|p| process::is_alive(*p));
        let with_children = living.flat_map(|leader| {
            let mut family = process::descendants(leader.pid);
            family.push(leader);
            family
        });
        with_children.collect::<Vec<Identity>>()
    };
    sweep(family, grace).await
}

/// Ends our descendants that work in this directory, the server itself excepted. `server_pid` may
/// be gone: then only the marker says what is ours.
pub async fn end_descendants_in(
    server_pid: Option<u32>,
    marker: &[(String, String)],
    dir: &Path,
    grace: Duration,
) -> Swept {
    let (marker, dir) = (marker.to_vec(), dir.to_owned());
    let foreign = {
        let (marker, dir) = (marker.clone(), dir.clone());
        blocking(move || split_in(server_pid, &marker, &dir).1).await
    };
    let mut swept = sweep(move || split_in(server_pid, &marker, &dir).0, grace).await;
    swept.foreign = foreign.into_iter().map(|process| process.pid).collect();
    swept
}

/// What works in the directory: ours, and others'.
fn split_in(
    server_pid: Option<u32>,
    marker: &[(String, String)],
    dir: &Path,
) -> (Vec<Identity>, Vec<Identity>) {
    let mut ours: Vec<Identity> = process::marked(marker);
    ours.extend(server_pid.map(process::descendants).unwrap_or_default());
    process::working_in(dir)
        .into_iter()
        .filter(|process| Some(process.pid) != server_pid)
        .partition(|process| ours.contains(process))
}

/// Ends what `find` finds, again until it finds nothing more. The first set may contain processes
/// that were found earlier and are no longer reachable by ancestry.
pub(crate) async fn sweep(
    find: impl Fn() -> Vec<Identity> + Clone + Send + 'static,
    grace: Duration,
) -> Swept {
    let mut ended = BTreeSet::new();
    let mut survivors = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let found = blocking(find.clone()).await;
        if found.is_empty() {
            survivors.clear();
            break;
        }
        survivors = end_all(&found, grace).await;
        let gone = found
            .iter()
            .filter(|process| !survivors.contains(&process.pid));
        ended.extend(gone.map(|process| process.pid));
    }
    Swept {
        ended: ended.len(),
        survivors,
        foreign: Vec::new(),
    }
}

/// TERM to each, the grace for all, KILL to each that is left. The pids that survive it.
pub(crate) async fn end_all(processes: &[Identity], grace: Duration) -> Vec<u32> {
    signal_all(processes, Signal::TERM).await;
    let left = gone_within(processes, grace).await;
    signal_all(&left, Signal::KILL).await;
    gone_within(&left, KILL_DEADLINE)
        .await
        .into_iter()
        .map(|process| process.pid)
        .collect()
}

async fn signal_all(processes: &[Identity], signal: Signal) {
    let processes = processes.to_vec();
    blocking(move || {
        for process in processes {
            process::signal(process, signal);
        }
    })
    .await;
}

/// Those still alive when the time is over.
pub(crate) async fn gone_within(processes: &[Identity], time: Duration) -> Vec<Identity> {
    let deadline = Instant::now() + time;
    let mut left = processes.to_vec();
    loop {
        left = blocking(move || {
            left.into_iter()
                .filter(|process| process::is_alive(*process))
                .collect::<Vec<_>>()
        })
        .await;
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Reading `/proc` blocks, so it happens off the async threads.
pub(crate) async fn blocking<T: Send + Default + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    // Fails only while the runtime shuts down, when nobody needs the answer.
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// Everything of one server but its leader: by ancestry and by marker.
pub(crate) fn family(leader: u32, marker: &[(String, String)]) -> Vec<Identity> {
    let mut family = process::descendants(leader);
    for process in process::marked(marker) {
        if process.pid != leader && !family.contains(&process) {
            family.push(process);
        }
    }
    family
}
