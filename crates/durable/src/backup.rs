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
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::{Clock, SystemClock};
use crate::meta::Meta;
use crate::storage::{Op, Order, Read, SledStorage, Storage};
use crate::{Error, Millis, Store, journal, keys, record};

mod stream;

use stream::{FORMAT, Reader, Writer, failed};

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
    let head = Summary::of(store.epoch(), store.last_seq());
    write(&*store.journal, head, check, out)
}

/// Writes what a storage holds of which no store has been made: its journal is read, and nothing
/// is changed. A record that is damaged goes into the backup as it is, and restoring will name it:
/// what holds everything must not wait for what is damaged.
pub(crate) fn export_as_it_is(
    storage: &Arc<dyn Storage>,
    out: &mut impl Output,
) -> Result<Summary, Error> {
    let epoch = Store::last_epoch(&**storage)?;
    let journal = journal::Writer::open(Arc::clone(storage), epoch, None)?;
    let head = Summary::of(epoch, journal.last());
    write(&**journal.journal(), head, warn, out)
}

type Check = fn(&[u8], &[u8]) -> Result<(), Error>;

fn write(
    state: &dyn Read,
    mut summary: Summary,
    check: Check,
    out: &mut impl Output,
) -> Result<Summary, Error> {
    let mut writer = Writer::begin(out, &summary)?;
    let mut start = Vec::new();
    loop {
        let page = state.scan(&start, &[u8::MAX], Order::Ascending, PAGE)?;
        for (key, value) in page.iter().filter(|(key, _)| is_kept(key)) {
            check(key, value)?;
            writer.record(key, value)?;
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => break,
        }
    }
    summary.records = writer.end()?;
    Ok(summary)
}

impl Summary {
    fn of(epoch: u64, last_seq: u64) -> Self {
        Self {
            format: FORMAT,
            epoch,
            last_seq,
            created: SystemClock::new().now(),
            records: 0,
        }
    }
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
/// the world since the backup was made is from a lower epoch. `Store::restored` is that number.
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
    let epoch = epoch(&reader.summary);
    batch.push(number(keys::EPOCH, epoch)?);
    batch.push(number(keys::RESTORED, epoch)?);
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

#[expect(
    clippy::unnecessary_wraps,
    reason = "it stands in the place of `check`"
)]
fn warn(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if let Err(error) = check(key, value) {
        tracing::error!(%error, "the backup holds a damaged record");
    }
    Ok(())
}

/// The alarm index is made again, the journal is in the records, and a store marks itself.
fn is_kept(key: &[u8]) -> bool {
    let is_layout = key.starts_with(keys::ALARMS) || key.starts_with(keys::JOURNAL);
    !is_layout && ![keys::SENTINEL, keys::EPOCH, keys::SEQ, keys::RESTORED].contains(&key)
}

/// Records of objects carry a checksum of their own, which must hold.
fn check(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if keys::is_sealed(key) {
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
