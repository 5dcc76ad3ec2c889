//! The seal of a closed store: names, lengths and checksums of the database's files.
//!
//! sled takes a damaged tail of its log for a torn write and cuts it off without a word, and what
//! it cut off it overwrites. So an orderly end seals the files, and the next opening compares them
//! before sled may touch one. Then the seal goes: after a crash there is none, and what a crash
//! can do to the tail is what sled expects. It knows nothing of what the files hold.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{failed, marker};
use crate::Error;

const SEAL: &str = "SEAL";
const SEAL_STAGED: &str = "SEAL.new";
/// A larger database is not sealed: reading all of it would hold up every start.
const SEALED_BYTES_MAX: u64 = 1 << 30;
const CHUNK_BYTES: usize = 1 << 20;

/// One file, as it was when the store was closed.
#[derive(Debug, PartialEq, Eq)]
struct Sealed {
    /// Relative to the store's directory.
    name: String,
    bytes: u64,
    sum: u32,
}

/// Compares the files with the seal, if there is one, and takes it away.
pub(super) fn break_open(dir: &Path) -> Result<(), Error> {
    let path = dir.join(SEAL);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => String::new(),
        Err(e) => return Err(failed("read the seal", &e)),
    };
    if let Some(sealed) = parse(&text) {
        compare(dir, &sealed)?;
    } else {
        // It protects the files and says nothing about them when it is damaged itself.
        tracing::warn!(path = %path.display(), "the seal is damaged and is not used");
    }
    fs::remove_file(&path).map_err(|e| failed("remove the seal", &e))?;
    // It must be gone before the files change: after a power cut it would accuse them.
    marker::sync_dir(dir)
}

/// Seals the files, which must be on stable storage. Nobody may write to them any more.
pub(super) fn put_on(dir: &Path) -> io::Result<()> {
    let names = database_files(dir)?;
    let sizes = names.iter().map(|name| fs::metadata(dir.join(name)));
    let mut total = 0;
    for size in sizes {
        total += size?.len();
    }
    if total > SEALED_BYTES_MAX {
        return Ok(());
    }
    let mut text = Vec::new();
    for name in names {
        let (bytes, sum) = measure(&dir.join(&name))?;
        writeln!(text, "{sum:08x} {bytes} {name}")?;
    }
    let sum = crc32fast::hash(&text);
    writeln!(text, "{sum:08x} seal")?;
    let staged = dir.join(SEAL_STAGED);
    let mut file = File::create(&staged)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&staged, dir.join(SEAL))?;
    File::open(dir)?.sync_all()
}

/// The seal's lines, if its last line vouches for them.
fn parse(text: &str) -> Option<Vec<Sealed>> {
    let body = text.strip_suffix(" seal\n")?;
    let (body, sum) = body.split_at_checked(body.len().checked_sub(8)?)?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    body.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Sealed> {
    let (sum, rest) = line.split_once(' ')?;
    let (bytes, name) = rest.split_once(' ')?;
    Some(Sealed {
        name: name.to_owned(),
        bytes: bytes.parse().ok()?,
        sum: u32::from_str_radix(sum, 16).ok()?,
    })
}

fn compare(dir: &Path, sealed: &[Sealed]) -> Result<(), Error> {
    for one in sealed {
        let path = dir.join(&one.name);
        let damaged = |reason: String| Error::Damaged {
            path: path.clone(),
            reason,
        };
        let (bytes, sum) = measure(&path).map_err(|e| damaged(e.to_string()))?;
        if bytes != one.bytes {
            let was = one.bytes;
            return Err(damaged(format!(
                "it has {bytes} bytes and had {was} when it was closed"
            )));
        }
        if sum != one.sum {
            return Err(damaged(
                "its content is not what it was when it was closed".to_owned(),
            ));
        }
    }
    let strange = database_files(dir)
        .map_err(|e| failed("list the directory", &e))?
        .into_iter()
        .find(|name| sealed.iter().all(|one| one.name != *name));
    match strange {
        None => Ok(()),
        Some(name) => Err(Error::Damaged {
            path: dir.join(name),
            reason: "it was not there when the store was closed".to_owned(),
        }),
    }
}

/// The files that sled writes, by name.
fn database_files(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), "db" | "conf") || name.starts_with("snap.") {
            names.push(name);
        }
    }
    match fs::read_dir(dir.join("blobs")) {
        Ok(blobs) => {
            for entry in blobs {
                names.push(format!("blobs/{}", entry?.file_name().to_string_lossy()));
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    names.sort();
    Ok(names)
}

fn measure(path: &PathBuf) -> io::Result<(u64, u32)> {
    let (mut file, mut chunk) = (File::open(path)?, vec![0; CHUNK_BYTES]);
    let (mut bytes, mut sum) = (0, crc32fast::Hasher::new());
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, sum.finalize()));
        }
        sum.update(chunk.get(..read).unwrap_or_default());
        bytes += u64::try_from(read).unwrap_or_default();
    }
}
