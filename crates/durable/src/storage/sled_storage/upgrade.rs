//! A store of format 1 becomes one of format 2 when it is opened.
//!
//! What format 2 has, a program of format 1 cannot read: the journal, projections, and large values
//! in pieces. Every step is durable before the next one begins, and can be done again:
//!
//! ```text
//! a backup beside the store ─► sentinel 2 ─► large values into pieces ─► marker 2
//! ```
//! So a crash anywhere leaves a store that the next opening goes on with; until the marker is
//! written a program of format 1 finds all of its store, or a sentinel that it refuses. It knows
//! the journal only through the backup.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{SledStorage, corrupt, failed, marker, split};
use crate::storage::{Op, Order, Read as _, Storage};
use crate::{Error, Store, backup, record};

/// Entries that are looked at in one call; each may be some megabytes.
const PAGE: usize = 16;

type Step = fn(&Arc<SledStorage>) -> Result<(), Error>;

const STEPS: [Step; 4] = [back_up, raise_sentinel, split_values, raise_marker];

/// Upgrades a store whose marker says format 1.
pub(super) fn run(storage: SledStorage) -> Result<SledStorage, Error> {
    tracing::warn!(dir = %storage.dir.display(), "the store has an earlier format; upgrading it");
    let storage = Arc::new(storage);
    for step in STEPS {
        step(&storage)?;
    }
    tracing::info!(dir = %storage.dir.display(), "the store is upgraded");
    Arc::into_inner(storage).ok_or_else(|| failed("upgrade", &"the store is still in use"))
}

/// Everything, as a file that `backup::restore` takes. Behind the sentinel nothing was written that
/// the file of an earlier try does not hold.
fn back_up(storage: &Arc<SledStorage>) -> Result<(), Error> {
    match storage.sentinel()? {
        marker::FORMAT_OLD => {}
        marker::FORMAT => return Ok(()),
        _ => return Err(corrupt("the sentinel has another value")),
    }
    let file = beside(&storage.dir, Store::last_epoch(&**storage)?)?;
    let mut staged = file.clone().into_os_string();
    staged.push(".partial");
    let staged = PathBuf::from(staged);
    let base: Arc<dyn Storage> = Arc::<SledStorage>::clone(storage);
    write(&base, &staged)?;
    fs::rename(&staged, &file).map_err(|e| failed("rename the backup", &e))?;
    marker::sync_dir(file.parent().unwrap_or(Path::new("/")))?;
    tracing::info!(file = %file.display(), "the earlier format is kept as a backup");
    Ok(())
}

/// The name tells what it is. The epoch is in it, so that a try that is repeated takes the same
/// name, and an older backup keeps its own.
fn beside(dir: &Path, epoch: u64) -> Result<PathBuf, Error> {
    let dir = fs::canonicalize(dir).map_err(|e| failed("find the store", &e))?;
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".format-1.epoch-{epoch}.backup"));
    Ok(dir.with_file_name(name))
}

fn write(storage: &Arc<dyn Storage>, staged: &Path) -> Result<(), Error> {
    let refused = |e| failed("write the backup of the earlier format", &e);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(staged)
        .map_err(refused)?;
    let mut out = BufWriter::new(file);
    backup::export_as_it_is(storage, &mut out)?;
    out.flush().map_err(refused)?;
    out.get_ref().sync_all().map_err(refused)
}

fn raise_sentinel(storage: &Arc<SledStorage>) -> Result<(), Error> {
    storage.write_sentinel()
}

/// Writes each large value once more, which splits it; a reader sees the same value all the time.
fn split_values(storage: &Arc<SledStorage>) -> Result<(), Error> {
    let mut start = Vec::new();
    loop {
        let page = storage.scan(&start, &[u8::MAX], Order::Ascending, PAGE)?;
        let last = page.get(PAGE - 1).map(|(key, _)| key.clone());
        for (key, value) in page {
            if value.len() > split::PIECE_BYTES {
                storage.apply(vec![Op::Put { key, value }])?;
            }
        }
        match last {
            Some(key) => start = record::after(key),
            None => return storage.sync(),
        }
    }
}

fn raise_marker(storage: &Arc<SledStorage>) -> Result<(), Error> {
    marker::set_ready(&storage.dir)
}

#[cfg(test)]
mod tests;
