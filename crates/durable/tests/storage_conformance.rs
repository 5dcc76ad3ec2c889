//! The suite that every storage passes, on the three of this crate.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use durable::storage::{FaultyStorage, Left};
use durable::testing::suite::Subject;
use durable::{MemoryStorage, SledStorage, Storage, storage_suite};
use support::files::copy_dir;

/// Nothing outlives it.
struct Memory;

impl Subject for Memory {
    fn open(&mut self) -> Arc<dyn Storage> {
        Arc::new(MemoryStorage::new())
    }
}

/// Keeps what a seed lets a crash leave.
#[derive(Default)]
struct Faulty {
    last: Option<Arc<FaultyStorage>>,
    seed: u64,
}

impl Faulty {
    fn hand_out(&mut self, storage: FaultyStorage) -> Arc<dyn Storage> {
        let storage = Arc::new(storage);
        self.last = Some(Arc::clone(&storage));
        storage
    }
}

impl Subject for Faulty {
    fn open(&mut self) -> Arc<dyn Storage> {
        self.seed += 1;
        self.hand_out(FaultyStorage::new(self.seed))
    }

    fn crash(&mut self, _: Arc<dyn Storage>) -> Option<Arc<dyn Storage>> {
        let after = self.last.take()?.crash(Left::Any);
        Some(self.hand_out(after))
    }
}

/// Dies by having its files copied away: what a killed process leaves to the next one.
struct Disk {
    root: tempfile::TempDir,
    lives: usize,
    dir: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (lives, dir) = (0, PathBuf::new());
        Self { root, lives, dir }
    }

    fn next_dir(&mut self) -> PathBuf {
        self.lives += 1;
        self.dir = self.root.path().join(self.lives.to_string());
        self.dir.clone()
    }
}

impl Subject for Disk {
    fn open(&mut self) -> Arc<dyn Storage> {
        Arc::new(SledStorage::open(self.next_dir()).unwrap())
    }

    fn reopen(&mut self, storage: Arc<dyn Storage>) -> Arc<dyn Storage> {
        drop(storage);
        Arc::new(SledStorage::open(&self.dir).unwrap())
    }

    fn crash(&mut self, storage: Arc<dyn Storage>) -> Option<Arc<dyn Storage>> {
        let dead = self.dir.clone();
        let dir = self.next_dir();
        copy_dir(&dead, &dir);
        drop(storage);
        Some(Arc::new(SledStorage::open(dir).unwrap()))
    }
}

storage_suite!(memory, Memory);
storage_suite!(faulty, Faulty::default());
storage_suite!(sled, Disk::new());
