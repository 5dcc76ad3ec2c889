//! Backups: the records of a store as a stream of bytes that checks itself, and the way back.
//!
//! ```text
//! magic │ head: JSON │ record … record │ foot: count, checksum over everything before it
//! ```
//! Each record carries its own checksum. What goes out are logical records, whatever the layout
//! of the store: its journal is read into them, and the alarm index is made again from them. It
//! knows no object.

use std::fs;
use std::io::{Read as Input, Write as Output};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::meta::Meta;
use crate::storage::{Entry, Op, Order, Read as _, SledStorage, Storage as _};
use crate::{Error, Millis, Store, keys, record};

const MAGIC: &[u8; 16] = b"WELLHEAD-BACKUP\n";
/// The newest format that this crate reads, and the one it writes.
const FORMAT: u32 = 1;
const RECORD: u8 = 1;
const FOOT: u8 = 2;
/// No key and no value that was ever stored is longer.
const BYTES_MAX: u32 = 64 << 20;
const PAGE: usize = 256;
/// Records per batch of a restore; larger batches cost memory out of proportion.
const BATCH: usize = 64;
/// Batches per sync of a restore.
const SYNC_EVERY: u64 = 64;

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The format of the stream.
    pub format: u32,
    /// How often the store had been opened when the backup was made.
    pub epoch: u64,
    /// The number of the last commit in it.
    pub last_seq: u64,
    /// When it was made, in unix milliseconds.
    pub created: Millis,
    /// Records in it. Not in the head, which is written before they are counted.
    #[serde(skip)]
    pub records: u64,
}

/// Writes everything that the store holds. The caller makes the stream durable.
///
/// # Errors
/// `Corrupt` names a record that is damaged: a backup that does not hold everything is none.
/// `Storage` if the store cannot be read or the stream cannot be written.
pub fn export(store: &Store, out: &mut impl Output) -> Result<Summary, Error> {
    let mut out = Summed::new(out);
    let mut summary = Summary {
        format: FORMAT,
        epoch: store.epoch(),
        last_seq: store.last_seq(),
        created: SystemClock::new().now(),
        records: 0,
    };
    out.put(MAGIC)?;
    let head = serde_json::to_vec(&summary).map_err(|e| writing(&e))?;
    out.put(&length(&head)?)?;
    out.put(&head)?;
    let state = &*store.journal;
    let mut start = Vec::new();
    loop {
        let page = state.scan(&start, &[u8::MAX], Order::Ascending, PAGE)?;
        for (key, value) in page.iter().filter(|(key, _)| is_kept(key)) {
            check(key, value)?;
            out.put(&encode(key, value)?)?;
            summary.records += 1;
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => break,
        }
    }
    out.put(&[FOOT])?;
    out.put(&summary.records.to_be_bytes())?;
    let sum = out.sum();
    out.put(&sum.to_be_bytes())?;
    Ok(summary)
}

/// Reads a whole backup and checks all of it, without restoring anything.
///
/// # Errors
/// `BadBackup` says what is wrong with it.
pub fn verify(backup: &mut impl Input) -> Result<Summary, Error> {
    let mut reader = Reader::open(backup)?;
    while reader.next()?.is_some() {}
    Ok(reader.summary)
}

/// Makes a store of a backup in `dir`, which must be missing or empty. Until all of it has been
/// checked and is durable it lies in `<dir>.restoring`, and `dir` stays as it was.
///
/// The new store counts its openings from now (in unix seconds) on: whatever the old one has told
/// the world since the backup was made is from a lower epoch.
///
/// # Errors
/// `BadBackup` and `NotOurs` (there is something in `dir`) leave nothing behind. `Storage` and
/// `Full` if the new store cannot be written.
pub fn restore(backup: &mut impl Input, dir: &Path) -> Result<Summary, Error> {
    check_empty(dir)?;
    let staged = staged(dir);
    discard(&staged)?;
    let restored = fill(backup, &staged).and_then(|summary| {
        // Onto an empty directory this is allowed, and onto nothing too.
        fs::rename(&staged, dir).map_err(|e| failed("rename the restored store", &e))?;
        sync_parent(dir)?;
        Ok(summary)
    });
    if restored.is_err() {
        discard(&staged)?;
    }
    restored
}

fn fill(backup: &mut impl Input, staged: &Path) -> Result<Summary, Error> {
    let mut reader = Reader::open(backup)?;
    let storage = SledStorage::open(staged)?;
    let (mut batch, mut batches) = (Vec::new(), 0_u64);
    while let Some((key, value)) = reader.next()? {
        check(&key, &value)?;
        batch.extend(alarm(&key, &value)?);
        batch.push(Op::Put { key, value });
        if batch.len() >= BATCH {
            storage.apply(std::mem::take(&mut batch))?;
            batches += 1;
            if batches.is_multiple_of(SYNC_EVERY) {
                storage.sync()?;
            }
        }
    }
    batch.push(number(keys::EPOCH, epoch(&reader.summary))?);
    batch.push(number(keys::SEQ, reader.summary.last_seq)?);
    storage.apply(batch)?;
    storage.sync()?;
    Ok(reader.summary)
}

/// The epoch that the next opening counts up from: beyond any that the old store has reached,
/// which was not opened more than once a second.
fn epoch(summary: &Summary) -> u64 {
    let now_s = u64::try_from(SystemClock::new().now() / 1_000).unwrap_or_default();
    now_s.max(summary.epoch.saturating_add(1))
}

fn number(key: &[u8], number: u64) -> Result<Op, Error> {
    let value = record::seal_json(key, 0, &number)?;
    let key = key.to_vec();
    Ok(Op::Put { key, value })
}

/// What the alarm index says of an object's meta record.
fn alarm(key: &[u8], value: &[u8]) -> Result<Option<Op>, Error> {
    let Some(owner) = key.strip_prefix(keys::METAS) else {
        return Ok(None);
    };
    let meta: Meta = record::open_json("", key, value)?;
    Ok(meta.alarm.map(|alarm| Op::Put {
        key: keys::alarm_of(owner, alarm.fire_at),
        value: alarm.retry.to_be_bytes().to_vec(),
    }))
}

/// The alarm index is made again, the journal is in the records, and a store marks itself.
fn is_kept(key: &[u8]) -> bool {
    let is_layout = key.starts_with(keys::ALARMS) || key.starts_with(keys::JOURNAL);
    !is_layout && ![keys::SENTINEL, keys::EPOCH, keys::SEQ].contains(&key)
}

/// Records of objects carry a checksum of their own, which must hold.
fn check(key: &[u8], value: &[u8]) -> Result<(), Error> {
    let is_sealed = [&b"r/"[..], b"m/", b"o/"]
        .iter()
        .any(|space| key.starts_with(space));
    if is_sealed {
        record::open("", key, value)?;
    }
    if let Some(owner) = key.strip_prefix(keys::DAMAGED) {
        return Err(Error::Corrupt {
            object: keys::id_of(owner),
            key: record::printable(key),
            reason: "the object has lost a commit".to_owned(),
        });
    }
    Ok(())
}

fn encode(key: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![RECORD];
    bytes.extend(length(key)?);
    bytes.extend(length(value)?);
    bytes.extend(key);
    bytes.extend(value);
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_be_bytes());
    Ok(bytes)
}

fn length(bytes: &[u8]) -> Result<[u8; 4], Error> {
    let length = u32::try_from(bytes.len()).map_err(|e| writing(&e))?;
    Ok(length.to_be_bytes())
}

/// A stream that knows the checksum of what went through it.
struct Summed<S> {
    stream: S,
    sum: crc32fast::Hasher,
}

impl<S> Summed<S> {
    fn new(stream: S) -> Self {
        let sum = crc32fast::Hasher::new();
        Self { stream, sum }
    }

    fn sum(&self) -> u32 {
        self.sum.clone().finalize()
    }
}

impl<S: Output> Summed<S> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sum.update(bytes);
        self.stream.write_all(bytes).map_err(|e| writing(&e))
    }
}

impl<S: Input> Summed<S> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn take_number(&mut self) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    /// So many bytes, read in pieces: a damaged length must not cost memory.
    fn take_bytes(&mut self, length: u32) -> Result<Vec<u8>, Error> {
        if length > BYTES_MAX {
            return Err(bad("a record is longer than any can be"));
        }
        let mut bytes = Vec::new();
        let part = self.stream.by_ref().take(u64::from(length));
        let mut part = part;
        part.read_to_end(&mut bytes).map_err(|e| reading(&e))?;
        if u64::try_from(bytes.len()).ok() != Some(u64::from(length)) {
            return Err(bad("it ends too early"));
        }
        self.sum.update(&bytes);
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.stream.read_exact(bytes).map_err(|e| reading(&e))?;
        self.sum.update(bytes);
        Ok(())
    }
}

/// Walks over the records of a backup. The end is the end only if the foot agrees.
struct Reader<S> {
    stream: Summed<S>,
    summary: Summary,
    last: Option<Vec<u8>>,
}

impl<S: Input> Reader<S> {
    fn open(stream: S) -> Result<Self, Error> {
        let mut stream = Summed::new(stream);
        if stream.take::<16>()? != *MAGIC {
            return Err(bad("it is no backup of ours"));
        }
        let length = stream.take_number()?;
        let head = stream.take_bytes(length)?;
        let summary: Summary =
            serde_json::from_slice(&head).map_err(|e| bad(&format!("its head: {e}")))?;
        if summary.format > FORMAT {
            let (found, supported) = (summary.format, FORMAT);
            return Err(Error::Newer { found, supported });
        }
        Ok(Self {
            stream,
            summary,
            last: None,
        })
    }

    fn next(&mut self) -> Result<Option<Entry>, Error> {
        match self.stream.take::<1>()? {
            [RECORD] => self.record().map(Some),
            [FOOT] => self.foot().map(|()| None),
            _ => Err(self.damaged()),
        }
    }

    fn record(&mut self) -> Result<Entry, Error> {
        let lengths = [self.stream.take_number()?, self.stream.take_number()?];
        let [key, value] = lengths;
        let (key, value) = (self.stream.take_bytes(key)?, self.stream.take_bytes(value)?);
        let expected = encode(&key, &value)?;
        let sum = self.stream.take::<4>()?;
        if !expected.ends_with(&sum) || self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.damaged());
        }
        self.summary.records += 1;
        self.last = Some(key.clone());
        Ok((key, value))
    }

    fn foot(&mut self) -> Result<(), Error> {
        let count = u64::from_be_bytes(self.stream.take()?);
        let expected = self.stream.sum();
        if self.stream.take_number()? != expected || count != self.summary.records {
            return Err(bad("its checksum does not match"));
        }
        let mut more = [0];
        match self.stream.stream.read(&mut more) {
            Ok(0) => Ok(()),
            Ok(_) => Err(bad("there is more behind its end")),
            Err(e) => Err(reading(&e)),
        }
    }

    fn damaged(&self) -> Error {
        bad(&format!(
            "it is damaged behind record {}",
            self.summary.records
        ))
    }
}

fn staged(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push(".restoring");
    PathBuf::from(name)
}

/// Removes what an earlier restore has left, and nothing else.
fn discard(staged: &Path) -> Result<(), Error> {
    if !staged.exists() {
        return Ok(());
    }
    if !SledStorage::is_at(staged) {
        let path = staged.to_owned();
        return Err(Error::NotOurs { path });
    }
    fs::remove_dir_all(staged).map_err(|e| failed("remove an unfinished restore", &e))
}

fn check_empty(dir: &Path) -> Result<(), Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(Error::NotOurs {
                path: dir.to_owned(),
            }),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("list the directory", &e)),
    }
}

fn sync_parent(dir: &Path) -> Result<(), Error> {
    let parent = dir.canonicalize().ok();
    let Some(parent) = parent.as_deref().and_then(Path::parent) else {
        return Ok(());
    };
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|e| failed("fsync the directory", &e))
}

fn bad(reason: &str) -> Error {
    Error::BadBackup {
        reason: reason.to_owned(),
    }
}

fn reading(error: &std::io::Error) -> Error {
    if error.kind() == std::io::ErrorKind::UnexpectedEof {
        return bad("it ends too early");
    }
    failed("read the backup", error)
}

fn writing(error: &dyn std::fmt::Display) -> Error {
    failed("write the backup", error)
}

fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        action,
        reason: error.to_string(),
    }
}
