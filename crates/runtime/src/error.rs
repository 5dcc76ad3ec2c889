//! Why a call of the runtime was not served.
//!
//! Owns the one error type of the handles. Knows no HTTP status: the facade maps it.

/// Why a call was not served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rig refused it; nothing has changed.
    #[error(transparent)]
    Refused(#[from] rig::Refused),
    /// The store could not do it; the text says whether something may have changed.
    #[error(transparent)]
    Store(#[from] durable::Error),
    /// Something the caller named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Something the caller gave is not usable.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name, as in the API.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A file of the data directory could not be read or written.
    #[error("{what}: {reason}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's own words.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Io { what: what.into(), reason: error.to_string() }
    }
}
