//! The store on disk, on sled 0.34.7: the only file that names sled.
//!
//! What it repairs: `flush` does not reach the disk (own fsync after it), blobs are not synced
//! at all (own fsync of new ones), an unreadable database opens as an empty one (marker file and
//! sentinel key), and some damaged files panic (guarded). It knows keys only as bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::{Entry, Op, Order, Read, Storage};
use crate::{Error, keys};

mod marker;

const CACHE_BYTES: u64 = 64 * 1024 * 1024;
/// A closed database may hold its lock for a moment, until its own threads have ended.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Directory times move in ticks of some ms: younger ones may hide a later change.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// A store in a directory of its own.
#[derive(Debug)]
pub struct SledStorage {
    db: sled::Db,
    /// Kept open: after a failed fsync a new handle would not report the same failure.
    log: File,
    blobs: Mutex<Blobs>,
    /// Held for its lock.
    _lock: File,
}

/// Which blob files are known to be on disk.
#[derive(Debug, Default)]
struct Blobs {
    dir: PathBuf,
    synced: HashSet<PathBuf>,
    settled: Option<SystemTime>,
}

impl SledStorage {
    /// Opens the store in `dir`, or creates it there if the directory is missing or empty.
    ///
    /// # Errors
    /// `NotOurs`, `Newer` and `Busy` leave the directory untouched; `Corrupt` if the database
    /// does not carry our sentinel or cannot be read; `Storage` for anything the system refuses.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let state = marker::check(dir)?;
        if state == marker::State::Absent {
            marker::create(dir)?;
        }
        let lock = marker::lock(dir)?;
        let db = open_db(dir)?;
        let log = File::open(dir.join("db")).map_err(|e| failed("open the log", &e))?;
        let blobs = Blobs {
            dir: dir.join("blobs"),
            ..Blobs::default()
        };
        let storage = Self {
            db,
            log,
            blobs: Mutex::new(blobs),
            _lock: lock,
        };
        if state == marker::State::Ready {
            storage.check_sentinel()?;
        } else {
            storage.write_sentinel()?;
            marker::sync_dir(dir)?;
            marker::set_ready(dir)?;
        }
        Ok(storage)
    }

    fn write_sentinel(&self) -> Result<(), Error> {
        let value = marker::FORMAT.to_be_bytes().to_vec();
        self.apply(vec![Op::Put {
            key: keys::SENTINEL.to_vec(),
            value,
        }])?;
        self.sync()
    }

    fn check_sentinel(&self) -> Result<(), Error> {
        let expected = marker::FORMAT.to_be_bytes();
        match self.get(keys::SENTINEL)? {
            Some(value) if value == expected => Ok(()),
            Some(_) => Err(damaged("the sentinel has another value".into())),
            None => Err(damaged(
                "the sentinel is missing: the database was not readable".into(),
            )),
        }
    }

    fn sync_blobs(&self) -> Result<(), Error> {
        let mut blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.sync().map_err(|e| failed("sync blobs", &e))
    }
}

impl Read for SledStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = self.db.get(key).map_err(|e| failed("read", &e))?;
        Ok(found.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        if start >= end {
            return Ok(Vec::new());
        }
        let mut range = self.db.range(start..end);
        let mut found = Vec::new();
        while found.len() < limit {
            let next = match order {
                Order::Ascending => range.next(),
                Order::Descending => range.next_back(),
            };
            let Some(entry) = next else { break };
            let (key, value) = entry.map_err(|e| failed("scan", &e))?;
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(found)
    }
}

impl Storage for SledStorage {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for op in ops {
            match op {
                Op::Put { key, value } => batch.insert(key, value),
                Op::Delete { key } => batch.remove(key),
            }
        }
        self.db.apply_batch(batch).map_err(|e| failed("apply", &e))
    }

    fn sync(&self) -> Result<(), Error> {
        self.db.flush().map_err(|e| failed("flush", &e))?;
        // Blobs first: the log must not point at one that a power cut takes away.
        self.sync_blobs()?;
        self.log.sync_all().map_err(|e| failed("fsync", &e))
    }
}

impl Blobs {
    /// sled writes values beyond a share of its segment into files of their own and never syncs
    /// them. The directory's time tells whether there is anything new; usually there is not.
    fn sync(&mut self) -> std::io::Result<()> {
        let modified = fs::metadata(&self.dir)?.modified()?;
        if self.settled == Some(modified) {
            return Ok(());
        }
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !self.synced.contains(&path) {
                sync_if_there(&path)?;
            }
            present.insert(path);
        }
        if !present.is_subset(&self.synced) {
            File::open(&self.dir)?.sync_all()?;
        }
        self.synced = present;
        let age = SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default();
        self.settled = (age > SETTLED_AFTER).then_some(modified);
        Ok(())
    }
}

/// sled removes blobs on threads of its own, so a listed one may be gone.
fn sync_if_there(path: &Path) -> std::io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn open_db(dir: &Path) -> Result<sled::Db, Error> {
    for attempt in 1.. {
        match try_open_db(dir)? {
            Ok(db) => return Ok(db),
            Err(e) if !is_locked(&e) => return Err(opening(&e)),
            Err(_) if attempt >= LOCK_TRIES => break,
            Err(_) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Err(Error::Busy {
        path: dir.to_owned(),
    })
}

fn try_open_db(dir: &Path) -> Result<sled::Result<sled::Db>, Error> {
    // No timed flush: the one committer thread decides when to flush.
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| damaged("the database cannot be read".into()))
}

/// sled reports a held lock as a text only.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

fn opening(error: &sled::Error) -> Error {
    match error {
        sled::Error::Corruption { .. } | sled::Error::Unsupported(_) => damaged(error.to_string()),
        other => failed("open the database", other),
    }
}

fn damaged(reason: String) -> Error {
    let key = String::from_utf8_lossy(keys::SENTINEL).into_owned();
    Error::Corrupt {
        object: String::new(),
        key,
        reason,
    }
}

fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        action,
        reason: error.to_string(),
    }
}
