//! What can go wrong with the gateway itself. What it answers on purpose is in `behaviour`.

use std::io;
use std::path::PathBuf;

/// Why the gateway could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The port could not be taken.
    #[error("port {port} on 127.0.0.1 cannot be used: {source}; choose another port or 0")]
    Bind {
        /// The port that was asked for; 0 is any free port.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The HTTP server could not be started on the bound port.
    #[error("the gateway's HTTP server does not start: {0}")]
    Serve(io::Error),
    /// The request log could not be opened.
    #[error("the request log {} cannot be opened: {source}; check the directory", path.display())]
    LogFile {
        /// The file that was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The gateway was stopped before; a stopped gateway stays stopped.
    #[error("the gateway was stopped; start a new one")]
    Stopped,
    /// What was waited for did not happen in time.
    #[error("not seen within {waited_ms} ms; the counters stand at {seen}")]
    Deadline {
        /// How long it was waited for.
        waited_ms: u64,
        /// The counters at that time, for the reader.
        seen: String,
    },
}
