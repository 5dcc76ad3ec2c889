//! Room on the disk: whether a group may be written, and which lives of objects a refusal ended.
//!
//! It asks the storage and remembers; the committer acts. It knows no batch and no object.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

use crate::Error;
use crate::storage::Storage;

/// What a group costs beyond its own bytes: the records that it will become.
const BYTES_PER_BYTE: usize = 2;

/// Numbers for the lives of objects. Those below a line are over: they have seen what is not
/// stored, and have to be loaded again.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    next: AtomicU64,
    line: AtomicU64,
}

impl Lives {
    /// A number that no other life has, in this run.
    pub(crate) fn begin(&self) -> u64 {
        self.next.fetch_add(1, Ordering::AcqRel)
    }

    /// All lives that have begun until now are over.
    pub(crate) fn end_all(&self) {
        self.line
            .store(self.next.load(Ordering::Acquire), Ordering::Release);
    }

    pub(crate) fn is_over(&self, life: u64) -> bool {
        life < self.line.load(Ordering::Acquire)
    }
}

/// The committer's view of the room that is left.
#[derive(Debug)]
pub(crate) struct Room {
    storage: Arc<dyn Storage>,
    /// A write has failed: the storage has to be opened again first.
    is_closed: bool,
    full: watch::Sender<Option<Error>>,
}

impl Room {
    pub(crate) fn over(storage: Arc<dyn Storage>) -> (Self, watch::Receiver<Option<Error>>) {
        let (full, shown) = watch::channel(None);
        let room = Self {
            storage,
            is_closed: false,
            full,
        };
        (room, shown)
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_closed || self.full.borrow().is_some()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn closed(&mut self) {
        self.is_closed = true;
        self.say_full();
    }

    pub(crate) fn opened(&mut self) {
        tracing::warn!("the store was opened again after a full disk");
        self.is_closed = false;
    }

    /// Whether another try to open may go better.
    pub(crate) fn may_open_later(error: &Error) -> bool {
        error.is_full() || matches!(error, Error::Busy { .. })
    }

    /// Looks whether so many bytes of changes fit, and says when that changes.
    pub(crate) fn find(&mut self, bytes: usize) -> Result<(), Error> {
        let wanted = u64::try_from(bytes.saturating_mul(BYTES_PER_BYTE)).unwrap_or(u64::MAX);
        let is_short = match self.storage.space() {
            Ok(space) => space.is_some_and(|space| space.is_short_of(wanted)),
            // Then the write itself will tell.
            Err(_) => false,
        };
        if is_short {
            self.say_full();
            return Err(self.refusal());
        }
        if self.is_short() {
            self.say_room();
        }
        Ok(())
    }

    fn say_full(&self) {
        if self.full.borrow().is_none() {
            tracing::error!(path = %self.storage.path().display(), "the disk is full");
        }
        self.full.send_replace(Some(self.refusal()));
    }

    fn say_room(&self) {
        tracing::info!("there is room on the disk again");
        self.full.send_replace(None);
        if let Err(error) = self.storage.refill() {
            tracing::warn!(%error, "the ballast is not made again");
        }
    }

    /// What a caller is told.
    pub(crate) fn refusal(&self) -> Error {
        let space = self.storage.space().ok().flatten();
        Error::Full {
            path: self.storage.path().to_owned(),
            free: space.map_or(0, |space| space.free),
        }
    }
}
