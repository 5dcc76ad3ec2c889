//! Large values, stored in pieces.
//!
//! sled writes a node beyond 128 KB into a file of its own, which it never syncs and leaves behind
//! when the process dies; and a failed write of such a file hangs it. A leaf holds up to 19
//! values, so with values this small no node ever gets there. It knows bytes only.
//!
//! ```text
//! key                   the value, or of a large one: magic, length, checksum
//! 0xff key <number>     one piece of it
//! ```

use std::collections::HashMap;

use sled::{Batch, Db};

use crate::storage::Op;

/// Bytes of one piece, and of the largest value that is stored whole.
pub(super) const PIECE_BYTES: usize = 6 * 1024;
/// All pieces lie behind this; no other key may.
pub(super) const PIECES: u8 = 0xff;
/// No record begins so; a value that does is stored in pieces whatever its length.
const MAGIC: &[u8] = b"\xff\x00wh-pieces\x00";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 4;

/// What stands in the place of a large value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    len: usize,
    sum: u32,
}

impl Head {
    fn of(value: &[u8]) -> Option<Self> {
        let is_large = value.len() > PIECE_BYTES || value.starts_with(MAGIC);
        is_large.then(|| Self {
            len: value.len(),
            sum: crc32fast::hash(value),
        })
    }

    fn read(stored: &[u8]) -> Option<Self> {
        if stored.len() != HEAD_BYTES {
            return None;
        }
        let (len, sum) = stored.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
        Some(Self {
            len: usize::try_from(u64::from_be_bytes(*len)).ok()?,
            sum: u32::from_be_bytes(sum.try_into().ok()?),
        })
    }

    fn write(self) -> Vec<u8> {
        let mut stored = MAGIC.to_vec();
        let len = u64::try_from(self.len).unwrap_or(u64::MAX);
        stored.extend_from_slice(&len.to_be_bytes());
        stored.extend_from_slice(&self.sum.to_be_bytes());
        stored
    }

    fn pieces(self) -> usize {
        self.len.div_ceil(PIECE_BYTES)
    }
}

fn piece_key(key: &[u8], number: usize) -> Vec<u8> {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    [&[PIECES], key, &number.to_be_bytes()].concat()
}

/// A store that has never held a large value has nothing to look for.
fn has_pieces(db: &Db) -> sled::Result<bool> {
    Ok(db.get_gt([PIECES])?.is_some())
}

/// Applies changes one after the other. A batch, even of one, costs sled two more writes, and each
/// of them wakes all of its threads: only a change that touches pieces is one.
pub(super) fn each(db: &Db, ops: Vec<Op>) -> sled::Result<()> {
    let mut has_pieces = has_pieces(db)?;
    for op in ops {
        let has_pieces_here = has_pieces && stored_pieces(db, op.key())? > 0;
        match op {
            Op::Put { key, value } if Head::of(&value).is_none() && !has_pieces_here => {
                db.insert(key, value)?;
            }
            Op::Delete { key } if !has_pieces_here => {
                db.remove(key)?;
            }
            op => {
                db.apply_batch(batch(db, vec![op])?)?;
                has_pieces = true;
            }
        }
    }
    Ok(())
}

/// The changes as sled gets them, pieces of what is overwritten included.
pub(super) fn batch(db: &Db, ops: Vec<Op>) -> sled::Result<Batch> {
    let mut out = Batch::default();
    // Pieces of keys that stand in this batch already.
    let mut now: HashMap<Vec<u8>, usize> = HashMap::new();
    let has_pieces = has_pieces(db)?;
    for op in ops {
        let before = match now.get(op.key()) {
            Some(pieces) => *pieces,
            None if has_pieces => stored_pieces(db, op.key())?,
            None => 0,
        };
        let (key, head, value) = match op {
            Op::Put { key, value } => (key, Head::of(&value), Some(value)),
            Op::Delete { key } => (key, None, None),
        };
        let after = head.map_or(0, Head::pieces);
        for number in after..before {
            out.remove(piece_key(&key, number));
        }
        if before + after > 0 {
            now.insert(key.clone(), after);
        }
        match (head, value) {
            (Some(head), Some(value)) => {
                for (number, piece) in value.chunks(PIECE_BYTES).enumerate() {
                    out.insert(piece_key(&key, number), piece);
                }
                out.insert(key, head.write());
            }
            (None, Some(value)) => out.insert(key, value),
            (_, None) => out.remove(key),
        }
    }
    Ok(out)
}

fn stored_pieces(db: &Db, key: &[u8]) -> sled::Result<usize> {
    let head = db.get(key)?.and_then(|stored| Head::read(&stored));
    Ok(head.map_or(0, Head::pieces))
}

/// The value under the key, of which this was read. None if the key has gone meanwhile.
pub(super) fn whole(db: &Db, key: &[u8], stored: &[u8]) -> sled::Result<Option<Vec<u8>>> {
    let Some(mut head) = Head::read(stored) else {
        return Ok(Some(stored.to_vec()));
    };
    loop {
        let mut value = Vec::new();
        for number in 0..head.pieces() {
            match db.get(piece_key(key, number))? {
                Some(piece) => value.extend_from_slice(&piece),
                None => break,
            }
        }
        if Head::of(&value) == Some(head) {
            return Ok(Some(value));
        }
        // It may have been overwritten while its pieces were read.
        let Some(stored) = db.get(key)? else {
            return Ok(None);
        };
        match Head::read(&stored) {
            None => return Ok(Some(stored.to_vec())),
            Some(again) if again == head => {
                let at = sled::Error::Corruption { at: None, bt: () };
                return Err(at);
            }
            Some(again) => head = again,
        }
    }
}
