//! One install per directory at a time, among tasks and processes: a lock on a file, which the
//! system releases when its holder dies.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::ProvisionError;

const RETRY_EVERY: Duration = Duration::from_millis(200);

/// A lock file. The lock is held from `take` until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    pub(super) async fn open(path: &Path) -> Result<Self, ProvisionError> {
        let mut options = tokio::fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .await;
        let file = file.map_err(ProvisionError::io("open the lock file", path))?;
        Ok(Self {
            file: file.into_std().await,
            path: path.to_owned(),
        })
    }

    /// Waits for the lock. It asks again and again, since a blocked thread could not be cancelled.
    pub(super) async fn take(&self, waiting: impl Fn()) -> Result<(), ProvisionError> {
        let mut told = false;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        told = true;
                        waiting();
                    }
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(TryLockError::Error(source)) => {
                    return Err(ProvisionError::io("lock", &self.path)(source));
                }
            }
        }
    }
}
