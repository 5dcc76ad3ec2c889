//! A store in memory, for tests and trials. Nothing outlives it; `sync` is a promise without work.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::{Entry, Op, Order, Read, Storage};
use crate::Error;

pub(super) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Ordered bytes in a map.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    map: RwLock<Map>,
}

impl MemoryStorage {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    // A reader or writer that panicked has not left a half-applied batch: `apply` cannot fail.
    fn read(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for MemoryStorage {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.read().get(key).cloned())
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        Ok(scan(&self.read(), start, end, order, limit))
    }
}

impl Storage for MemoryStorage {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
        apply(&mut map, ops);
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        Ok(())
    }
}

pub(super) fn scan(map: &Map, start: &[u8], end: &[u8], order: Order, limit: usize) -> Vec<Entry> {
    // An inverted range is empty; BTreeMap would panic on it.
    if start >= end {
        return Vec::new();
    }
    let range = map.range(start.to_vec()..end.to_vec());
    let copy = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    match order {
        Order::Ascending => range.take(limit).map(copy).collect(),
        Order::Descending => range.rev().take(limit).map(copy).collect(),
    }
}

pub(super) fn apply(map: &mut Map, ops: Vec<Op>) {
    for op in ops {
        match op {
            Op::Put { key, value } => drop(map.insert(key, value)),
            Op::Delete { key } => drop(map.remove(&key)),
        }
    }
}
