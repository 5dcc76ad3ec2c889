//! A store that is ready for a host: opened, checked, and counted up by one epoch.

use std::path::Path;
use std::sync::Arc;

use crate::storage::{MemoryStorage, Op, SledStorage, Storage};
use crate::{Error, keys, record};

/// A storage together with the epoch of this opening. A host consumes it.
#[derive(Debug)]
pub struct Store {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) epoch: u64,
}

impl Store {
    /// Opens or creates the store in that directory. Blocks for the time of some fsyncs.
    ///
    /// # Errors
    /// As `SledStorage::open`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::new(Arc::new(SledStorage::open(dir)?))
    }

    /// A store that ends with its host, for trials.
    ///
    /// # Errors
    /// None in practice; the signature is that of the others.
    pub fn memory() -> Result<Self, Error> {
        Self::new(Arc::new(MemoryStorage::new()))
    }

    /// Takes a storage and makes the next epoch durable in it, before anything can be written
    /// under that epoch.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` if the stored epoch cannot be read, `Storage` if it cannot be written.
    pub fn new(storage: Arc<dyn Storage>) -> Result<Self, Error> {
        let last = match storage.get(keys::EPOCH)? {
            Some(value) => record::open_json::<u64>("", keys::EPOCH, &value)?,
            None => 0,
        };
        let epoch = last.saturating_add(1);
        let value = record::seal_json(keys::EPOCH, epoch, &epoch)?;
        storage.apply(vec![Op::Put {
            key: keys::EPOCH.to_vec(),
            value,
        }])?;
        storage.sync()?;
        Ok(Self { storage, epoch })
    }

    /// How often this store has been opened.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
}
