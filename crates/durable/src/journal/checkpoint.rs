//! How the journal gets shorter: its changes go into the records, in small slices.
//!
//! A checkpoint freezes what has been published and writes it in key order; then its number,
//! behind a sync; then it removes the journal records, behind another sync. So the number never
//! says more than the records hold, and what is left of the journal is always its end. Groups
//! bring those syncs; only an idle writer makes them. It knows when to work, not on which thread.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use super::Writer;
use super::overlay::Map;
use crate::storage::Op;
use crate::{Error, keys, record};

/// Keys per slice, and the most of one atomic application: with random keys, larger ones cost
/// memory out of proportion.
const SLICE_KEYS: usize = 64;
/// A checkpoint begins at so many bytes in the journal, or so many keys over the storage.
const START_BYTES: usize = 16 * 1024 * 1024;
const START_KEYS: usize = 20_000;
/// From so many times the start on, each group gives the checkpoint more than one slice, for
/// some milliseconds.
const PRESSED: usize = 2;
const SLICES_PRESSED: usize = 8;
/// From so many times the start on, groups wait for the checkpoint under way.
const FULL: usize = 4;

/// What the journal holds, oldest first, and how far its checkpoint has come.
#[derive(Debug, Default)]
pub(super) struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    stage: Stage,
}

/// One group on disk.
#[derive(Debug, Clone, Copy)]
struct Record {
    first: u64,
    last: u64,
    chunks: usize,
    bytes: usize,
}

#[derive(Default)]
enum Stage {
    #[default]
    Resting,
    /// Changes up to the number are written, from the key on.
    Writing {
        frozen: Arc<Map>,
        from: Option<Vec<u8>>,
        upto: u64,
    },
    /// All of them are written; the next sync makes them durable.
    Written { upto: u64 },
    /// They are durable, and their number has to be written.
    Durable { upto: u64 },
    /// So is their number; the next sync makes it durable.
    Numbered { upto: u64 },
    /// That is durable too: journal records up to the number can go.
    Removing { upto: u64 },
}

impl Tail {
    pub(super) fn appended(&mut self, last: u64, first: u64, chunks: usize, bytes: usize) {
        self.bytes += bytes;
        self.records.push_back(Record {
            first,
            last,
            chunks,
            bytes,
        });
    }

    /// Everything that was applied is durable.
    pub(super) fn synced(&mut self) {
        match self.stage {
            Stage::Written { upto } => self.stage = Stage::Durable { upto },
            Stage::Numbered { upto } => self.stage = Stage::Removing { upto },
            Stage::Resting
            | Stage::Writing { .. }
            | Stage::Durable { .. }
            | Stage::Removing { .. } => {}
        }
    }

    /// At most a slice of journal keys, oldest first, so that what stays has no gap.
    fn removals(&mut self, upto: u64) -> Vec<Op> {
        let mut gone = Vec::new();
        while let Some(record) = self.records.front().filter(|record| record.last <= upto) {
            if !gone.is_empty() && gone.len() + record.chunks > SLICE_KEYS {
                break;
            }
            let keys = (0..).take(record.chunks);
            gone.extend(keys.map(|chunk| Op::Delete {
                key: keys::journal(record.first, chunk),
            }));
            self.bytes = self.bytes.saturating_sub(record.bytes);
            self.records.pop_front();
        }
        gone
    }
}

impl Writer {
    /// Whether a checkpoint is under way, so that `slice` has something to do.
    pub(crate) fn is_checkpointing(&self) -> bool {
        !matches!(self.tail.stage, Stage::Resting)
    }

    /// Whether a checkpoint would do anything.
    pub(crate) fn has_tail(&self) -> bool {
        !self.tail.records.is_empty()
    }

    /// Begins a checkpoint of everything published, unless one is under way.
    pub(crate) fn begin_checkpoint(&mut self) {
        if self.is_checkpointing() {
            return;
        }
        let upto = self.last;
        self.tail.stage = Stage::Writing {
            frozen: self.journal.overlay.freeze(),
            from: None,
            upto,
        };
    }

    /// What a checkpoint gets between two groups: one slice, or more if the journal is long.
    ///
    /// # Errors
    /// As for `slice`.
    pub(crate) fn write_behind(&mut self) -> Result<(), Error> {
        if self.is_beyond(1) {
            self.begin_checkpoint();
        }
        if self.is_beyond(FULL) {
            return self.run_checkpoint();
        }
        for _ in 0..SLICES_PRESSED {
            if !self.slice()? || !self.is_beyond(PRESSED) {
                break;
            }
        }
        Ok(())
    }

    /// Whether the journal is longer, or the changes in memory are more, than so many starts.
    fn is_beyond(&self, starts: usize) -> bool {
        self.tail.bytes > starts * START_BYTES
            || self.journal.overlay.active_len() > starts * START_KEYS
    }

    /// One slice for a writer that has nothing else to do, the sync included.
    ///
    /// # Errors
    /// As for `slice`.
    pub(crate) fn idle_slice(&mut self) -> Result<(), Error> {
        if self.slice()? { Ok(()) } else { self.sync() }
    }

    /// Goes on with the checkpoint by one slice. False if it waits for a sync.
    ///
    /// # Errors
    /// `Storage`; nothing may be written any more then.
    pub(crate) fn slice(&mut self) -> Result<bool, Error> {
        match std::mem::take(&mut self.tail.stage) {
            Stage::Resting => Ok(false),
            Stage::Writing { frozen, from, upto } => {
                self.write_slice(frozen, from.as_deref(), upto)?;
                Ok(true)
            }
            Stage::Durable { upto } => {
                let key = keys::SEQ.to_vec();
                let value = record::seal_json(&key, self.epoch, &upto)?;
                self.journal.base.apply(vec![Op::Put { key, value }])?;
                self.mark(super::Mark::sync);
                self.tail.stage = Stage::Numbered { upto };
                Ok(true)
            }
            unsynced @ (Stage::Written { .. } | Stage::Numbered { .. }) => {
                self.tail.stage = unsynced;
                Ok(false)
            }
            Stage::Removing { upto } => {
                let gone = self.tail.removals(upto);
                if !gone.is_empty() {
                    self.journal.base.apply(gone)?;
                    self.tail.stage = Stage::Removing { upto };
                }
                Ok(true)
            }
        }
    }

    fn write_slice(
        &mut self,
        frozen: Arc<Map>,
        from: Option<&[u8]>,
        upto: u64,
    ) -> Result<(), Error> {
        let begin = from.map_or(Bound::Unbounded, Bound::Excluded);
        let rest = frozen.range::<[u8], _>((begin, Bound::Unbounded));
        let ops: Vec<Op> = rest.take(SLICE_KEYS).map(op).collect();
        let Some(last) = ops.last().map(|op| op.key().to_vec()) else {
            self.journal.overlay.thaw();
            self.tail.stage = Stage::Written { upto };
            return Ok(());
        };
        // Not atomic, and no need to be: whoever reads finds these keys over the storage, and until
        // the checkpoint has its number an opening reads all of them from the journal again.
        self.journal.base.apply_each(ops)?;
        self.tail.stage = Stage::Writing {
            frozen,
            from: Some(last),
            upto,
        };
        Ok(())
    }

    /// Makes durable what the checkpoint has written, for the case that no group does.
    ///
    /// # Errors
    /// As for `slice`.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.journal.base.sync()?;
        self.tail.synced();
        Ok(())
    }

    /// Writes everything into the records and leaves an empty journal.
    ///
    /// # Errors
    /// As for `slice`.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.run_checkpoint()?;
        if self.has_tail() {
            self.begin_checkpoint();
            self.run_checkpoint()?;
        }
        self.mark(super::Mark::sync);
        self.sync()
    }

    /// Takes the checkpoint under way, if any, to its end.
    ///
    /// # Errors
    /// As for `slice`.
    pub(crate) fn run_checkpoint(&mut self) -> Result<(), Error> {
        while self.is_checkpointing() {
            if !self.slice()? && self.is_checkpointing() {
                self.sync()?;
            }
        }
        Ok(())
    }
}

fn op((key, value): (&Vec<u8>, &Option<Vec<u8>>)) -> Op {
    let key = key.clone();
    match value {
        Some(value) => Op::Put {
            key,
            value: value.clone(),
        },
        None => Op::Delete { key },
    }
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, upto) = match self {
            Self::Resting => return write!(f, "Resting"),
            Self::Writing { upto, .. } => ("Writing", upto),
            Self::Written { upto } => ("Written", upto),
            Self::Durable { upto } => ("Durable", upto),
            Self::Numbered { upto } => ("Numbered", upto),
            Self::Removing { upto } => ("Removing", upto),
        };
        write!(f, "{name} up to {upto}")
    }
}
