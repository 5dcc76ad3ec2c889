//! The crate's one error type: what a caller can do about a refusal or a failure.
//!
//! It knows no transport: whether `Overloaded` is a status code is the host program's matter.

use std::path::PathBuf;

/// Why a call, a read or a start was not served.
///
/// `Clone`, because one failed commit answers every caller that waited for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A bounded queue is full. Nothing was done; call again later.
    #[error("too many requests wait for this object; nothing was done, call again later")]
    Overloaded,
    /// The host has been stopped. Nothing was done if the message had not been answered before.
    #[error("the object host has stopped; start a new host on the same store")]
    Stopped,
    /// A commit failed, or the object died with the message: it may or may not have been applied.
    #[error("the outcome is unknown: the change may be stored or not; ask again with the same key")]
    OutcomeUnknown,
    /// The store refused an operation.
    #[error("storage failed to {action}: {reason}; check the disk, then start again")]
    Storage {
        /// What was tried, as a verb.
        action: &'static str,
        /// The store's own words.
        reason: String,
    },
    /// A stored value is not what was written.
    #[error("stored data is damaged: object {object}, key {key}: {reason}; restore a backup")]
    Corrupt {
        /// The object that owns the record; empty for the store's own records.
        object: String,
        /// The record's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store opens with fewer commits than it had: its end has been lost.
    #[error("{missing} commits are missing from the end of the store: restore a backup, or remove {} to go on without them", mark.display())]
    Missing {
        /// The high-water mark that knows better.
        mark: PathBuf,
        /// How many commits.
        missing: u64,
    },
    /// The store or a record was written by a later version of this crate.
    #[error("the data has format {found}, this program reads up to {supported}; use a newer one")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// The directory has content and no marker of ours. It was left untouched.
    #[error("{} is not empty and not a store of ours; choose an empty directory", path.display())]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Another process, or another handle of this one, owns the directory.
    #[error(
        "{} is in use by another process{}; stop it or choose another directory",
        path.display(),
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Busy {
        /// The directory.
        path: PathBuf,
        /// The holder; none where it has only just begun.
        pid: Option<u32>,
    },
    /// A file of the store is not what was written. Nothing was changed.
    #[error("{} is damaged: {reason}; restore a backup", path.display())]
    Damaged {
        /// The file, or the store's directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A backup cannot be used. Nothing was restored.
    #[error("the backup cannot be used: {reason}; nothing was restored, take another one")]
    BadBackup {
        /// What is wrong with it.
        reason: String,
    },
    /// Too little room on the disk. Nothing was done; writes are taken again once there is room.
    #[error(
        "the disk of {} is full ({free} bytes are free): nothing was stored; free some space there",
        path.display()
    )]
    Full {
        /// The store's directory.
        path: PathBuf,
        /// Bytes that are still free.
        free: u64,
    },
    /// A value could not be written as JSON, or a key or value breaks a limit. Nothing was done.
    #[error("cannot store key {key:?}: {reason}; nothing was done")]
    Encode {
        /// The record's key, or the name of the outbox.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The handler panicked. Nothing of that turn was stored; the object was read again from disk.
    #[error("object {object} panicked: {reason}; nothing of that turn was stored")]
    Panicked {
        /// The object.
        object: String,
        /// The panic's text.
        reason: String,
    },
    /// The object could not be loaded in time. Nothing was done; it is tried again once the load
    /// that hangs has come back.
    #[error("object {object} was not loaded within {after_ms} ms; nothing was done")]
    LoadTimeout {
        /// The object.
        object: String,
        /// The limit, from `Settings`.
        after_ms: u64,
    },
    /// The object failed too often in a row and refuses messages for a while.
    #[error("object {object} is quarantined until {until}: {reason}")]
    Quarantined {
        /// The object.
        object: String,
        /// Unix milliseconds after which it is tried again.
        until: i64,
        /// The last failure.
        reason: String,
    },
    /// An object id or namespace that cannot be a key.
    #[error("{text:?} is no object id: use 1 to 255 bytes without NUL")]
    BadId {
        /// The refused text.
        text: String,
    },
    /// Two object types claim one namespace on one host.
    #[error(
        "namespace {namespace:?} belongs to another object type, or is no valid name (1 to 24 bytes without NUL)"
    )]
    NamespaceTaken {
        /// The namespace.
        namespace: String,
    },
    /// A setting outside its range.
    #[error("setting {name} is out of range: {fix}")]
    Setting {
        /// The field of `Settings`.
        name: &'static str,
        /// What to write instead.
        fix: &'static str,
    },
    /// A projection has failed; its rows are void until it is registered again.
    #[error("projection {projection} has stopped: {reason}; register it again to make it anew")]
    Stale {
        /// Its name.
        projection: String,
        /// Its failure.
        reason: String,
    },
    /// The host's threads could not be started.
    #[error("cannot start the object host: {reason}; check the limits on threads and files")]
    Start {
        /// The system's words.
        reason: String,
    },
}

impl Error {
    /// Whether it is for want of room on the disk: it goes away once there is room again.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            // The store reports the system's error as a text, whole or as its debug form.
            Self::Storage { reason, .. } => {
                reason.contains("No space left") || reason.contains("os error 28")
            }
            _ => false,
        }
    }
}
