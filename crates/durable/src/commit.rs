//! The committer: one thread that makes batches durable in groups and then answers.
//!
//! ```text
//! actors ──► bounded queue ──► [ apply, apply, … one sync ] ──► answers, in order
//! ```
//! Only this thread writes to the store. After the first failure it writes no more: what it
//! was given, and whatever follows, has an unknown outcome. It knows batches, not objects.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use crate::storage::{Op, Order, Storage};
use crate::{Error, ObjectId, keys};

/// Keys per atomic application: with random keys, larger ones cost memory out of proportion.
const KEYS_MAX: usize = 64;
/// Batches per group: bounds the time until the first of them is answered.
const GROUP_MAX: usize = 4_096;

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} life {}", self.namespace, self.id, self.activation)
    }
}

/// Objects named in the log when a group fails.
const NAMED_MAX: usize = 16;

/// Called once, on the committer's thread, with the fate of the batch.
pub(crate) type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;

/// Who wrote a batch: one life of one object.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) namespace: &'static str,
    pub(crate) id: ObjectId,
    pub(crate) activation: u64,
}

/// One turn's changes; without changes it is a barrier that waits for all before it.
pub(crate) struct Batch {
    pub(crate) origin: Option<Arc<Origin>>,
    /// Everything below this prefix goes, before the changes are applied and together with them.
    pub(crate) wipe: Option<Vec<u8>>,
    pub(crate) ops: Vec<Op>,
    pub(crate) done: Done,
}

enum Command {
    Commit(Batch),
    /// Ends the thread after everything that was queued.
    Stop,
}

/// A place in the queue, taken before a step so that no step is left without one.
pub(crate) struct Slot<'q>(mpsc::Permit<'q, Command>);

impl Slot<'_> {
    pub(crate) fn commit(self, batch: Batch) {
        self.0.send(Command::Commit(batch));
    }
}

/// The way into the committer.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Command>,
    poisoned: Arc<AtomicBool>,
    fatal: watch::Receiver<Option<String>>,
}

impl Committer {
    /// Starts the thread.
    pub(crate) fn start(
        storage: Arc<dyn Storage>,
        queue_max: usize,
    ) -> Result<(Self, JoinHandle<()>), Error> {
        let (queue, commands) = mpsc::channel(queue_max);
        let (fatal_tx, fatal) = watch::channel(None);
        let poisoned = Arc::new(AtomicBool::new(false));
        let work = Work {
            storage,
            commands,
            fatal: fatal_tx,
            poisoned: Arc::clone(&poisoned),
        };
        let thread = std::thread::Builder::new()
            .name("durable-commit".to_owned())
            .spawn(move || work.run())
            .map_err(|e| Error::Start {
                reason: e.to_string(),
            })?;
        Ok((
            Self {
                queue,
                poisoned,
                fatal,
            },
            thread,
        ))
    }

    /// A place for one batch, or `Overloaded`, at once.
    pub(crate) fn reserve(&self) -> Result<Slot<'_>, Error> {
        self.check()?;
        self.queue.try_reserve().map(Slot).map_err(|e| match e {
            mpsc::error::TrySendError::Full(()) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(()) => Error::Stopped,
        })
    }

    /// Resolves when everything queued or applied before the call is durable.
    pub(crate) async fn barrier(&self) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(answer.send(result)));
        let batch = Batch {
            origin: None,
            wipe: None,
            ops: Vec::new(),
            done,
        };
        self.queue
            .send(Command::Commit(batch))
            .await
            .map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::OutcomeUnknown)?
    }

    /// Refuses once a commit has failed.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.poisoned.load(Ordering::Acquire) {
            Err(Error::OutcomeUnknown)
        } else {
            Ok(())
        }
    }

    pub(crate) fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Ends the thread once all that was queued has been answered.
    pub(crate) async fn stop(&self) {
        // A closed queue means that the thread has ended already.
        let _ = self.queue.send(Command::Stop).await;
    }
}

struct Work {
    storage: Arc<dyn Storage>,
    commands: mpsc::Receiver<Command>,
    fatal: watch::Sender<Option<String>>,
    poisoned: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self) {
        while let Some(first) = self.commands.blocking_recv() {
            let group = self.gather(first);
            self.commit(group);
        }
    }

    /// The first batch and all that wait behind it. A lone one does not wait for company.
    fn gather(&mut self, first: Command) -> Vec<Batch> {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Commit(batch) => group.push(batch),
                // A closed queue still runs dry: what was queued is committed.
                Command::Stop => self.commands.close(),
            }
            next = if group.len() < GROUP_MAX {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        group
    }

    fn commit(&self, mut group: Vec<Batch>) {
        let result = if self.poisoned.load(Ordering::Acquire) {
            Err(Error::OutcomeUnknown)
        } else {
            self.write(&mut group)
        };
        for batch in group {
            let (origin, done, result) = (batch.origin, batch.done, result.clone());
            // A caller's destructor may run in here; it must not take the committer with it.
            if catch_unwind(AssertUnwindSafe(move || done(result))).is_err() {
                let object = origin.map(|origin| origin.to_string());
                tracing::error!(object, "a panic while a commit was answered");
            }
        }
    }

    fn write(&self, group: &mut [Batch]) -> Result<(), Error> {
        let storage = &*self.storage;
        let written = catch_unwind(AssertUnwindSafe(|| write(storage, group)));
        let failure = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the store panicked".to_owned(),
        };
        self.poisoned.store(true, Ordering::Release);
        let named = |batch: &Batch| batch.origin.as_ref().map(ToString::to_string);
        let objects: Vec<String> = group.iter().filter_map(named).take(NAMED_MAX).collect();
        tracing::error!(%failure, ?objects, "a commit failed: the store is not written any more");
        self.fatal.send_replace(Some(failure));
        Err(Error::OutcomeUnknown)
    }
}

/// Applies all batches, each of them undivided, and syncs once.
fn write(storage: &dyn Storage, group: &mut [Batch]) -> Result<(), Error> {
    let (mut merged, mut dirty): (Vec<Op>, bool) = (Vec::new(), false);
    for batch in group {
        let mut ops = std::mem::take(&mut batch.ops);
        if let Some(prefix) = batch.wipe.take() {
            // What is to go may stand in this very group.
            storage.apply(std::mem::take(&mut merged))?;
            let mut wiped = below(storage, &prefix)?;
            wiped.append(&mut ops);
            ops = wiped;
        }
        dirty |= !ops.is_empty();
        if !merged.is_empty() && merged.len() + ops.len() > KEYS_MAX {
            storage.apply(std::mem::take(&mut merged))?;
        }
        merged.extend(ops);
    }
    if !merged.is_empty() {
        storage.apply(merged)?;
    }
    if dirty { storage.sync() } else { Ok(()) }
}

/// Removals of all keys that begin with the prefix.
fn below(storage: &dyn Storage, prefix: &[u8]) -> Result<Vec<Op>, Error> {
    let end = keys::end_of(prefix);
    let entries = storage.scan(prefix, &end, Order::Ascending, usize::MAX)?;
    let removed = entries.into_iter().map(|(key, _)| Op::Delete { key });
    Ok(removed.collect())
}
