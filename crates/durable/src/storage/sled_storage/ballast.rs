//! Room that is set aside while there is some, so that a full disk can still be opened.
//!
//! One file that holds nothing. It is given free when the store has to be opened without room, and
//! made again later. It knows nothing of the database.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::storage::Space;

const BALLAST: &str = "BALLAST";
const BYTES_MAX: u64 = 8 << 20;
/// Of a tiny file system it takes this share.
const SHARE: u64 = 8;

/// Free bytes, and how many have to stay free.
pub(super) fn space(dir: &Path) -> io::Result<Space> {
    let stat = statvfs(dir)?;
    Ok(Space {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        reserve: (stat.f_blocks.saturating_mul(stat.f_frsize) / SHARE).min(BYTES_MAX),
    })
}

/// Makes the ballast if it is missing and leaves twice the reserve free.
pub(super) fn take(dir: &Path) -> io::Result<()> {
    let path = dir.join(BALLAST);
    let space = space(dir)?;
    let bytes = space.reserve;
    let has = fs::metadata(&path).map_or(0, |file| file.len());
    if has >= bytes || space.is_short_of(bytes.saturating_mul(2)) {
        return Ok(());
    }
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, bytes);
    if made.is_err() {
        // Without this kind of promise from the file system there is none.
        fs::remove_file(&path)?;
    }
    Ok(())
}

/// Gives the room free.
pub(super) fn give(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(BALLAST)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
