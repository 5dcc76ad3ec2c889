//! The story of an install: look, lock, look again, stage, move into place.
//!
//! Nothing appears in its final place before it is whole, so that whatever ends us leaves either no
//! program or a whole one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::error::ProvisionError;
use super::lock::Lock;
use super::npm::{self, Npm, Order};
use super::place::Place;

const DEADLINE: Duration = Duration::from_mins(10);

/// What happens while the caller waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Another install into the same directory is under way.
    WaitingForOther,
    /// npm starts; some hundred megabytes come.
    Installing {
        /// The package with its version.
        package: String,
    },
    /// A line of npm's output.
    Line(String),
    /// The program is in its place.
    Installed(PathBuf),
}

/// What to install, where, and with which npm.
#[derive(Debug, Clone)]
pub struct Install {
    /// The directory that gets `node_modules`; made if missing, and ours alone.
    pub dir: PathBuf,
    /// The version of `@kilocode/cli`, like 7.7.7.
    pub version: String,
    /// Where npm is looked for, in the form of `PATH`.
    pub search_path: OsString,
    /// For everything, the wait for another install included.
    pub deadline: Duration,
}

/// The `kilo` program of this version below `dir`, installed first if it is not there.
///
/// Safe to call at the same time from several tasks and processes. Dropping the future ends npm.
pub async fn ensure_kilo(
    dir: &Path,
    version: &str,
    progress: impl Fn(Progress),
) -> Result<PathBuf, ProvisionError> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let (dir, version) = (dir.to_owned(), version.to_owned());
    Install {
        dir,
        version,
        search_path,
        deadline: DEADLINE,
    }
    .ensure(progress)
    .await
}

impl Install {
    /// As [`ensure_kilo`].
    pub async fn ensure(&self, progress: impl Fn(Progress)) -> Result<PathBuf, ProvisionError> {
        let version = checked(&self.version)?;
        let place = Place::new(&self.dir, version)?;
        if let Some(program) = place.program().await {
            return Ok(program);
        }
        let deadline = Instant::now() + self.deadline;
        let npm = Npm::find(&self.search_path)
            .await
            .ok_or(ProvisionError::NpmMissing)?;
        place.make().await?;
        let lock = Lock::open(&place.lock_file()).await?;
        self.in_time(deadline, lock.take(|| progress(Progress::WaitingForOther)))
            .await??;
        // Whoever had the lock may have installed it.
        if let Some(program) = place.program().await {
            return Ok(program);
        }
        let program = self.install(&place, &npm, deadline, &progress).await?;
        progress(Progress::Installed(program.clone()));
        Ok(program)
    }

    async fn install(
        &self,
        place: &Place,
        npm: &Npm,
        deadline: Instant,
        progress: &impl Fn(Progress),
    ) -> Result<PathBuf, ProvisionError> {
        // Under the lock every staging directory is a leftover.
        place.remove_leftovers().await?;
        place.refuse_foreign().await?;
        let staging = place.make_staging().await?;
        let package = npm::package(&self.version);
        progress(Progress::Installing {
            package: package.clone(),
        });
        let order = Order {
            prefix: staging.path(),
            package: &package,
            search_path: &self.search_path,
            deadline,
            deadline_s: self.deadline.as_secs(),
        };
        let installed = npm
            .install(&order, |line| progress(Progress::Line(line.to_owned())))
            .await;
        let accepted = match installed {
            Ok(()) => place.accept(&staging).await,
            Err(error) => Err(error),
        };
        staging.remove().await;
        accepted
    }

    async fn in_time<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Result<T, ProvisionError> {
        let late = |_| ProvisionError::Deadline {
            deadline_s: self.deadline.as_secs(),
            lines: vec!["another install into this directory holds the lock".into()],
        };
        timeout_at(deadline, work).await.map_err(late)
    }
}

/// The version goes to npm as an argument: it must not be a tag, a range, a path or an option.
fn checked(version: &str) -> Result<&str, ProvisionError> {
    let safe = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let begins = version.starts_with(|c: char| c.is_ascii_digit());
    if begins && version.len() <= 64 && version.contains('.') && version.chars().all(safe) {
        return Ok(version);
    }
    Err(ProvisionError::Version {
        version: version.chars().take(64).collect(),
    })
}
