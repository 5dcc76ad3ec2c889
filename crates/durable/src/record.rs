//! Stored values: JSON in an envelope, and the view of them that an object loads from.
//!
//! The envelope carries a format, the epoch of the writer and a checksum over key and value, so
//! that damage, or a value under a wrong key, is noticed. It knows no meaning of a record.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keys::{self, ObjectKeys};
use crate::storage::{Order, Read};
use crate::{Error, ObjectId};

/// The newest record format that this crate reads, and the one it writes.
pub(crate) const FORMAT: u8 = 1;
/// Format, epoch, checksum.
const HEAD_BYTES: usize = 1 + 8 + 4;
/// Room for a usual payload, so that its buffer seldom has to grow.
const USUAL_BYTES: usize = 500;
/// Records read per call into the store while a whole prefix is walked.
const PAGE: usize = 256;

/// Encodes a value and wraps it, in one buffer.
pub(crate) fn seal(
    key: &[u8],
    epoch: u64,
    value: &impl Serialize,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut sealed = Vec::with_capacity(HEAD_BYTES + USUAL_BYTES);
    sealed.push(FORMAT);
    sealed.extend_from_slice(&epoch.to_be_bytes());
    // The checksum's place.
    sealed.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut sealed, value)?;
    let payload = sealed.get(HEAD_BYTES..).unwrap_or_default();
    let sum = checksum(key, FORMAT, epoch, payload).to_be_bytes();
    if let Some(place) = sealed.get_mut(HEAD_BYTES - sum.len()..HEAD_BYTES) {
        place.copy_from_slice(&sum);
    }
    Ok(sealed)
}

/// The same, for values of the host's own.
pub(crate) fn seal_json(key: &[u8], epoch: u64, value: &impl Serialize) -> Result<Vec<u8>, Error> {
    seal(key, epoch, value).map_err(|e| Error::Encode {
        key: printable(key),
        reason: e.to_string(),
    })
}

/// How long the payload of a wrapped value is.
pub(crate) fn payload_len(sealed: &[u8]) -> usize {
    sealed.len().saturating_sub(HEAD_BYTES)
}

/// Checks a stored value and gives its payload.
pub(crate) fn open<'v>(object: &str, key: &[u8], value: &'v [u8]) -> Result<&'v [u8], Error> {
    let corrupt = |reason: &str| Error::Corrupt {
        object: object.to_owned(),
        key: printable(key),
        reason: reason.to_owned(),
    };
    let (format, rest) = value.split_first().ok_or_else(|| corrupt("empty"))?;
    if *format > FORMAT {
        return Err(Error::Newer {
            found: u32::from(*format),
            supported: u32::from(FORMAT),
        });
    }
    let (epoch, rest) = rest
        .split_first_chunk::<8>()
        .ok_or_else(|| corrupt("cut short"))?;
    let (sum, payload) = rest
        .split_first_chunk::<4>()
        .ok_or_else(|| corrupt("cut short"))?;
    let expected = checksum(key, *format, u64::from_be_bytes(*epoch), payload);
    if u32::from_be_bytes(*sum) != expected {
        return Err(corrupt("wrong checksum"));
    }
    Ok(payload)
}

/// Checks a stored value and decodes it.
pub(crate) fn open_json<T: DeserializeOwned>(
    object: &str,
    key: &[u8],
    value: &[u8],
) -> Result<T, Error> {
    let payload = open(object, key, value)?;
    serde_json::from_slice(payload).map_err(|e| Error::Corrupt {
        object: object.to_owned(),
        key: printable(key),
        reason: e.to_string(),
    })
}

fn checksum(key: &[u8], format: u8, epoch: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[format]);
    hasher.update(&epoch.to_be_bytes());
    hasher.update(payload);
    hasher.finalize()
}

pub(crate) fn printable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).replace('\0', "/")
}

/// One object's own records, as they are on disk. Nothing of another object can be reached.
pub struct Records<'a> {
    storage: &'a dyn Read,
    keys: ObjectKeys,
    id: &'a ObjectId,
}

impl<'a> Records<'a> {
    pub(crate) fn new(storage: &'a dyn Read, namespace: &str, id: &'a ObjectId) -> Self {
        Self {
            storage,
            keys: ObjectKeys::new(namespace, id),
            id,
        }
    }

    /// The record under that key.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` for a record that cannot be read as `T`, `Storage` otherwise.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = self.keys.record(key);
        match self.storage.get(&stored)? {
            Some(value) => open_json(self.id.as_str(), &stored, &value).map(Some),
            None => Ok(None),
        }
    }

    /// At most `limit` records whose keys begin with `prefix`. `from` is where the scan begins,
    /// inclusive, in the direction of `order`.
    ///
    /// # Errors
    /// As for `get`.
    pub fn scan<T: DeserializeOwned>(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, T)>, Error> {
        let (start, end) = self.range(prefix, from, order);
        let entries = self.storage.scan(&start, &end, order, limit)?;
        entries
            .iter()
            .map(|(key, value)| self.decode(key, value))
            .collect()
    }

    /// Every record whose key begins with `prefix`, ascending.
    ///
    /// # Errors
    /// As for `get`.
    pub fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, Error> {
        let (mut start, end) = self.range(prefix, None, Order::Ascending);
        let mut found = Vec::new();
        loop {
            let page = self.storage.scan(&start, &end, Order::Ascending, PAGE)?;
            for (key, value) in &page {
                found.push(self.decode(key, value)?);
            }
            match page.into_iter().nth(PAGE - 1) {
                Some((key, _)) => start = after(key),
                None => return Ok(found),
            }
        }
    }

    fn range(&self, prefix: &str, from: Option<&str>, order: Order) -> (Vec<u8>, Vec<u8>) {
        let from = from.map(|key| self.keys.record(key));
        range(self.keys.record(prefix), from, order)
    }

    fn decode<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<(String, T), Error> {
        let name = self.keys.record_name(key).ok_or_else(|| Error::Corrupt {
            object: self.id.to_string(),
            key: printable(key),
            reason: "the key is no text".to_owned(),
        })?;
        Ok((name.to_owned(), open_json(self.id.as_str(), key, value)?))
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("id", self.id)
            .finish_non_exhaustive()
    }
}

/// The range of a scan over everything below `whole` that begins at `from`, inclusive.
pub(crate) fn range(whole: Vec<u8>, from: Option<Vec<u8>>, order: Order) -> (Vec<u8>, Vec<u8>) {
    let end = keys::end_of(&whole);
    match (from, order) {
        (Some(key), Order::Ascending) => (key.max(whole), end),
        (Some(key), Order::Descending) => (whole, after(key).min(end)),
        (None, _) => (whole, end),
    }
}

/// The smallest key behind this one.
pub(crate) fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, Op, Storage};

    fn put(storage: &MemoryStorage, id: &ObjectId, key: &str, value: u32) {
        let key = ObjectKeys::new("rig", id).record(key);
        let value = seal_json(&key, 1, &value).unwrap();
        storage.apply(vec![Op::Put { key, value }]).unwrap();
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let sealed = seal_json(b"k", 7, &"hello").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open_json::<String>("o", b"k", &bad).is_err(), "bit {bit}");
        }
        assert_eq!(open_json::<String>("o", b"k", &sealed).unwrap(), "hello");
    }

    #[test]
    fn a_value_under_another_key_is_noticed() {
        let sealed = seal_json(b"k", 7, &"hello").unwrap();
        let found = open_json::<String>("o", b"other", &sealed);
        assert!(matches!(found, Err(Error::Corrupt { .. })), "{found:?}");
    }

    #[test]
    fn a_later_format_is_named() {
        let mut sealed = seal_json(b"k", 7, &"hello").unwrap();
        sealed[0] = FORMAT + 1;
        let found = open_json::<String>("o", b"k", &sealed);
        assert_eq!(
            found,
            Err(Error::Newer {
                found: 2,
                supported: 1
            })
        );
    }

    #[test]
    fn scans_stay_inside_prefix_and_object_in_both_orders() {
        let (storage, id) = (MemoryStorage::new(), ObjectId::from_name("a").unwrap());
        let other = ObjectId::from_name("a2").unwrap();
        for (n, key) in ["j/1", "j/2", "j/3", "k/1"].into_iter().enumerate() {
            put(&storage, &id, key, u32::try_from(n).unwrap());
            put(&storage, &other, key, 99);
        }
        let records = Records::new(&storage, "rig", &id);
        let keys = |from, limit, order| -> Vec<(String, u32)> {
            records.scan("j/", from, limit, order).unwrap()
        };
        let named = |found: Vec<(String, u32)>| -> String {
            let words: Vec<String> = found
                .into_iter()
                .map(|(key, n)| format!("{key}={n}"))
                .collect();
            words.join(" ")
        };
        assert_eq!(named(keys(None, 9, Order::Ascending)), "j/1=0 j/2=1 j/3=2");
        assert_eq!(named(keys(None, 2, Order::Descending)), "j/3=2 j/2=1");
        assert_eq!(named(keys(Some("j/2"), 9, Order::Ascending)), "j/2=1 j/3=2");
        assert_eq!(
            named(keys(Some("j/2"), 9, Order::Descending)),
            "j/2=1 j/1=0"
        );
        assert_eq!(
            named(keys(Some("z"), 9, Order::Descending)),
            "j/3=2 j/2=1 j/1=0"
        );
        assert_eq!(named(keys(Some("z"), 9, Order::Ascending)), "");
    }

    #[test]
    fn all_walks_over_several_pages() {
        let (storage, id) = (MemoryStorage::new(), ObjectId::from_name("a").unwrap());
        for n in 0..600 {
            put(&storage, &id, &format!("{n:04}"), n);
        }
        let found: Vec<(String, u32)> = Records::new(&storage, "rig", &id).all("").unwrap();
        assert_eq!(found.len(), 600);
        assert_eq!(found[599], ("0599".to_owned(), 599));
    }
}
