//! Why the program could not be installed, each with what to do about it.

use std::io;
use std::path::PathBuf;

/// Why `kilo` is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProvisionError {
    /// There is no `npm` on the path.
    #[error("npm was not found; install Node.js (https://nodejs.org), or name an installed kilo")]
    NpmMissing,
    /// The registry cannot be reached.
    #[error(
        "npm cannot reach its registry; check the network or npm's proxy settings. npm said:\n{}",
        lines.join("\n")
    )]
    Network {
        /// The last lines of npm's output.
        lines: Vec<String>,
    },
    /// npm failed for another reason.
    #[error("npm install failed ({status}). npm said:\n{}", lines.join("\n"))]
    NpmFailed {
        /// How it ended.
        status: String,
        /// The last lines of npm's output.
        lines: Vec<String>,
    },
    /// npm or another install took too long.
    #[error(
        "the install did not end within {deadline_s} s; try again, or run npm by hand. \
         The last lines were:\n{}",
        lines.join("\n")
    )]
    Deadline {
        /// The deadline.
        deadline_s: u64,
        /// The last lines of npm's output; empty where another install was waited for.
        lines: Vec<String>,
    },
    /// npm succeeded and the program is not there.
    #[error(
        "npm installed no {}; it may have been told to omit optional packages: \
         check `npm config get omit`", path.display()
    )]
    ProgramMissing {
        /// Where it should be, from the install directory.
        path: PathBuf,
    },
    /// There is no build for this machine.
    #[error("kilo has no build for {os}/{arch}; use Linux on x86_64 or aarch64")]
    Platform {
        /// The operating system.
        os: &'static str,
        /// The architecture.
        arch: &'static str,
    },
    /// The version is not of the form 1.2.3.
    #[error("{version:?} is no version; give one like 7.7.7")]
    Version {
        /// What was given, shortened.
        version: String,
    },
    /// The directory has packages that are not ours, which replacing would destroy.
    #[error("{} holds packages that Wellhead did not install; choose another directory", path.display())]
    Foreign {
        /// The `node_modules` in question.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ProvisionError {
    /// For `map_err`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}
