//! The files that sled keeps large values in, and never syncs.
//!
//! It remembers which of them are known to be on disk. It knows nothing of their content.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Directory times move in ticks of some ms: younger ones may hide a later change.
const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Which blob files are known to be on disk.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    dir: PathBuf,
    synced: HashSet<PathBuf>,
    settled: Option<SystemTime>,
}

impl Blobs {
    pub(super) fn below(dir: &Path) -> Self {
        Self {
            dir: dir.join("blobs"),
            ..Self::default()
        }
    }

    /// sled writes values beyond a share of its segment into files of their own and never syncs
    /// them. The directory's time tells whether there is anything new; usually there is not.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let modified = fs::metadata(&self.dir)?.modified()?;
        if self.settled == Some(modified) {
            return Ok(());
        }
        let mut present = HashSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !self.synced.contains(&path) {
                sync_if_there(&path)?;
            }
            present.insert(path);
        }
        if !present.is_subset(&self.synced) {
            File::open(&self.dir)?.sync_all()?;
        }
        self.synced = present;
        let age = SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default();
        self.settled = (age > SETTLED_AFTER).then_some(modified);
        Ok(())
    }
}

/// sled removes blobs on threads of its own, so a listed one may be gone.
fn sync_if_there(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
