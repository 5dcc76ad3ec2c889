//! The high-water mark: a small file that knows the last durable commit besides the store.
//!
//! It is written after each group and synced at checkpoints. A store that opens with fewer
//! commits than the mark has lost its end, for example because damage cut the log short: it
//! opens as if nothing had happened, and only the mark can tell. The mark cannot notice
//! what is lost together with it: a directory put back as a whole to an older day, or, after a
//! power cut, commits younger than the mark's own last sync.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;

const FILE: &str = "last-commit";
const BYTES: usize = 8 + 4;

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    file: File,
    /// What was read at the opening; none in a new or unreadable file.
    found: Option<u64>,
}

impl Mark {
    /// Opens or creates the mark in the directory of a store.
    ///
    /// # Errors
    /// `Storage` for anything the system refuses.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| failed("open the high-water mark", &e))?;
        let mut bytes = [0; BYTES];
        let found = match file.read_exact(&mut bytes) {
            Ok(()) => read(bytes),
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => None,
            Err(e) => return Err(failed("read the high-water mark", &e)),
        };
        if found.is_none() {
            // Perhaps it is new: a power cut must not take its name away.
            File::open(dir)
                .and_then(|dir| dir.sync_all())
                .map_err(|e| failed("fsync the directory", &e))?;
        }
        Ok(Self { path, file, found })
    }

    /// Compares with the last commit that the store has.
    ///
    /// # Errors
    /// `Missing` if the store has fewer.
    pub(super) fn check(&self, last: u64) -> Result<(), Error> {
        match self.found.unwrap_or_default().checked_sub(last) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(Error::Missing {
                mark: self.path.clone(),
                missing,
            }),
        }
    }

    pub(super) fn write(&self, last: u64) -> Result<(), Error> {
        let mut bytes = [0; BYTES];
        let (number, sum) = bytes.split_at_mut(8);
        number.copy_from_slice(&last.to_be_bytes());
        sum.copy_from_slice(&crc32fast::hash(&last.to_be_bytes()).to_be_bytes());
        self.file
            .write_all_at(&bytes, 0)
            .map_err(|e| failed("write the high-water mark", &e))
    }

    pub(super) fn sync(&self) -> Result<(), Error> {
        self.file
            .sync_data()
            .map_err(|e| failed("fsync the high-water mark", &e))
    }
}

fn read(bytes: [u8; BYTES]) -> Option<u64> {
    let (number, sum) = bytes.split_first_chunk::<8>()?;
    let whole = sum == crc32fast::hash(number).to_be_bytes();
    whole.then(|| u64::from_be_bytes(*number))
}

fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        action,
        reason: error.to_string(),
    }
}
