//! Processes as `/proc` shows them: identity, ancestry, marker and working directory.
//!
//! Reads and signals only; who is to be ended is decided elsewhere. All functions block shortly
//! and belong on a blocking thread.

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One process for as long as it lives: the number alone may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Start time in clock ticks since boot, from `/proc/<pid>/stat`.
    pub start_time: u64,
}

#[derive(Debug, Clone, Copy)]
struct Stat {
    state: u8,
    parent: u32,
    start_time: u64,
}

/// The id of this boot of the machine: with a pid and a start time it names one process for ever.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

/// Who that number belongs to now, if anyone.
pub fn identify(pid: u32) -> Option<Identity> {
    stat(pid).map(|stat| Identity {
        pid,
        start_time: stat.start_time,
    })
}

/// Whether it can still run code: a zombie cannot.
pub fn is_alive(process: Identity) -> bool {
    stat(process.pid)
        .is_some_and(|stat| stat.start_time == process.start_time && !is_dead(stat.state))
}

/// All living processes that descend from this one, itself not included.
pub(crate) fn descendants(root: u32) -> Vec<Identity> {
    let table = table();
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for (pid, stat) in &table {
        children.entry(stat.parent).or_default().push(*pid);
    }
    let mut seen = HashSet::from([root]);
    let mut open = vec![root];
    let mut found = Vec::new();
    while let Some(parent) = open.pop() {
        for &pid in children
            .get(&parent)
            .into_iter()
            .flatten()
            .filter(|pid| **pid != root)
        {
            if seen.insert(pid) {
                open.push(pid);
                found.extend(table.get(&pid).and_then(|stat| living(pid, *stat)));
            }
        }
    }
    found
}

/// All living processes whose environment holds every pair, this process not included. An empty
/// marker fits none: it would fit everything.
pub fn marked(marker: &[(String, String)]) -> Vec<Identity> {
    if marker.is_empty() {
        return Vec::new();
    }
    let own = std::process::id();
    let fits = |pid: u32| pid != own && has_marker(pid, marker);
    table()
        .into_iter()
        .filter(|(pid, _)| fits(*pid))
        .filter_map(|(pid, stat)| living(pid, stat))
        .collect()
}

/// All living processes that work in this directory or below, this process not included.
pub(crate) fn working_in(dir: &Path) -> Vec<Identity> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let own = std::process::id();
    let fits = |pid: u32| pid != own && working_dir(pid).is_some_and(|cwd| cwd.starts_with(&dir));
    table()
        .into_iter()
        .filter(|(pid, _)| fits(*pid))
        .filter_map(|(pid, stat)| living(pid, stat))
        .collect()
}

/// Signals that very process; `false` when it is no longer there.
pub(crate) fn signal(process: Identity, signal: Signal) -> bool {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // The handle is of whoever has the number now; the start time says whether it is ours.
        Ok(handle) => is_alive(process) && pidfd_send_signal(handle, signal).is_ok(),
        Err(Errno::NOSYS | Errno::PERM) => {
            is_alive(process) && rustix::process::kill_process(pid, signal).is_ok()
        }
        Err(_) => false,
    }
}

/// Signals a whole process group.
pub(crate) fn signal_group(leader: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // An empty group is what we want anyway.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn living(pid: u32, stat: Stat) -> Option<Identity> {
    (!is_dead(stat.state)).then_some(Identity {
        pid,
        start_time: stat.start_time,
    })
}

fn is_dead(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

fn table() -> HashMap<u32, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return HashMap::new();
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets, so everything is counted from the last bracket.
    let after = text.get(text.iter().rposition(|b| *b == b')')? + 2..)?;
    let after = std::str::from_utf8(after).ok()?;
    let mut fields = after.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat {
        state,
        parent,
        start_time,
    })
}

fn has_marker(pid: u32, marker: &[(String, String)]) -> bool {
    let Ok(environ) = std::fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let held: HashSet<&[u8]> = environ.split(|b| *b == 0).collect();
    marker
        .iter()
        .all(|(name, value)| held.contains(format!("{name}={value}").as_bytes()))
}

fn working_dir(pid: u32) -> Option<PathBuf> {
    let link = std::fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    let bytes = link.as_os_str().as_bytes();
    // The kernel's note on a directory that is gone.
    let bytes = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_identified_and_alive() {
        let own = identify(std::process::id()).unwrap();
        assert!(is_alive(own));
        assert!(!is_alive(Identity {
            start_time: own.start_time + 1,
            ..own
        }));
    }

    #[test]
    fn an_empty_marker_fits_nobody() {
        assert!(marked(&[]).is_empty());
    }

    #[test]
    fn a_process_with_another_start_time_is_not_signalled() {
        let own = identify(std::process::id()).unwrap();
        assert!(!signal(
            Identity {
                start_time: own.start_time + 1,
                ..own
            },
            Signal::KILL
        ));
    }
}
