//! How a group of commits is written: one record, in which each commit can be checked alone.
//!
//! ```text
//! head     format, epoch, first number, count, per commit: owner, length, checksum; checksum
//! bodies   per commit its changes
//! tail     per commit: length, checksum; first number, count; checksum
//! ```
//! The tail repeats what is needed to find the bodies: damage at one place makes one commit
//! unreadable at most, and its owner is known. It knows nothing of where records are kept.

use crate::storage::Op;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 8 + 4;
const ENTRY_BYTES: usize = 2 + 8 + 4;
const TAIL_ENTRY_BYTES: usize = 8 + 4;
const TAIL_END_BYTES: usize = 8 + 4 + 4;
const PUT: u8 = 0;
const DELETE: u8 = 1;

/// One commit: the object that it belongs to, and what it changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Empty for the store's own.
    pub(crate) namespace: &'a str,
    pub(crate) id: &'a str,
    pub(crate) ops: &'a [Op],
}

/// A group read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) first: u64,
    pub(super) commits: Vec<Commit>,
}

/// One commit of a group read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Commit {
    Whole(Vec<Op>),
    /// Its changes are lost; the owner is `<ns>\0<id>`.
    Damaged(Vec<u8>),
}

/// The whole record of commits that begin with the number `first`.
pub(super) fn encode(first: u64, epoch: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let heads: usize = parts.iter().map(|p| ENTRY_BYTES + owner_len(p)).sum();
    let bodies: usize = parts.iter().map(|part| body_len(part.ops)).sum();
    let tail = parts.len() * TAIL_ENTRY_BYTES + TAIL_END_BYTES;
    let mut out = Vec::with_capacity(HEAD_BYTES + heads + 4 + bodies + tail);
    out.push(FORMAT);
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(&first.to_be_bytes());
    out.extend_from_slice(&number(parts.len()).to_be_bytes());
    // Checksums are known when the bodies have been written.
    let table = out.len();
    out.resize(table + heads + 4, 0);
    let (mut head, mut tail) = (Vec::with_capacity(heads), Vec::with_capacity(tail));
    for part in parts {
        let begin = out.len();
        write_body(&mut out, part.ops);
        let body = out.get(begin..).unwrap_or_default();
        let (len, sum) = (long(body.len()), crc32fast::hash(body));
        write_owner(&mut head, part);
        for table in [&mut head, &mut tail] {
            table.extend_from_slice(&len.to_be_bytes());
            table.extend_from_slice(&sum.to_be_bytes());
        }
    }
    if let Some(place) = out.get_mut(table..table + heads) {
        place.copy_from_slice(&head);
    }
    let sum = crc32fast::hash(out.get(..table + heads).unwrap_or_default());
    if let Some(place) = out.get_mut(table + heads..table + heads + 4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    tail.extend_from_slice(&first.to_be_bytes());
    tail.extend_from_slice(&number(parts.len()).to_be_bytes());
    let sum = crc32fast::hash(&tail);
    out.extend_from_slice(&tail);
    out.extend_from_slice(&sum.to_be_bytes());
    out
}

fn write_owner(out: &mut Vec<u8>, part: &Part<'_>) {
    let len = u16::try_from(owner_len(part)).unwrap_or_default();
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(part.namespace.as_bytes());
    out.push(0);
    out.extend_from_slice(part.id.as_bytes());
}

fn owner_len(part: &Part<'_>) -> usize {
    part.namespace.len() + 1 + part.id.len()
}

fn body_len(ops: &[Op]) -> usize {
    let len = |op: &Op| match op {
        Op::Put { key, value } => 1 + 4 + key.len() + 4 + value.len(),
        Op::Delete { key } => 1 + 4 + key.len(),
    };
    ops.iter().map(len).sum()
}

fn write_body(out: &mut Vec<u8>, ops: &[Op]) {
    for op in ops {
        let (kind, value) = match op {
            Op::Put { value, .. } => (PUT, Some(value)),
            Op::Delete { .. } => (DELETE, None),
        };
        out.push(kind);
        for bytes in std::iter::once(op.key()).chain(value.map(Vec::as_slice)) {
            out.extend_from_slice(&number(bytes.len()).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// Reads a record back. None if not even the owners of its damaged commits can be told.
pub(super) fn decode(record: &[u8]) -> Option<Group> {
    match (read_head(record), read_tail(record)) {
        (Some(head), _) => Some(head.read(record)),
        // Without the head the owners are not known, but whole commits need none.
        (None, Some(tail)) => {
            let group = tail.read(record);
            let whole = |commit: &Commit| matches!(commit, Commit::Whole(_));
            group.commits.iter().all(whole).then_some(group)
        }
        (None, None) => None,
    }
}

/// Where the bodies are, and what they have to be.
struct Table {
    first: u64,
    bodies_at: usize,
    bodies: Vec<Body>,
}

struct Body {
    owner: Vec<u8>,
    len: usize,
    sum: u32,
}

impl Table {
    fn read(self, record: &[u8]) -> Group {
        let mut rest = record.get(self.bodies_at..).unwrap_or_default();
        let mut commits = Vec::with_capacity(self.bodies.len());
        for body in self.bodies {
            let (bytes, behind) = rest.split_at_checked(body.len).unwrap_or((&[], &[]));
            rest = behind;
            let whole = bytes.len() == body.len && crc32fast::hash(bytes) == body.sum;
            let ops = if whole { read_body(bytes) } else { None };
            commits.push(ops.map_or(Commit::Damaged(body.owner), Commit::Whole));
        }
        Group {
            first: self.first,
            commits,
        }
    }
}

fn read_head(record: &[u8]) -> Option<Table> {
    let mut at = record;
    if take::<1>(&mut at)? != [FORMAT] {
        return None;
    }
    let _epoch = take_u64(&mut at)?;
    let (first, count) = (take_u64(&mut at)?, take_u32(&mut at)?);
    let mut bodies = Vec::new();
    for _ in 0..count {
        let len = u16::from_be_bytes(take(&mut at)?);
        let owner = take_slice(&mut at, usize::from(len))?.to_vec();
        let len = usize::try_from(take_u64(&mut at)?).ok()?;
        let sum = take_u32(&mut at)?;
        bodies.push(Body { owner, len, sum });
    }
    let table = record.len() - at.len();
    let sum = take_u32(&mut at)?;
    (crc32fast::hash(record.get(..table)?) == sum).then_some(Table {
        first,
        bodies_at: table + 4,
        bodies,
    })
}

fn read_tail(record: &[u8]) -> Option<Table> {
    let mut end = record.get(record.len().checked_sub(TAIL_END_BYTES)?..)?;
    let (first, count) = (take_u64(&mut end)?, take_u32(&mut end)?);
    let sum = take_u32(&mut end)?;
    let len = usize::try_from(count).ok()?.checked_mul(TAIL_ENTRY_BYTES)?;
    let begin = record.len().checked_sub(len.checked_add(TAIL_END_BYTES)?)?;
    let tail = record.get(begin..record.len() - 4)?;
    if crc32fast::hash(tail) != sum {
        return None;
    }
    let (mut at, mut bodies, mut all) = (tail, Vec::new(), 0_usize);
    for _ in 0..count {
        let len = usize::try_from(take_u64(&mut at)?).ok()?;
        let sum = take_u32(&mut at)?;
        all = all.checked_add(len)?;
        let owner = Vec::new();
        bodies.push(Body { owner, len, sum });
    }
    let bodies_at = begin.checked_sub(all)?;
    Some(Table {
        first,
        bodies_at,
        bodies,
    })
}

fn read_body(mut at: &[u8]) -> Option<Vec<Op>> {
    let mut ops = Vec::new();
    while !at.is_empty() {
        let [kind] = take(&mut at)?;
        let key = take_bytes(&mut at)?;
        ops.push(match kind {
            PUT => Op::Put {
                key,
                value: take_bytes(&mut at)?,
            },
            DELETE => Op::Delete { key },
            _ => return None,
        });
    }
    Some(ops)
}

fn take<const N: usize>(at: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = at.split_first_chunk::<N>()?;
    *at = rest;
    Some(*bytes)
}

fn take_slice<'a>(at: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (bytes, rest) = at.split_at_checked(len)?;
    *at = rest;
    Some(bytes)
}

fn take_bytes(at: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(take_u32(at)?).ok()?;
    take_slice(at, len).map(<[u8]>::to_vec)
}

fn take_u32(at: &mut &[u8]) -> Option<u32> {
    take(at).map(u32::from_be_bytes)
}

fn take_u64(at: &mut &[u8]) -> Option<u64> {
    take(at).map(u64::from_be_bytes)
}

/// Keys, values and counts are bounded far below this.
fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn long(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ops(n: u8) -> Vec<Op> {
        let put = |k: u8| Op::Put {
            key: vec![n, k],
            value: vec![k; usize::from(n) * 3],
        };
        let mut ops: Vec<Op> = (0..n).map(put).collect();
        ops.push(Op::Delete { key: vec![n] });
        ops
    }

    fn record() -> (Vec<Vec<Op>>, Vec<u8>) {
        let all: Vec<Vec<Op>> = (1..4).map(ops).collect();
        let part = |(ops, id)| Part {
            namespace: "rig",
            id,
            ops,
        };
        let slices = all.iter().map(Vec::as_slice);
        let parts: Vec<Part<'_>> = slices.zip(["a", "bb", "c"]).map(part).collect();
        let record = encode(9, 2, &parts);
        (all, record)
    }

    #[test]
    fn a_group_reads_back() {
        let (all, record) = record();
        let group = decode(&record).unwrap();
        assert_eq!(group.first, 9);
        let whole: Vec<Commit> = all.into_iter().map(Commit::Whole).collect();
        assert_eq!(group.commits, whole);
    }

    #[test]
    fn any_flipped_bit_costs_one_commit_at_most_and_names_its_owner() {
        let (all, record) = record();
        let mut lost = 0;
        for bit in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let group = decode(&bad).unwrap_or_else(|| panic!("bit {bit}: nothing is left"));
            assert_eq!(group.first, 9, "bit {bit}");
            let mut damaged = Vec::new();
            for (n, commit) in group.commits.into_iter().enumerate() {
                match commit {
                    Commit::Whole(ops) => assert_eq!(ops, all[n], "bit {bit}"),
                    Commit::Damaged(owner) => damaged.push((n, owner)),
                }
            }
            let names = [&b"rig\0a"[..], b"rig\0bb", b"rig\0c"];
            assert!(damaged.len() <= 1, "bit {bit}: {damaged:?}");
            assert!(damaged.iter().all(|(n, owner)| owner == names[*n]));
            lost += damaged.len();
        }
        assert!(lost > 0, "no flip was noticed");
    }
}
