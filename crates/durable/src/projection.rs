//! Projections: views over all objects of some kinds, kept in step with every commit.
//!
//! The committer runs a pure fold over each commit, in the order of their numbers, and its rows
//! are written in the same group as the commits: exactly once by construction, whatever crashes,
//! and no object is woken. It knows records as JSON and no meaning of them.

mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use run::{Runner, Runners};

use crate::keys::ObjectKeys;
use crate::meta::Meta;
use crate::storage::{Op, Read};
use crate::{Error, Millis, ObjectId, keys, record};

/// A fold over commits. It must not depend on anything but its arguments.
///
/// Its rows are made anew, from what is stored, when it is registered for the first time, with
/// another version, after it has failed, or after a run of the host without it. The rebuild gives
/// it the records of one object after the other, each as a change from nothing, and in several
/// changes if there are many. So the rows must follow from the last state of every record, not
/// from the way to it.
pub trait Projection: Send + 'static {
    /// The name of its rows in the store: 1 to 24 bytes without NUL, never to be changed.
    const NAME: &'static str;
    /// To be changed when the fold changes.
    const VERSION: u32;
    /// The kinds of objects whose commits it sees.
    const NAMESPACES: &'static [&'static str];

    /// Takes one commit into the rows. Runs on the committer's thread: everybody waits for it.
    ///
    /// # Errors
    /// Any: the projection is stale from then on and is made anew at its next registration. A
    /// panic does the same. Commits go on.
    fn fold(&self, change: &Change<'_>, rows: &mut Rows<'_>) -> Result<(), Error>;
}

/// An object's alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmIs {
    /// It runs next at that time.
    Set(Millis),
    /// There is none.
    Unset,
}

/// What one commit changed in one object.
pub struct Change<'a> {
    namespace: &'a str,
    id: &'a ObjectId,
    seq: u64,
    /// The values are checked when they are read.
    records: Vec<(&'a str, &'a Op)>,
    alarm: Option<AlarmIs>,
}

impl<'a> Change<'a> {
    /// The changes of that object among the operations; later ones of a key count.
    fn new(
        namespace: &'a str,
        id: &'a ObjectId,
        seq: u64,
        ops: impl Iterator<Item = &'a Op>,
    ) -> Result<Self, Error> {
        let own = ObjectKeys::new(namespace, id);
        let (prefix, meta) = (own.record(""), own.meta());
        let (mut records, mut alarm) = (BTreeMap::new(), None);
        for op in ops {
            if let Some(key) = op.key().strip_prefix(prefix.as_slice()) {
                records.extend(std::str::from_utf8(key).map(|key| (key, op)));
            } else if let Op::Put { key, value } = op
                && *key == meta
            {
                let meta: Meta = record::open_json(id.as_str(), key, value)?;
                alarm = Some(
                    meta.alarm
                        .map_or(AlarmIs::Unset, |alarm| AlarmIs::Set(alarm.fire_at)),
                );
            }
        }
        Ok(Self {
            namespace,
            id,
            seq,
            records: records.into_iter().collect(),
            alarm,
        })
    }

    /// The object's kind.
    pub fn namespace(&self) -> &str {
        self.namespace
    }

    /// The object.
    pub fn id(&self) -> &ObjectId {
        self.id
    }

    /// The number of the commit; while rows are made anew, of the last one before.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The keys that were written or removed, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.records.iter().map(|(key, _)| *key)
    }

    /// The record's new value; none if it was removed or is not part of this change.
    ///
    /// # Errors
    /// `Corrupt` for a record that is no `T`.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let found = self.records.binary_search_by_key(&key, |(key, _)| key);
        let op = found.ok().and_then(|n| self.records.get(n));
        match op {
            Some((_, Op::Put { key, value })) => {
                record::open_json(self.id.as_str(), key, value).map(Some)
            }
            Some((_, Op::Delete { .. })) | None => Ok(None),
        }
    }

    /// The alarm after the commit, if it may have changed.
    pub fn alarm(&self) -> Option<AlarmIs> {
        self.alarm
    }
}

impl fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("namespace", &self.namespace)
            .field("id", &self.id)
            .field("seq", &self.seq)
            .finish_non_exhaustive()
    }
}

/// Changes of rows that are not committed yet; none for a removed one.
type Pending = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The projection's own rows, what it has just written included.
pub struct Rows<'a> {
    view: &'a dyn Read,
    pending: &'a mut Pending,
    name: &'static str,
    epoch: u64,
}

impl Rows<'_> {
    /// The row under that key.
    ///
    /// # Errors
    /// `Corrupt` for a row that is no `T`, `Storage` if the store cannot be read.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = keys::row(self.name, key);
        let value = match self.pending.get(&stored) {
            Some(value) => value.clone(),
            None => self.view.get(&stored)?,
        };
        let decode = |value: Vec<u8>| record::open_json("", &stored, &value);
        value.map(decode).transpose()
    }

    /// Writes a row.
    ///
    /// # Errors
    /// `Encode` for a value that is no JSON, or a key of more than 360 bytes.
    pub fn put(&mut self, key: &str, value: &impl Serialize) -> Result<(), Error> {
        let stored = keys::row(self.name, key);
        if key.len() > keys::NAME_BYTES_MAX {
            return Err(Error::Encode {
                key: key.chars().take(64).collect(),
                reason: format!("a row's key has at most {} bytes", keys::NAME_BYTES_MAX),
            });
        }
        let value = record::seal_json(&stored, self.epoch, value)?;
        self.pending.insert(stored, Some(value));
        Ok(())
    }

    /// Removes a row, if it is there.
    pub fn delete(&mut self, key: &str) {
        self.pending.insert(keys::row(self.name, key), None);
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
