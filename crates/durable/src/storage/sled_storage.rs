//! The store on disk, on sled 0.34.7: with the pieces of large values below it, the only place
//! that names sled.
//!
//! What it repairs: `flush` does not reach the disk (own fsync after it), large values become files
//! that are never synced (stored in pieces), an unreadable database opens as an empty one (marker
//! file and sentinel key), a damaged tail is cut off in silence (seal), damaged files panic
//! (guarded), a full disk fails it for ever (reopened in place, on ballast), and after other
//! failed writes it waits for ever when it is closed (abandoned). It knows keys only as bytes.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, mpsc};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::{Entry, Op, Order, Read, Space, Storage};
use crate::{Error, keys};

mod ballast;
mod marker;
mod seal;
mod split;
mod upgrade;

/// What is in use lives in the objects, and the system caches the file: a larger one only costs
/// memory.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// A closed database may hold its lock for a moment, until its own threads have ended.
const LOCK_TRIES: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An orderly end takes this long at most; a database that hangs is left alone.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// A store in a directory of its own.
#[derive(Debug)]
pub struct SledStorage {
    dir: PathBuf,
    /// None while it could not be opened again.
    files: RwLock<Option<Files>>,
    /// Whether we sync what sled does not.
    is_synced: bool,
    /// Held for its lock.
    _lock: File,
}

/// What goes when the database is closed.
#[derive(Debug)]
struct Files {
    db: sled::Db,
    /// Kept open: after a failed fsync a new handle would not report the same failure.
    log: File,
    /// Everything applied is durable: the files may be sealed.
    is_settled: AtomicBool,
    /// A write has failed for another reason than a full disk.
    is_broken: AtomicBool,
}

impl SledStorage {
    /// Opens the store in `dir`, or creates it there if the directory is missing or empty.
    ///
    /// # Errors
    /// `NotOurs`, `Newer`, `Busy` and `Damaged` leave the directory untouched. A store of an
    /// earlier format is backed up beside it and upgraded; whatever ends that leaves a store that
    /// the next opening goes on with. `Corrupt` if the
    /// database does not carry our sentinel; `Storage` for anything the system refuses.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_as(dir.as_ref(), true)
    }

    /// For trials that show what our own fsyncs are good for: a store without them, as sled is.
    /// It loses acknowledged data at power loss.
    #[doc(hidden)]
    pub fn open_without_fsync(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_as(dir.as_ref(), false)
    }

    /// Whether there is a store in that directory, finished or begun.
    pub(crate) fn is_at(dir: &Path) -> bool {
        matches!(
            marker::check(dir),
            Ok(marker::State::Ready | marker::State::Old | marker::State::Creating)
        )
    }

    fn open_as(dir: &Path, is_synced: bool) -> Result<Self, Error> {
        let state = marker::check(dir)?;
        if state == marker::State::Absent {
            marker::create(dir)?;
        }
        let lock = marker::lock(dir)?;
        seal::break_open(dir)?;
        make_room(dir)?;
        let storage = Self {
            dir: dir.to_owned(),
            files: RwLock::new(Some(Files::open(dir)?)),
            is_synced,
            _lock: lock,
        };
        let storage = match state {
            marker::State::Ready => storage.check_sentinel().map(|()| storage)?,
            marker::State::Old => upgrade::run(storage)?,
            marker::State::Absent | marker::State::Creating => {
                storage.write_sentinel()?;
                marker::sync_dir(dir)?;
                marker::set_ready(dir)?;
                storage
            }
        };
        storage.refill()?;
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
        match self.sentinel()? {
            marker::FORMAT => Ok(()),
            _ => Err(corrupt("the sentinel has another value")),
        }
    }

    /// The format that the database itself tells.
    fn sentinel(&self) -> Result<u32, Error> {
        let missing = "the sentinel is missing: the database was not readable";
        let value = self.get(keys::SENTINEL)?.ok_or_else(|| corrupt(missing))?;
        let value = value.try_into();
        value
            .map(u32::from_be_bytes)
            .map_err(|_| corrupt("the sentinel has another value"))
    }

    /// Works on the open database. sled panics on some kinds of damage, here as at opening.
    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Files) -> Result<T, sled::Error>,
    ) -> Result<T, Error> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let Some(files) = files.as_ref() else {
            // Only a full disk gets it there.
            let free = ballast::space(&self.dir).map_or(0, |space| space.free);
            let path = self.dir.clone();
            return Err(Error::Full { path, free });
        };
        match catch_unwind(AssertUnwindSafe(|| work(files))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(judged(&self.dir, action, &error)),
            Err(_) => {
                files.is_settled.store(false, Ordering::Release);
                Err(damaged(&self.dir, "the database panicked over its files"))
            }
        }
    }

    /// Works on the open database in a way that changes it.
    fn change(
        &self,
        action: &'static str,
        work: impl FnOnce(&Files) -> Result<(), sled::Error>,
    ) -> Result<(), Error> {
        self.with(action, |files| {
            files.is_settled.store(false, Ordering::Release);
            let done = catch_unwind(AssertUnwindSafe(|| work(files)));
            let is_whole = match &done {
                Ok(Ok(())) => true,
                Ok(Err(error)) => judged(&self.dir, action, error).is_full(),
                Err(_) => false,
            };
            files.is_broken.fetch_or(!is_whole, Ordering::AcqRel);
            done.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn close(&self) -> bool {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        close(files.take())
    }
}

/// Closes the database; true if its files hold everything that was applied. After some failed
/// writes sled waits for ever for them while it is dropped, and holds up every other database of
/// the process: a broken one is left as it is, its lock included, until the process ends. The
/// thread is for what we do not know of.
fn close(files: Option<Files>) -> bool {
    let Some(files) = files else {
        return false;
    };
    if files.is_broken.load(Ordering::Acquire) {
        std::mem::forget(files);
        return false;
    }
    let is_settled = files.is_settled.load(Ordering::Acquire);
    let (done, closed) = mpsc::channel();
    let work = move || {
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(files)));
        let _ = done.send(dropped.is_ok());
    };
    let named = std::thread::Builder::new().name("durable-close".to_owned());
    let is_closed = named.spawn(work).is_ok() && closed.recv_timeout(CLOSE_WAIT) == Ok(true);
    is_settled && is_closed
}

impl Read for SledStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        if key.first() == Some(&split::PIECES) {
            return Ok(None);
        }
        self.with("read", |files| match files.db.get(key)? {
            Some(stored) => split::whole(&files.db, key, &stored),
            None => Ok(None),
        })
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let end = end.min([split::PIECES].as_slice());
        if start >= end {
            return Ok(Vec::new());
        }
        self.with("scan", |files| {
            let mut range = files.db.range(start..end);
            let mut found = Vec::new();
            while found.len() < limit {
                let next = match order {
                    Order::Ascending => range.next(),
                    Order::Descending => range.next_back(),
                };
                let Some(entry) = next else { break };
                let (key, stored) = entry?;
                if let Some(value) = split::whole(&files.db, &key, &stored)? {
                    found.push((key.to_vec(), value));
                }
            }
            Ok(found)
        })
    }
}

impl Storage for SledStorage {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        if ops.len() == 1 {
            return self.apply_each(ops);
        }
        check_keys(&ops)?;
        self.change("apply", |files| {
            files.db.apply_batch(split::batch(&files.db, ops)?)
        })
    }

    fn apply_each(&self, ops: Vec<Op>) -> Result<(), Error> {
        check_keys(&ops)?;
        self.change("apply", |files| split::each(&files.db, ops))
    }

    fn sync(&self) -> Result<(), Error> {
        self.change("sync", |files| {
            files.db.flush()?;
            if self.is_synced {
                files.log.sync_all()?;
            }
            files.check_linked()?;
            files.is_settled.store(true, Ordering::Release);
            Ok(())
        })
    }

    fn space(&self) -> Result<Option<Space>, Error> {
        let space = ballast::space(&self.dir).map_err(|e| failed("ask for free space", &e))?;
        Ok(Some(space))
    }

    fn reopen(&self) -> Result<(), Error> {
        {
            // Held until the end: readers wait, and see no closed store if it opens.
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            close(files.take());
            ballast::give(&self.dir).map_err(|e| failed("remove the ballast", &e))?;
            *files = Some(Files::open(&self.dir)?);
        }
        self.check_sentinel().inspect_err(|_| {
            self.close();
        })
    }

    fn refill(&self) -> Result<(), Error> {
        ballast::take(&self.dir).map_err(|e| failed("make the ballast", &e))
    }

    fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        if self.close()
            && let Err(error) = sealed(&self.dir)
        {
            tracing::warn!(%error, dir = %self.dir.display(), "the store stays without a seal");
        }
    }
}

fn check_keys(ops: &[Op]) -> Result<(), Error> {
    if ops.iter().any(|op| op.key().starts_with(&[split::PIECES])) {
        return Err(failed(
            "apply",
            &"a key begins with the byte 0xff, which is ours",
        ));
    }
    Ok(())
}

/// Waits until sled's own threads have let go of the files, and seals them.
fn sealed(dir: &Path) -> std::io::Result<()> {
    let log = File::open(dir.join("db"))?;
    for _ in 0..LOCK_TRIES {
        if flock(&log, FlockOperation::NonBlockingLockExclusive).is_ok() {
            log.sync_all()?;
            return seal::put_on(dir);
        }
        std::thread::sleep(LOCK_PAUSE);
    }
    Err(std::io::Error::other("the database does not end"))
}

/// A full disk must not keep us from reading: then the ballast goes.
fn make_room(dir: &Path) -> Result<(), Error> {
    let space = ballast::space(dir).map_err(|e| failed("ask for free space", &e))?;
    if space.is_short_of(0) {
        tracing::error!(dir = %dir.display(), free = space.free, "the disk is full");
        ballast::give(dir).map_err(|e| failed("remove the ballast", &e))?;
    }
    Ok(())
}

impl Files {
    fn open(dir: &Path) -> Result<Self, Error> {
        let db = open_db(dir)?;
        let log = File::open(dir.join("db")).map_err(|e| failed("open the log", &e))?;
        Ok(Self {
            db,
            log,
            is_settled: AtomicBool::new(true),
            is_broken: AtomicBool::new(false),
        })
    }

    /// A deleted log takes writes like any other, and nobody will ever read them.
    fn check_linked(&self) -> std::io::Result<()> {
        let links = rustix::fs::fstat(&self.log)?.st_nlink;
        if links == 0 {
            let deleted = "the database was deleted while it was in use";
            return Err(std::io::Error::new(std::io::ErrorKind::NotFound, deleted));
        }
        Ok(())
    }
}

fn open_db(dir: &Path) -> Result<sled::Db, Error> {
    for attempt in 1.. {
        match try_open_db(dir)? {
            Ok(db) => return Ok(db),
            Err(e) if !is_locked(&e) => return Err(judged(dir, "open the database", &e)),
            Err(_) if attempt >= LOCK_TRIES => break,
            Err(_) => std::thread::sleep(LOCK_PAUSE),
        }
    }
    Err(Error::Busy {
        path: dir.to_owned(),
        pid: None,
    })
}

fn try_open_db(dir: &Path) -> Result<sled::Result<sled::Db>, Error> {
    // No timed flush: the one committer thread decides when to flush.
    let config = sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    catch_unwind(AssertUnwindSafe(|| config.open()))
        .map_err(|_| damaged(dir, "the database cannot be read"))
}

/// sled reports a held lock as a text only.
fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(e) if e.to_string().contains("could not acquire lock"))
}

/// sled reports damage of its files in three ways; the third is a panic.
fn judged(dir: &Path, action: &'static str, error: &sled::Error) -> Error {
    match error {
        sled::Error::Corruption { .. } => {
            damaged(dir, "what the database reads is not what it wrote")
        }
        sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
            damaged(dir, &error.to_string())
        }
        other => failed(action, other),
    }
}

fn damaged(dir: &Path, reason: &str) -> Error {
    Error::Damaged {
        path: dir.to_owned(),
        reason: reason.to_owned(),
    }
}

fn corrupt(reason: &str) -> Error {
    Error::Corrupt {
        object: String::new(),
        key: String::from_utf8_lossy(keys::SENTINEL).into_owned(),
        reason: reason.to_owned(),
    }
}

fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        action,
        reason: error.to_string(),
    }
}
