//! The data directory: whose it is, who may use it, and where everything lies in it.
//!
//! Owns the marker, the lock and the layout. Paths are only ever joined from validated ids. It
//! must not know what the parts keep in their directories.

use std::{
    fs::{DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rig::{RigId, TownId};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const MARKER: &str = "wellhead.json";
const MARKER_STAGED: &str = ".wellhead.json.new";
const LOCK: &str = "lock";
/// The layout that this version reads and writes.
const FORMAT: u64 = 1;
const MARKER_BYTES_MAX: u64 = 64 << 10;

/// A data directory that is ours and that nobody else uses for as long as this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    /// Holds the lock; closing it releases the lock, also when the process is killed.
    lock: Mutex<Option<File>>,
}

/// What a look at a data directory shows; all unset for one that a first start would make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirFacts {
    /// The id that marks its processes, once it has one.
    pub instance: Option<String>,
    /// Whether a living process uses it.
    pub is_held: bool,
    /// That process, where it has written it down.
    pub pid: Option<u32>,
}

/// Why a data directory can not be used. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// A relative path would mean another directory after a change of directory.
    #[error("the data directory {path} is a relative path; give an absolute one")]
    Relative {
        /// As given.
        path: PathBuf,
    },
    /// Only the last directory is made.
    #[error("{parent} does not exist; make it first, or set another data directory")]
    ParentMissing {
        /// What is missing.
        parent: PathBuf,
    },
    /// Something else stands there.
    #[error("{path} is no directory; set another data directory")]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// It holds files and no marker of ours.
    #[error("{path} holds other files; set an empty or a new directory as the data directory")]
    NotOurs {
        /// What was named.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "{path} was written by a newer wellhead (format {format}, this one knows {FORMAT}); use \
         that version"
    )]
    Newer {
        /// What was named.
        path: PathBuf,
        /// What its marker says.
        format: u64,
    },
    /// The marker does not read back.
    #[error("{path} is damaged ({reason}); restore it from a backup")]
    Marker {
        /// The marker.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process uses it.
    #[error(
        "another wellhead{} uses {path}; stop it, or set another data directory",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    Held {
        /// What was named.
        path: PathBuf,
        /// The holder; none where it has only just begun.
        pid: Option<u32>,
    },
    /// The system said no.
    #[error("{path}: {source}; check the disk and who owns the directory")]
    Io {
        /// Where.
        path: PathBuf,
        /// The system's own words.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Marker {
    format: u64,
    instance: String,
}

impl DataDir {
    /// Opens or makes the directory and takes its lock. Blocks on the disk: call it at the start.
    ///
    /// # Errors
    /// See [`DataDirError`]; a directory that is not ours is left untouched.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let path = path.into();
        if !path.is_absolute() {
            return Err(DataDirError::Relative { path });
        }
        make(&path)?;
        // Nothing is written before it is known to be ours.
        let is_new = inspect(&path)?.is_none();
        let lock = take_lock(&path)?;
        // Whoever held the lock until now may have written it.
        let instance = match inspect(&path)? {
            Some(marker) => marker.instance,
            None => write_marker(&path)?,
        };
        let private = Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, private).map_err(|error| failed(&path, error))?;
        tracing::debug!(path = %path.display(), is_new, instance, "data directory opened");
        Ok(Self {
            path,
            instance,
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Gives the directory free although handles to it are still held: everything that wrote to it
    /// has ended.
    pub(crate) fn release(&self) {
        let lock = self
            .lock
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(lock) = lock {
            // Closing alone leaves it held by a child that is between fork and exec just now.
            // An error leaves what closing does.
            let _ = flock(&lock, FlockOperation::Unlock);
        }
    }

    /// Looks at a directory without changing it. Blocks on the disk. For the moment of the look a
    /// start may find it in use.
    ///
    /// # Errors
    /// What [`DataDir::open`] would say, but for `Held`.
    pub fn peek(path: &Path) -> Result<DirFacts, DataDirError> {
        if !path.is_absolute() {
            let path = path.to_owned();
            return Err(DataDirError::Relative { path });
        }
        if !path.exists() {
            let parent = path.parent().unwrap_or(path).to_owned();
            return if parent.is_dir() {
                Ok(DirFacts::default())
            } else {
                Err(DataDirError::ParentMissing { parent })
            };
        }
        if !path.is_dir() {
            let path = path.to_owned();
            return Err(DataDirError::NotADirectory { path });
        }
        let instance = inspect(path)?.map(|marker| marker.instance);
        let (is_held, pid) = holder(path);
        Ok(DirFacts {
            instance,
            is_held,
            pid,
        })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id that marks processes as started from this directory; made once, kept for ever.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The durable store.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// What a town keeps in files.
    pub fn town(&self, town: &TownId) -> PathBuf {
        self.path.join("towns").join(town.as_str())
    }

    /// A rig's repository and worktrees.
    pub fn rig(&self, town: &TownId, rig: &RigId) -> PathBuf {
        self.town(town).join("rigs").join(rig.as_str())
    }

    /// The private directories of a town's `kilo serve` processes.
    pub fn servers(&self, town: &TownId) -> PathBuf {
        self.town(town).join("servers")
    }

    /// Stored credentials.
    pub fn secrets(&self) -> PathBuf {
        self.path.join("secrets")
    }

    /// Our own installation of kilo, if there is one.
    pub fn kilo(&self) -> PathBuf {
        self.path.join("kilo")
    }
}

fn failed(path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io {
        path: path.to_owned(),
        source,
    }
}

fn make(path: &Path) -> Result<(), DataDirError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if path.is_dir() {
                return Ok(());
            }
            Err(DataDirError::NotADirectory {
                path: path.to_owned(),
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path).to_owned();
            Err(DataDirError::ParentMissing { parent })
        }
        Err(error) => Err(failed(path, error)),
    }
}

/// The marker; `None` for a directory that is empty but for what a first start writes before it.
fn inspect(path: &Path) -> Result<Option<Marker>, DataDirError> {
    let file = path.join(MARKER);
    match File::open(&file) {
        Ok(marker) => return read_marker(path, &file, marker).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(&file, error)),
    }
    for entry in std::fs::read_dir(path).map_err(|error| failed(path, error))? {
        let name = entry.map_err(|error| failed(path, error))?.file_name();
        if name != LOCK && name != MARKER_STAGED {
            return Err(DataDirError::NotOurs {
                path: path.to_owned(),
            });
        }
    }
    Ok(None)
}

fn read_marker(path: &Path, file: &Path, marker: File) -> Result<Marker, DataDirError> {
    /// Only this is promised by every format.
    #[derive(Deserialize)]
    struct Format {
        format: u64,
    }
    let mut text = String::new();
    let read = marker.take(MARKER_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| failed(file, error))?;
    let damaged = |error: serde_json::Error| DataDirError::Marker {
        path: file.to_owned(),
        reason: error.to_string(),
    };
    let Format { format } = serde_json::from_str(&text).map_err(damaged)?;
    if format > FORMAT {
        return Err(DataDirError::Newer {
            path: path.to_owned(),
            format,
        });
    }
    serde_json::from_str(&text).map_err(damaged)
}

/// Returns the new instance id, once the marker would survive a power loss.
fn write_marker(path: &Path) -> Result<String, DataDirError> {
    let instance = uuid::Uuid::new_v4().to_string();
    let (staged, file) = (path.join(MARKER_STAGED), path.join(MARKER));
    let marker = Marker {
        format: FORMAT,
        instance: instance.clone(),
    };
    let write = || -> io::Result<()> {
        let mut out = private().truncate(true).open(&staged)?;
        out.write_all(&serde_json::to_vec(&marker)?)?;
        out.sync_all()?;
        std::fs::rename(&staged, &file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| failed(&file, error))?;
    Ok(instance)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Whether the lock is taken, and by whom. Opened for reading alone: nothing is made or written.
fn holder(path: &Path) -> (bool, Option<u32>) {
    let Ok(lock) = File::open(path.join(LOCK)) else {
        return (false, None);
    };
    let is_held = flock(&lock, FlockOperation::NonBlockingLockShared)
        .is_err_and(|error| error == rustix::io::Errno::WOULDBLOCK);
    let mut text = String::new();
    // Half a word is no pid: the holder may be writing it right now.
    let _ = lock.take(32).read_to_string(&mut text);
    let pid = text.strip_suffix('\n').and_then(|pid| pid.parse().ok());
    (is_held, pid.filter(|_| is_held))
}

fn take_lock(path: &Path) -> Result<File, DataDirError> {
    let name = path.join(LOCK);
    let mut file = private()
        .open(&name)
        .map_err(|error| failed(&name, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // Half a word is no pid: the holder may be writing it right now.
            let _ = file.take(32).read_to_string(&mut text);
            let pid = text.strip_suffix('\n').and_then(|pid| pid.parse().ok());
            return Err(DataDirError::Held {
                path: path.to_owned(),
                pid,
            });
        }
        Err(error) => return Err(failed(&name, error.into())),
    }
    let write = |file: &mut File| -> io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    write(&mut file).map_err(|error| failed(&name, error))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(path: &Path) -> Vec<String> {
        let names = std::fs::read_dir(path)
            .unwrap()
            .map(|e| e.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_directory_is_private_and_keeps_its_instance() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("data");
        let first = DataDir::open(&path).unwrap().instance().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let marker = std::fs::read_to_string(path.join(MARKER)).unwrap();
        assert_eq!(marker, format!(r#"{{"format":1,"instance":"{first}"}}"#));
        assert_eq!(DataDir::open(&path).unwrap().instance(), first);
    }

    #[test]
    fn an_empty_directory_is_taken_and_made_private() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(
            data.path().metadata().unwrap().permissions().mode() & 0o777,
            0o700
        );
    }

    #[test]
    fn what_is_not_ours_stays_untouched() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        let error = DataDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, DataDirError::NotOurs { .. }), "{error}");
        assert_eq!(listing(dir.path()), ["letter.txt"]);
    }

    #[test]
    fn a_newer_format_and_a_damaged_marker_stay_untouched() {
        for (text, is_newer) in [
            (r#"{"format":2,"more":[]}"#, true),
            (r#"{"format":1}"#, false),
            ("", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join(MARKER), text).unwrap();
            let error = DataDir::open(dir.path()).unwrap_err();
            assert_eq!(
                matches!(error, DataDirError::Newer { format: 2, .. }),
                is_newer,
                "{error}"
            );
            assert_eq!(
                matches!(error, DataDirError::Marker { .. }),
                !is_newer,
                "{error}"
            );
            assert_eq!(listing(dir.path()), [MARKER]);
        }
    }

    #[test]
    fn a_second_opener_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = std::sync::Arc::new(DataDir::open(dir.path()).unwrap());
        let error = DataDir::open(dir.path()).unwrap_err();
        let ours = std::process::id();
        assert!(matches!(&error, DataDirError::Held { pid: Some(pid), .. } if *pid == ours));
        assert!(error.to_string().contains(&ours.to_string()), "{error}");
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_crash_before_the_marker_and_a_dead_holder_are_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK), "4194304\n").unwrap();
        std::fs::write(dir.path().join(MARKER_STAGED), "{\"for").unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        assert_eq!(
            uuid::Uuid::parse_str(data.instance())
                .unwrap()
                .get_version_num(),
            4
        );
    }

    #[test]
    fn unusable_paths_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = DataDir::open("data").unwrap_err();
        assert!(matches!(error, DataDirError::Relative { .. }), "{error}");
        let error = DataDir::open(dir.path().join("a/b")).unwrap_err();
        assert!(
            matches!(error, DataDirError::ParentMissing { .. }),
            "{error}"
        );
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file).unwrap_err();
        assert!(
            matches!(error, DataDirError::NotADirectory { .. }),
            "{error}"
        );
    }

    #[test]
    fn paths_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let (town, rig) = (TownId::new("t").unwrap(), RigId::new("r..x").unwrap());
        assert_eq!(data.rig(&town, &rig), dir.path().join("towns/t/rigs/r..x"));
        assert!(data.servers(&town).starts_with(data.town(&town)));
    }
}
