//! Why a call of the runtime was not served.
//!
//! Owns the one error type of the handles. Knows no HTTP status: the facade maps it.

use kilo::CredentialsError;

use crate::vault;

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
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The caller's key stands for another request.
    #[error("this Idempotency-Key was used for another request; use a new key")]
    KeyReused,
    /// Too many keys are remembered; none of them is forgotten before its day is over.
    #[error("{max} keys are remembered here already; ask without one, or when a day has passed")]
    KeysFull {
        /// How many fit.
        max: usize,
    },
    /// Processes of an earlier life can not be ended: nothing goes on beside them.
    #[error(
        "processes of an earlier run can not be ended: {pids:?}; they hang in the kernel or belong \
         to another user. End them, or restart the machine, and start again"
    )]
    Leftovers {
        /// Their pids.
        pids: Vec<u32>,
    },
    /// A file of the data directory could not be written.
    #[error("{0}")]
    Io(String),
}

impl From<vault::Error> for Error {
    fn from(error: vault::Error) -> Self {
        let field = match &error {
            vault::Error::Io(_) => return Self::Io(error.to_string()),
            vault::Error::Unfit(
                CredentialsError::TokenIsUrl | CredentialsError::TokenMalformed,
            ) => "kilocode_token",
            vault::Error::Url { .. } | vault::Error::Unfit(_) => "kilo_api_url",
        };
        Self::Invalid {
            field,
            reason: error.to_string(),
        }
    }
}
