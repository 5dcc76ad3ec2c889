//! The marker file that makes a directory ours, and the lock that makes it ours alone. The lock
//! file names its holder's process.
//!
//! Both are looked at before the database may write anything: a directory that is not ours,
//! or of a later format, stays as it was. It knows nothing of what the database holds.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failed;
use crate::Error;

/// The newest format that this crate reads, and the one it writes.
pub(super) const FORMAT: u32 = 2;
/// The one before, which is upgraded at its opening.
pub(super) const FORMAT_OLD: u32 = 1;
const MARKER: &str = "WELLHEAD-STORE";
const LOCK: &str = "LOCK";
const HEAD: &str = "wellhead-store format ";
const CREATING: &str = "creating";
const READY: &str = "ready";

/// What the directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Missing or empty: a store can be created.
    Absent,
    /// A creation was cut short; nothing was ever acknowledged from it.
    Creating,
    /// A store.
    Ready,
    /// A store of the format before, or one whose upgrade was cut short.
    Old,
}

/// Judges the directory without writing into it.
pub(super) fn check(dir: &Path) -> Result<State, Error> {
    match fs::read(dir.join(MARKER)) {
        Ok(text) => read(dir, &String::from_utf8_lossy(&text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => check_empty(dir),
        Err(e) => Err(failed("read the marker file", &e)),
    }
}

fn read(dir: &Path, text: &str) -> Result<State, Error> {
    let mut words = text
        .strip_prefix(HEAD)
        .unwrap_or_default()
        .split_whitespace();
    let format = words.next().and_then(|word| word.parse::<u32>().ok());
    match (format, words.next()) {
        (Some(found), _) if found > FORMAT => Err(Error::Newer {
            found,
            supported: FORMAT,
        }),
        (Some(FORMAT), Some(READY)) => Ok(State::Ready),
        (Some(FORMAT_OLD), Some(READY)) => Ok(State::Old),
        (Some(FORMAT_OLD | FORMAT), Some(CREATING)) => Ok(State::Creating),
        // The crash hit while the very first bytes were written.
        _ if text.is_empty() && !dir.join("db").exists() => Ok(State::Creating),
        _ => Err(Error::NotOurs {
            path: dir.to_owned(),
        }),
    }
}

fn check_empty(dir: &Path) -> Result<State, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(State::Absent),
        Err(e) => return Err(failed("list the directory", &e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| failed("list the directory", &e))?;
        // The root of a fresh file system is as good as empty.
        if entry.file_name() != "lost+found" {
            return Err(Error::NotOurs {
                path: dir.to_owned(),
            });
        }
    }
    Ok(State::Absent)
}

/// Makes the directory and marks it, before the database writes its first byte.
pub(super) fn create(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(|e| failed("create the directory", &e))?;
    write_synced(&dir.join(MARKER), &line(CREATING))?;
    sync_dir(dir)?;
    match dir.canonicalize().ok().as_deref().and_then(Path::parent) {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Says that the store is complete and of our format: from now on a missing sentinel is damage,
/// and an older program leaves it alone.
pub(super) fn set_ready(dir: &Path) -> Result<(), Error> {
    let fresh = dir.join("WELLHEAD-STORE.new");
    write_synced(&fresh, &line(READY))?;
    fs::rename(&fresh, dir.join(MARKER)).map_err(|e| failed("rename the marker file", &e))?;
    sync_dir(dir)
}

/// Takes the directory for this handle alone. The system frees the lock when its holder dies.
pub(super) fn lock(dir: &Path) -> Result<File, Error> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(dir.join(LOCK))
        .map_err(|e| failed("open the lock file", &e))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(busy(dir, &file)),
        Err(e) => return Err(failed("lock the directory", &e)),
    }
    // On a full disk the holder stays without a name; the lock holds all the same.
    if let Err(error) = sign(&mut file) {
        tracing::warn!(%error, "cannot write the process id into the lock file");
    }
    Ok(file)
}

fn sign(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn busy(dir: &Path, lock: &File) -> Error {
    let mut text = String::new();
    // Half a word is no pid: the holder may be writing it right now.
    let _ = lock.take(32).read_to_string(&mut text);
    Error::Busy {
        path: dir.to_owned(),
        pid: text.strip_suffix('\n').and_then(|pid| pid.parse().ok()),
    }
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir)
        .and_then(|handle| handle.sync_all())
        .map_err(|e| failed("fsync the directory", &e))
}

fn line(state: &str) -> String {
    format!("{HEAD}{FORMAT} {state}\n")
}

fn write_synced(path: &Path, text: &str) -> Result<(), Error> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| failed("write the marker file", &e))
}
