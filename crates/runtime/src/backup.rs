//! Backups of a data directory's store, and the way back, while no runtime uses it.
//!
//! Owns the file and the order of checks. What a backup holds is the state of all objects: no
//! secret, no repository, no worktree, no program. It must not know what the state means.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use durable::{
    Store,
    backup::{self, Summary},
};

use crate::{DataDir, DataDirError};

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The data directory is in use, is not ours, or can not be made.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store can not be read or written, or the backup is damaged.
    #[error(transparent)]
    Store(#[from] durable::Error),
    /// There is nothing to back up.
    #[error("{path} has no store; name the data directory of a wellhead that has run")]
    NoStore {
        /// What was named.
        path: PathBuf,
    },
    /// It would be overwritten.
    #[error("{path} exists; name another file, or remove it")]
    Exists {
        /// What was named.
        path: PathBuf,
    },
    /// It would be overwritten.
    #[error("{path} holds a store; restore into a new data directory, or move that store away")]
    HasStore {
        /// The store.
        path: PathBuf,
    },
    /// The system said no.
    #[error("{path}: {source}; check the disk and who owns the file")]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

/// Writes everything that the store of a data directory holds into a new file, readable by its
/// owner alone. It has its name only once it is whole and on disk. Blocks.
///
/// # Errors
/// See [`BackupError`]; no file of that name is left then.
pub fn save(data_dir: &Path, file: &Path) -> Result<Summary, BackupError> {
    if file.exists() {
        let path = file.to_owned();
        return Err(BackupError::Exists { path });
    }
    // A look first: opening would make a directory that is not there.
    let is_ours = DataDir::peek(data_dir)?.instance.is_some();
    if !is_ours || !data_dir.join("store").is_dir() {
        let path = data_dir.to_owned();
        return Err(BackupError::NoStore { path });
    }
    let data = DataDir::open(data_dir)?;
    let store = Store::open(data.store())?;
    let mut staged = file.as_os_str().to_owned();
    staged.push(".partial");
    let staged = PathBuf::from(staged);
    let written = write(&store, &staged, file);
    if written.is_err() {
        // Nothing else can be done about it, and the reason is on its way.
        let _ = std::fs::remove_file(&staged);
    }
    written
}

fn write(store: &Store, staged: &Path, file: &Path) -> Result<Summary, BackupError> {
    let failed = |source| io_error(staged, source);
    let out = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(staged)
        .map_err(failed)?;
    let mut out = BufWriter::new(out);
    let summary = backup::export(store, &mut out)?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    std::fs::rename(staged, file).map_err(|source| io_error(file, source))?;
    let parent = match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|source| io_error(parent, source))?;
    Ok(summary)
}

/// Makes the store of a data directory out of a backup. The directory may be new, empty, or one of
/// ours whose store was moved away. Blocks.
///
/// # Errors
/// See [`BackupError`]; the whole file is checked before anything is written.
pub fn restore(file: &Path, data_dir: &Path) -> Result<Summary, BackupError> {
    backup::verify(&mut open(file)?)?;
    let data = DataDir::open(data_dir)?;
    let store = data.store();
    if std::fs::read_dir(&store).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(BackupError::HasStore { path: store });
    }
    Ok(backup::restore(&mut open(file)?, &store)?)
}

fn open(file: &Path) -> Result<BufReader<File>, BackupError> {
    let opened = File::open(file).map_err(|source| io_error(file, source))?;
    Ok(BufReader::new(opened))
}

fn io_error(path: &Path, source: io::Error) -> BackupError {
    let path = path.to_owned();
    BackupError::Io { path, source }
}
