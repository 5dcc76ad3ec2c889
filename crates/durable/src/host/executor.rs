//! Where the parts of a host run: on threads of its own, or all of them on the caller's thread.
//!
//! ```text
//!            actors            committer     loads                 reads
//! threads    arbiters          a thread      blocking threads      blocking threads
//! inline     one local set     a local task  a local task          the asking task
//! ```
//! The rest of the host is the same in both. It knows no object and no store.

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::dev::channel::channel;
use actix::{Actor, Addr, ArbiterHandle, Context};
use tokio::runtime::{Handle as RuntimeHandle, Runtime};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::call::caught;
use super::chance::Chance;
use crate::Error;

/// What actix itself gives an actor that is started without a word about it.
const MAILBOX: usize = 16;
/// Each thread keeps memory of its own, and more of them load no faster; a load that hangs keeps
/// one of them.
const LOAD_THREADS_MAX: usize = 32;

/// Something to be done inside the host's local set.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// How long things take in an inline host, in milliseconds of its runtime's time. Each time is
/// drawn anew, from `Settings::seed`. By default nothing takes any time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// One group of batches, from the queue to the disk; steps go on in memory meanwhile.
    pub flush_ms: RangeInclusive<u64>,
    /// One load of an object or one read, half of it before and half of it after the disk.
    pub read_ms: RangeInclusive<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            flush_ms: 0..=0,
            read_ms: 0..=0,
        }
    }
}

#[derive(Debug)]
pub(super) enum Executor {
    Threads {
        /// The host's own runtime, known once its thread has started.
        runtime: OnceLock<RuntimeHandle>,
        loads: Loads,
    },
    Inline {
        jobs: UnboundedSender<Job>,
        pace: Pace,
        chance: Arc<Chance>,
    },
}

/// The threads on which objects are loaded.
#[derive(Debug)]
pub(super) struct Loads(Option<Runtime>);

impl Drop for Loads {
    fn drop(&mut self) {
        // A runtime that is dropped would wait for its threads, and one of them may hang.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Executor {
    pub(super) fn threads() -> Result<Self, Error> {
        let loads = tokio::runtime::Builder::new_current_thread()
            .thread_name("durable-load")
            .max_blocking_threads(LOAD_THREADS_MAX)
            .build();
        let loads = loads.map_err(|e| Error::Start {
            reason: e.to_string(),
        })?;
        Ok(Self::Threads {
            runtime: OnceLock::new(),
            loads: Loads(Some(loads)),
        })
    }

    /// The host's thread has started.
    pub(super) fn runs_on(&self, handle: RuntimeHandle) {
        if let Self::Threads { runtime, .. } = self {
            let _ = runtime.set(handle);
        }
    }

    /// Runs beside everything else, until the host ends.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Threads { runtime, .. } => {
                if let Some(runtime) = runtime.get() {
                    runtime.spawn(work);
                }
            }
            // A host that has ended takes no jobs.
            Self::Inline { jobs, .. } => {
                let _ = jobs.send(Box::new(move || drop(actix::spawn(work))));
            }
        }
    }

    /// Runs what an application may never end: nobody waits for these threads at the end.
    pub(super) fn load<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        match self {
            Self::Threads { loads, .. } => {
                let Loads(runtime) = loads;
                runtime.as_ref().map(|runtime| runtime.spawn_blocking(work))
            }
            Self::Inline { pace, chance, .. } => {
                let (before, after) = pace.read(chance);
                Some(actix::spawn(async move {
                    wait(before).await;
                    let result = work();
                    wait(after).await;
                    result
                }))
            }
        }
    }

    /// Reads where it may block; an error says that no answer came back.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let lost = |reason: String| Error::Storage {
            action: "read",
            reason,
        };
        match self {
            Self::Threads { runtime, .. } => {
                let runtime = runtime.get().ok_or(Error::Stopped)?;
                let reading = runtime.spawn_blocking(work);
                reading.await.map_err(|error| lost(error.to_string()))
            }
            Self::Inline { pace, chance, .. } => {
                let (before, after) = pace.read(chance);
                wait(before).await;
                let result = caught(work).map_err(lost);
                wait(after).await;
                result
            }
        }
    }
}

impl Pace {
    fn read(&self, chance: &Chance) -> (u64, u64) {
        let all = chance.within(self.read_ms.clone());
        (all / 2, all - all / 2)
    }
}

/// No task that waits for nothing gives up its turn.
pub(super) async fn wait(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

/// One thread's worth of actors.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Arbiter(ArbiterHandle),
    Here(UnboundedSender<Job>),
}

impl Place {
    pub(super) fn start<A>(&self, make: impl FnOnce() -> A + Send + 'static) -> Addr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        match self {
            Self::Arbiter(arbiter) => A::start_in_arbiter(arbiter, move |_| make()),
            Self::Here(jobs) => {
                let (to, from) = channel(MAILBOX);
                let run = move || drop(Context::with_receiver(from).run(make()));
                // Where nobody runs any more, the address is one of the dead.
                let _ = jobs.send(Box::new(run));
                Addr::new(to)
            }
        }
    }
}
