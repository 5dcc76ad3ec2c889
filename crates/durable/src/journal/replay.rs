//! Opening: what the journal still holds is read again, in order, each commit checked.
//!
//! A damaged commit is noted durably and costs its object; a gap in the numbers costs the store,
//! because what is missing could be anybody's. It writes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::checkpoint::Tail;
use super::group::{self, Commit, Group};
use super::overlay::Overlay;
use super::{Journal, Mark, Writer};
use crate::storage::{Op, Order, Storage};
use crate::{Error, keys, record};

/// Journal chunks read per call into the storage.
const PAGE: usize = 16;

/// What an opening has found.
pub(super) struct Replayed {
    pub(super) overlay: Overlay,
    pub(super) tail: Tail,
    pub(super) last: u64,
    pub(super) damaged: HashMap<Vec<u8>, String>,
}

impl Writer {
    /// Reads the journal of that storage. Nothing else may have read it before.
    ///
    /// # Errors
    /// `Corrupt` or `Missing` if commits are not there, `Storage` if the storage cannot read.
    pub(crate) fn open(
        base: Arc<dyn Storage>,
        epoch: u64,
        mark: Option<Mark>,
    ) -> Result<Self, Error> {
        let Replayed {
            overlay,
            tail,
            last,
            damaged,
        } = replay(&*base)?;
        if let Some(mark) = &mark {
            mark.check(last)?;
        }
        let journal = Arc::new(Journal {
            base,
            overlay,
            damaged,
            last: watch::Sender::new(last),
        });
        Ok(Self {
            journal,
            epoch,
            last,
            tail,
            mark,
        })
    }
}

/// Reads the whole journal into an overlay.
pub(super) fn replay(base: &dyn Storage) -> Result<Replayed, Error> {
    let checkpoint = checkpoint(base)?;
    let mut found = Replayed {
        overlay: Overlay::default(),
        tail: Tail::default(),
        last: checkpoint,
        damaged: HashMap::new(),
    };
    walk(base, &mut |first, chunks, bytes| {
        found.take(checkpoint, first, chunks, &bytes)
    })?;
    if !found.damaged.is_empty() {
        found.void_projections(base)?;
    }
    for (key, value) in all(base, keys::DAMAGED)? {
        let at = record::open_json("", &key, &value)?;
        let owner = key.get(keys::DAMAGED.len()..).unwrap_or_default();
        found.damaged.insert(owner.to_vec(), at);
    }
    Ok(found)
}

/// The number up to which commits are in the records.
pub(super) fn checkpoint(base: &dyn Storage) -> Result<u64, Error> {
    match base.get(keys::SEQ)? {
        Some(value) => record::open_json("", keys::SEQ, &value),
        None => Ok(0),
    }
}

/// Gives every journal record: first number, chunks, bytes.
fn walk(
    base: &dyn Storage,
    each: &mut dyn FnMut(u64, usize, Vec<u8>) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut start, end) = (keys::JOURNAL.to_vec(), keys::end_of(keys::JOURNAL));
    let mut open: Option<(u64, usize, Vec<u8>)> = None;
    loop {
        let page = base.scan(&start, &end, Order::Ascending, PAGE)?;
        for (key, value) in &page {
            let (first, chunk) = keys::journal_parts(key)
                .ok_or_else(|| unreadable(key, "no key of a journal record"))?;
            match &mut open {
                Some((of, chunks, bytes)) if *of == first => {
                    *chunks += 1;
                    bytes.extend_from_slice(value);
                }
                _ if chunk != 0 => return Err(unreadable(key, "its beginning is missing")),
                _ => {
                    if let Some((first, chunks, bytes)) = open.replace((first, 1, value.clone())) {
                        each(first, chunks, bytes)?;
                    }
                }
            }
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => break,
        }
    }
    open.map_or(Ok(()), |(first, chunks, bytes)| each(first, chunks, bytes))
}

impl Replayed {
    fn take(
        &mut self,
        checkpoint: u64,
        first: u64,
        chunks: usize,
        bytes: &[u8],
    ) -> Result<(), Error> {
        let key = keys::journal(first, 0);
        let group = group::decode(bytes).ok_or_else(|| unreadable(&key, "it is damaged"))?;
        let Group {
            first: own,
            commits,
        } = group;
        if own != first {
            return Err(unreadable(&key, "it stands under a wrong key"));
        }
        let last = first + u64::try_from(commits.len()).unwrap_or_default() - 1;
        self.tail.appended(last, first, chunks, bytes.len());
        if last <= checkpoint {
            // The records have it; only its removal is outstanding.
            return Ok(());
        }
        if first != self.last + 1 {
            let missing = first.saturating_sub(self.last + 1);
            return Err(unreadable(
                &key,
                &format!("{missing} commits before it are missing"),
            ));
        }
        self.last = last;
        for commit in commits {
            match commit {
                Commit::Whole(ops) => self.overlay.publish(ops.into_iter()),
                Commit::Damaged(owner) => self.note(owner, &key)?,
            }
        }
        Ok(())
    }

    /// What is damaged may have been rows, or what rows should have followed from.
    fn void_projections(&self, base: &dyn Storage) -> Result<(), Error> {
        let range = (keys::NOTES, &*keys::end_of(keys::NOTES));
        let notes = self
            .overlay
            .scan(base, range, Order::Ascending, usize::MAX)?;
        let gone = notes.into_iter().map(|(key, _)| Op::Delete { key });
        self.overlay.publish(gone);
        Ok(())
    }

    /// The note goes into the records with everything else, before the journal record goes.
    fn note(&mut self, owner: Vec<u8>, at: &[u8]) -> Result<(), Error> {
        let at = printable(at);
        tracing::error!(
            object = record::printable(&owner),
            journal = at,
            "a commit of an object is damaged: the object is not served until a backup is restored"
        );
        let key = keys::damaged(&owner);
        let value = record::seal_json(&key, 0, &at)?;
        self.overlay
            .publish(std::iter::once(Op::Put { key, value }));
        self.damaged.insert(owner, at);
        Ok(())
    }
}

fn all(base: &dyn Storage, prefix: &[u8]) -> Result<Vec<crate::storage::Entry>, Error> {
    base.scan(prefix, &keys::end_of(prefix), Order::Ascending, usize::MAX)
}

/// The whole store is refused: nobody can tell whose commits these were.
fn unreadable(key: &[u8], reason: &str) -> Error {
    Error::Corrupt {
        object: String::new(),
        key: printable(key),
        reason: reason.to_owned(),
    }
}

/// Journal keys are numbers, not text.
pub(super) fn printable(key: &[u8]) -> String {
    match keys::journal_parts(key) {
        Some((first, _)) => format!("j/{first}"),
        None => record::printable(key),
    }
}
