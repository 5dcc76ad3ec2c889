//! The journal: what makes a group of commits durable with one record, and the view of readers.
//!
//! ```text
//! append:      one record per group under j/<first number>, one sync, then visible to readers
//! checkpoint:  changes go into the records behind the groups' back, then j/... is removed
//! open:        what the journal still holds is read again before anything else
//! ```
//! So nothing is ever readable before it is durable, and checkpoint + journal tail = state. It
//! knows commits and their owners, no object and no turn.

mod checkpoint;
mod group;
mod mark;
mod overlay;
mod reload;
mod replay;
#[cfg(test)]
pub(crate) mod tests;
mod verify;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use group::Part;
pub(crate) use mark::Mark;
pub use verify::Verified;

use crate::storage::{Entry, Op, Order, Read, Storage};
use crate::{Error, keys, record};
use checkpoint::Tail;
use overlay::Overlay;

/// Bytes of a group in one value: what the store on disk keeps whole, which costs least.
const CHUNK_BYTES: usize = 6 * 1024;
/// Commits that become visible under one lock.
const PUBLISH_AT_ONCE: usize = 64;

/// The state as readers see it: the storage and what the journal has over it.
#[derive(Debug)]
pub(crate) struct Journal {
    base: Arc<dyn Storage>,
    overlay: Overlay,
    /// Objects that have lost a commit, and where it was; their reads are refused.
    damaged: HashMap<Vec<u8>, String>,
    last: watch::Sender<u64>,
}

/// The one writer of a journal.
#[derive(Debug)]
pub(crate) struct Writer {
    journal: Arc<Journal>,
    epoch: u64,
    last: u64,
    tail: Tail,
    mark: Option<Mark>,
}

impl Journal {
    /// Follows the number of the last durable commit.
    pub(crate) fn last_seq(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// An object that has lost a commit answers no read: what is left of it is not its state.
    fn check(&self, key: &[u8]) -> Result<(), Error> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let owner = keys::owner(key).unwrap_or_default();
        match self.damaged.get(owner) {
            None => Ok(()),
            Some(at) => Err(Error::Corrupt {
                object: keys::id_of(owner),
                key: at.clone(),
                reason: "a commit of this object cannot be read".to_owned(),
            }),
        }
    }
}

impl Read for Journal {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.check(key)?;
        self.overlay.get(&*self.base, key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        self.check(start)?;
        self.overlay.scan(&*self.base, (start, end), order, limit)
    }
}

impl Writer {
    pub(crate) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number of the last durable commit.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// What lies below the journal.
    pub(crate) fn base(&self) -> &Arc<dyn Storage> {
        &self.journal.base
    }

    /// Makes the commits durable with one record and one sync, and gives their numbers. Readers
    /// do not see them before `publish`.
    ///
    /// # Errors
    /// `Storage`; the outcome is then unknown and nothing may be written any more.
    pub(crate) fn append(&mut self, parts: &[Part<'_>]) -> Result<RangeInclusive<u64>, Error> {
        let first = self.last + 1;
        let record = group::encode(first, self.epoch, parts);
        let bytes = record.len();
        let ops = chunks(first, record);
        let chunks = ops.len();
        self.journal.base.apply(ops)?;
        self.journal.base.sync()?;
        self.last += u64::try_from(parts.len()).unwrap_or_default();
        self.tail.appended(self.last, first, chunks, bytes);
        self.tail.synced();
        let last = self.last;
        self.mark(|mark| mark.write(last));
        Ok(first..=self.last)
    }

    /// A mark that cannot be kept stays where it was: it then notices less, never too much.
    fn mark(&mut self, keep: impl FnOnce(&Mark) -> Result<(), Error>) {
        if let Some(Err(error)) = self.mark.as_ref().map(keep) {
            tracing::warn!(%error, "the high-water mark is not kept any more");
            self.mark = None;
        }
    }

    /// Shows durable commits to readers, each of them undivided.
    pub(crate) fn publish(&mut self, commits: &mut dyn Iterator<Item = Vec<Op>>) {
        loop {
            let some: Vec<Vec<Op>> = commits.take(PUBLISH_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            self.journal.overlay.publish(some.into_iter().flatten());
        }
        self.journal.last.send_replace(self.last);
    }

    /// Removals of everything below the prefix, in the state and in what comes before.
    pub(crate) fn wiped<'o>(
        &self,
        prefix: &[u8],
        before: impl Iterator<Item = &'o Op>,
    ) -> Result<Vec<Op>, Error> {
        let end = keys::end_of(prefix);
        let stored = self
            .journal
            .scan(prefix, &end, Order::Ascending, usize::MAX)?;
        let stored = stored.into_iter().map(|(key, _)| key);
        let before = before.map(Op::key).filter(|key| key.starts_with(prefix));
        let gone: BTreeSet<Vec<u8>> = stored.chain(before.map(<[u8]>::to_vec)).collect();
        Ok(gone.into_iter().map(|key| Op::Delete { key }).collect())
    }
}

fn chunks(first: u64, record: Vec<u8>) -> Vec<Op> {
    let put = |(n, value): (u32, Vec<u8>)| Op::Put {
        key: keys::journal(first, n),
        value,
    };
    if record.len() <= CHUNK_BYTES {
        return vec![put((0, record))];
    }
    let values = record.chunks(CHUNK_BYTES).map(<[u8]>::to_vec);
    (0..).zip(values).map(put).collect()
}
