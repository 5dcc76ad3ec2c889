//! Lock files that a dead git left behind.
//!
//! Owns the rule when one may go: nobody's git works below the directory, and it is old. A live
//! lock is waited for, never broken.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{fs, time::Instant};

use super::{clone::gone, worktree::Trouble};

/// A lock of this age, with no git at work there, was left by a git that died.
const AGE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });
const POLL: Duration = Duration::from_millis(200);

/// Removes `locks` that a git left which died; waits for those that live. `dir` is where a living
/// one would have its working directory. Our own git does not run: the caller holds the
/// repository's lock.
pub(super) async fn clear(locks: &[PathBuf], dir: &Path) -> Result<(), Trouble> {
    let give_up = Instant::now() + WAIT;
    for lock in locks {
        while let Ok(meta) = fs::metadata(lock).await {
            let age = meta
                .modified()
                .ok()
                .and_then(|at| at.elapsed().ok())
                .unwrap_or_default();
            if age > AGE && !git_runs_below(dir.to_owned()).await {
                tracing::warn!(lock = %lock.display(), "removed the lock of a git that died");
                gone(fs::remove_file(lock).await).map_err(|error| Trouble::io(lock, error))?;
            } else if Instant::now() >= give_up {
                return Err(Trouble::Locked {
                    path: lock.display().to_string(),
                });
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }
    Ok(())
}

/// Whether some process named git works below `dir`.
async fn git_runs_below(dir: PathBuf) -> bool {
    let look = move || {
        let dir = dir.canonicalize().unwrap_or(dir);
        let Ok(all) = std::fs::read_dir("/proc") else {
            return true;
        };
        all.flatten().any(|entry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            name.starts_with("git") && cwd.starts_with(&dir)
        })
    };
    // When in doubt, the lock is alive.
    tokio::task::spawn_blocking(look).await.unwrap_or(true)
}
