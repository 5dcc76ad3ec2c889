//! What all parts of one host share: store, committer, clock, timers, and whether it still runs.
//!
//! It knows no object type. Nothing is readable before it is durable, so reads wait for no flush.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::{Handle as RuntimeHandle, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::jumps::JumpWatch;
use super::settings::Settings;
use crate::Error;
use crate::commit::Committer;
use crate::journal::Journal;
use crate::storage::Read;
use crate::timers::Timers;

/// The threads on which objects are loaded.
#[derive(Debug)]
struct Loads(Option<Runtime>);

impl Drop for Loads {
    fn drop(&mut self) {
        // A runtime that is dropped would wait for its threads, and one of them may hang.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Each thread keeps memory of its own, which more of them do not make faster; a load that hangs
/// keeps one of them.
const LOAD_THREADS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct Core {
    pub(super) epoch: u64,
    pub(super) settings: Settings,
    pub(super) committer: Committer,
    pub(super) timers: Timers,
    pub(super) jumps: JumpWatch,
    /// Objects that have an actor.
    pub(super) awake: AtomicUsize,
    /// The host's own runtime, known once its thread has started.
    pub(super) runtime: OnceLock<RuntimeHandle>,
    /// Taken away at the end, so that handles which live on do not keep the store open.
    storage: Mutex<Option<Arc<Journal>>>,
    stopping: AtomicBool,
    loads: Loads,
    reads: Arc<Semaphore>,
}

impl Core {
    pub(super) fn new(
        storage: Arc<Journal>,
        epoch: u64,
        settings: Settings,
        committer: Committer,
    ) -> Result<Self, Error> {
        let loads = tokio::runtime::Builder::new_current_thread()
            .thread_name("durable-load")
            .max_blocking_threads(LOAD_THREADS_MAX)
            .build();
        let loads = loads.map_err(|e| Error::Start {
            reason: e.to_string(),
        })?;
        Ok(Self {
            epoch,
            committer,
            timers: Timers::new(Arc::clone(&settings.clock)),
            jumps: JumpWatch::new(&*settings.clock, epoch),
            awake: AtomicUsize::new(0),
            runtime: OnceLock::new(),
            storage: Mutex::new(Some(storage)),
            stopping: AtomicBool::new(false),
            loads: Loads(Some(loads)),
            reads: Arc::new(Semaphore::new(settings.reads_max)),
            settings,
        })
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
        if self.is_stopping() {
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

    /// Runs what an application may never end: nobody waits for these threads at the end.
    pub(super) fn spawn_load<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        let Loads(runtime) = &self.loads;
        runtime.as_ref().map(|runtime| runtime.spawn_blocking(work))
    }

    pub(super) fn storage(&self) -> Result<Arc<dyn Read>, Error> {
        let storage = self.storage.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = storage.clone().ok_or(Error::Stopped)?;
        Ok(journal)
    }

    pub(super) fn close_storage(&self) {
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
        let runtime = self.runtime.get().ok_or(Error::Stopped)?;
        let reading = runtime.spawn_blocking(move || {
            let _permit = permit;
            work(&*storage)
        });
        reading.await.map_err(|e| self.lost(&e))?
    }

    fn lost(&self, error: &tokio::task::JoinError) -> Error {
        if self.is_stopping() {
            return Error::Stopped;
        }
        Error::Storage {
            action: "read",
            reason: error.to_string(),
        }
    }
}
