//! What all parts of one host share: store, committer, clock, timers, and whether it still runs.
//!
//! It knows no object type. Nothing is readable before it is durable, so reads wait for no flush.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::chance::Chance;
use super::executor::Executor;
use super::jumps::JumpWatch;
use super::settings::Settings;
use crate::Error;
use crate::commit::Committer;
use crate::journal::Journal;
use crate::storage::Read;
use crate::timers::Timers;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) epoch: u64,
    pub(super) settings: Settings,
    pub(super) committer: Committer,
    pub(super) timers: Timers,
    pub(super) jumps: JumpWatch,
    /// Objects that have an actor.
    pub(super) awake: AtomicUsize,
    pub(super) executor: Executor,
    pub(super) chance: Arc<Chance>,
    /// Taken away at the end, so that handles which live on do not keep the store open.
    storage: Mutex<Option<Arc<Journal>>>,
    stopping: AtomicBool,
    /// The end came without a word: what was asked and not answered has an unknown outcome.
    dead: AtomicBool,
    reads: Arc<Semaphore>,
}

impl Core {
    pub(super) fn new(
        storage: Arc<Journal>,
        epoch: u64,
        settings: Settings,
        committer: Committer,
        executor: Executor,
        chance: Arc<Chance>,
    ) -> Self {
        Self {
            epoch,
            committer,
            timers: Timers::new(Arc::clone(&settings.clock)),
            jumps: JumpWatch::new(&*settings.clock, epoch),
            awake: AtomicUsize::new(0),
            executor,
            chance,
            storage: Mutex::new(Some(storage)),
            stopping: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            reads: Arc::new(Semaphore::new(settings.reads_max)),
            settings,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.settings.clock.now()
    }

    /// A number that no other life of an object has, in this run.
    pub(super) fn next_activation(&self) -> u64 {
        self.committer.lives().begin()
    }

    /// Refuses after the end and after a failed commit.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.dead.load(Ordering::Acquire) {
            Err(Error::OutcomeUnknown)
        } else if self.is_stopping() {
            Err(Error::Stopped)
        } else {
            self.committer.check()
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Ends everything that outlives the tasks of the host, with or without an orderly end.
    pub(super) fn close(&self) {
        self.timers.close();
        self.jumps.close();
        self.close_storage();
    }

    /// The host is no more, from one moment to the next.
    pub(super) fn kill(&self) {
        self.dead.store(true, Ordering::Release);
        self.close();
    }

    pub(super) fn storage(&self) -> Result<Arc<dyn Read>, Error> {
        let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = storage.clone().ok_or(Error::Stopped)?;
        Ok(journal)
    }

    fn close_storage(&self) {
        drop(
            self.storage
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
    }

    /// Reads on a thread that may block. What it sees is durable: the journal shows nothing
    /// before its flush.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Read) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.check()?;
        let permit = Arc::clone(&self.reads)
            .acquire_owned()
            .await
            .map_err(|_| Error::Stopped)?;
        let storage = self.storage()?;
        let reading = self.executor.read(move || {
            let _permit = permit;
            work(&*storage)
        });
        match reading.await {
            Ok(result) => self.still_there(result),
            Err(_) if self.is_stopping() => Err(Error::Stopped),
            Err(error) => Err(error),
        }
    }

    /// What was read before a crash is heard by nobody after it.
    fn still_there<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if self.dead.load(Ordering::Acquire) {
            return Err(Error::OutcomeUnknown);
        }
        result
    }
}
