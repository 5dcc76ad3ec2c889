//! A store that is ready for a host: opened, checked, and counted up by one epoch.

use std::path::Path;
use std::sync::Arc;

use crate::journal::{Journal, Mark, Verified, Writer};
use crate::storage::{MemoryStorage, Op, SledStorage, Storage};
use crate::{Error, keys, record};

/// A storage with its journal read, together with the epoch of this opening. A host consumes it.
#[derive(Debug)]
pub struct Store {
    pub(crate) journal: Arc<Journal>,
    pub(crate) writer: Writer,
    pub(crate) epoch: u64,
    restored: u64,
}

impl Store {
    /// Opens or creates the store in that directory. Blocks for the time of some fsyncs.
    ///
    /// # Errors
    /// As `SledStorage::open` and `new`; `Missing` if the store has lost commits from its end.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        let storage: Arc<dyn Storage> = Arc::new(SledStorage::open(&dir)?);
        Self::with_mark(storage, Some(Mark::open(dir.as_ref())?))
    }

    /// A store that ends with its host, for trials.
    ///
    /// # Errors
    /// None in practice; the signature is that of the others.
    pub fn memory() -> Result<Self, Error> {
        Self::new(Arc::new(MemoryStorage::new()))
    }

    /// Takes a storage, reads its journal, and makes the next epoch durable in it before
    /// anything can be written under that epoch.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` if the journal or the epoch cannot be read, `Storage` if the epoch
    /// cannot be written.
    pub fn new(storage: Arc<dyn Storage>) -> Result<Self, Error> {
        Self::with_mark(storage, None)
    }

    fn with_mark(storage: Arc<dyn Storage>, mark: Option<Mark>) -> Result<Self, Error> {
        let epoch = Self::last_epoch(&*storage)?.saturating_add(1);
        let restored = number(&*storage, keys::RESTORED)?;
        let writer = Writer::open(storage, epoch, mark)?;
        let value = record::seal_json(keys::EPOCH, epoch, &epoch)?;
        let storage = Arc::clone(writer.base());
        storage.apply(vec![Op::Put {
            key: keys::EPOCH.to_vec(),
            value,
        }])?;
        storage.sync()?;
        Ok(Self {
            journal: Arc::clone(writer.journal()),
            writer,
            epoch,
            restored,
        })
    }

    /// How often that storage was opened as a store.
    pub(crate) fn last_epoch(storage: &dyn Storage) -> Result<u64, Error> {
        number(storage, keys::EPOCH)
    }

    /// Reads everything once: records and their checksums, alarms and their index, the journal
    /// against the view that readers have of it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// `Storage` if the store cannot be read; damage is in the answer.
    pub fn verify(&self) -> Result<Verified, Error> {
        self.journal.verify()
    }

    /// How often this store has been opened.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number from which this store's epochs count since it was restored from a backup; 0 if
    /// it never was. It is beyond any epoch and any unix second of what was lived after that
    /// backup: numbers that begin here were never given out before.
    pub fn restored(&self) -> u64 {
        self.restored
    }

    /// The number of the last durable commit.
    pub fn last_seq(&self) -> u64 {
        *self.journal.last_seq().borrow()
    }
}

fn number(storage: &dyn Storage, key: &[u8]) -> Result<u64, Error> {
    match storage.get(key)? {
        Some(value) => record::open_json("", key, &value),
        None => Ok(0),
    }
}
