//! The disk of the simulation: `FaultyStorage`, with every write in the trace.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use durable::storage::{Entry, FaultyStorage, Op, Read, Space};
use durable::{Error, Order, Storage};

use super::lab::Lab;

#[derive(Debug)]
pub struct Disk {
    pub inner: FaultyStorage,
    pub lab: Arc<Lab>,
}

fn hash(ops: &[Op]) -> u64 {
    let mut hash = DefaultHasher::new();
    for op in ops {
        match op {
            Op::Put { key, value } => (key, Some(value)).hash(&mut hash),
            Op::Delete { key } => (key, None::<Vec<u8>>).hash(&mut hash),
        }
    }
    hash.finish()
}

impl Read for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.inner.get(key)
    }

    fn scan(&self, a: &[u8], z: &[u8], order: Order, limit: usize) -> Result<Vec<Entry>, Error> {
        self.inner.scan(a, z, order, limit)
    }
}

impl Storage for Disk {
    fn apply(&self, ops: Vec<Op>) -> Result<(), Error> {
        let traced = self.lab.notes().traced;
        let (count, hash) = (ops.len(), if traced { hash(&ops) } else { 0 });
        let result = self.inner.apply(ops);
        self.lab.say(format_args!(
            "writes {count} keys, {hash:x}: {}",
            result.is_ok()
        ));
        result
    }

    fn sync(&self) -> Result<(), Error> {
        let result = self.inner.sync();
        self.lab.say(format_args!("syncs: {}", result.is_ok()));
        result
    }

    fn space(&self) -> Result<Option<Space>, Error> {
        self.inner.space()
    }

    fn reopen(&self) -> Result<(), Error> {
        let result = self.inner.reopen();
        self.lab
            .say(format_args!("opens again: {}", result.is_ok()));
        result
    }

    fn path(&self) -> &Path {
        Path::new("simulated")
    }
}
