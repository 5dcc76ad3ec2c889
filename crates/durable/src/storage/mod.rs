//! What the crate needs of a store: ordered bytes, one atomic batch, one explicit sync.
//!
//! A store knows no object, alarm or JSON. `sled` types never leave their one file; another
//! store is another file beside it.

mod faulty;
mod memory;
mod sled_storage;

pub use faulty::{Call, Fault, FaultyStorage, Left};
pub use memory::MemoryStorage;
pub use sled_storage::SledStorage;

use std::fmt::Debug;
use std::path::Path;

use crate::Error;

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From the smallest key up.
    #[default]
    Ascending,
    /// From the greatest key down.
    Descending,
}

/// One change inside a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes the value under the key.
    Put {
        /// The whole key.
        key: Vec<u8>,
        /// The new value.
        value: Vec<u8>,
    },
    /// Removes the key, if it is there.
    Delete {
        /// The whole key.
        key: Vec<u8>,
    },
}

impl Op {
    /// The key that the change is about.
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A key and its value, as stored.
pub type Entry = (Vec<u8>, Vec<u8>);

/// What can be read: a storage, or the journal's view of one.
pub trait Read: Debug + Send + Sync + 'static {
    /// The value under the key.
    ///
    /// # Errors
    /// `Storage` if the store cannot read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// At most `limit` entries with `start <= key < end`, in the order asked for.
    ///
    /// # Errors
    /// `Storage` if the store cannot read.
    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error>;
}

/// How much room a store has on its disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for us.
    pub free: u64,
    /// What has to stay free, so that a write that was begun can end.
    pub reserve: u64,
}

impl Space {
    /// Whether that many more bytes would eat into the reserve.
    pub fn is_short_of(&self, bytes: u64) -> bool {
        self.free < self.reserve.saturating_add(bytes)
    }
}

/// An ordered store of bytes with atomic batches.
///
/// `apply` makes a batch visible to reads at once and durable never: only `sync` promises that
/// everything applied before it survives a power cut. After a crash the store holds what was
/// synced and, of what was applied later, each batch wholly or not at all. One thread alone calls
/// both.
pub trait Storage: Read {
    /// Applies all changes or none; of two changes of one key the later one counts.
    ///
    /// # Errors
    /// `Storage`; the outcome is then unknown and the store must not be written again.
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error>;

    /// The same for changes of which a crash, or a failure, may keep some and not others. None of
    /// their keys occurs twice.
    ///
    /// # Errors
    /// As for `apply`.
    fn apply_each(&self, ops: Vec<Op>) -> Result<(), Error> {
        ops.into_iter().try_for_each(|op| self.apply(vec![op]))
    }

    /// Returns when everything applied is on stable storage.
    ///
    /// # Errors
    /// `Storage`; what was applied since the last success is then in doubt.
    fn sync(&self) -> Result<(), Error>;

    /// The room on the disk beneath; none for a store without such a bound.
    ///
    /// # Errors
    /// `Storage` if the system does not say it.
    fn space(&self) -> Result<Option<Space>, Error> {
        Ok(None)
    }

    /// Closes the store and opens it again in its place, after a failed `apply` or `sync`: it
    /// then holds a prefix of whole batches that reaches at least to the last `sync`. Room that
    /// was set aside for this is given free.
    ///
    /// # Errors
    /// `Storage`, `Damaged` or `Corrupt`; the store then stays closed, and every call fails,
    /// until this has worked.
    fn reopen(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Sets aside again what `reopen` gave free, if there is room.
    ///
    /// # Errors
    /// `Storage` for anything the system refuses.
    fn refill(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Where the store lies, for people; empty if nowhere.
    fn path(&self) -> &Path {
        Path::new("")
    }
}
