//! The bytes of a backup: written with checksums, and read with every one of them compared.
//!
//! It knows keys and values as bytes, no store and no file.

use std::io::{Read as Input, Write as Output};

use super::Summary;
use crate::Error;
use crate::storage::Entry;

const MAGIC: &[u8; 16] = b"WELLHEAD-BACKUP\n";
/// The newest format that this crate reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;
const RECORD: u8 = 1;
const FOOT: u8 = 2;
/// No key and no value that was ever stored is longer.
const BYTES_MAX: u32 = 64 << 20;

/// Writes a backup, one record after the other.
pub(super) struct Writer<S> {
    stream: Summed<S>,
    records: u64,
}

impl<S: Output> Writer<S> {
    pub(super) fn begin(stream: S, summary: &Summary) -> Result<Self, Error> {
        let mut stream = Summed::new(stream);
        stream.put(MAGIC)?;
        let head = serde_json::to_vec(summary).map_err(|e| writing(&e))?;
        stream.put(&length(&head)?)?;
        stream.put(&head)?;
        Ok(Self { stream, records: 0 })
    }

    pub(super) fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        self.records += 1;
        self.stream.put(&encode(key, value)?)
    }

    /// Writes the end, and gives the number of records.
    pub(super) fn end(mut self) -> Result<u64, Error> {
        self.stream.put(&[FOOT])?;
        self.stream.put(&self.records.to_be_bytes())?;
        let sum = self.stream.sum();
        self.stream.put(&sum.to_be_bytes())?;
        Ok(self.records)
    }
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
pub(super) struct Reader<S> {
    stream: Summed<S>,
    pub(super) summary: Summary,
    last: Option<Vec<u8>>,
}

impl<S: Input> Reader<S> {
    pub(super) fn open(stream: S) -> Result<Self, Error> {
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

    pub(super) fn next(&mut self) -> Result<Option<Entry>, Error> {
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

pub(super) fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Storage {
        action,
        reason: error.to_string(),
    }
}
