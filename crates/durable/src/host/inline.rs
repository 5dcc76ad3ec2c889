//! A host on one thread: everything that a host does becomes tasks of one local set, in the time
//! of the runtime that it is started in, and can be ended between two polls.
//!
//! ```text
//! the caller's local set ──► driver ──► the host's own local set
//!                                       main, committer, registries, objects, deliveries, `spawn`
//! ```
//! A crash drops the inner set with all that is in it. It knows no object and no store.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, LocalSet};

use super::chance::Chance;
use super::core::Core;
use super::executor::{Executor, Job, Pace, Place, wait};
use super::handle::Host;
use super::settings::Settings;
use super::threads::{Ended, serve};
use crate::commit::{Committer, Work};
use crate::{Error, Store};

/// None once it is over.
type Life = Rc<RefCell<Option<Rc<LocalSet>>>>;

/// A host on the caller's thread, for simulations and tests: the same objects, committer, alarm
/// clock and outboxes, without a thread. It goes on whenever the caller's local set does.
///
/// With a paused runtime, a [`TokioClock`](crate::TokioClock), a `Settings::seed` and a storage
/// in memory, a run follows from its seeds alone. Dropping it is a crash.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use durable::storage::{FaultyStorage, Left};
/// use durable::{Alarm, AlarmFailed, Error, Handle, Host, Message, NoEffects, Object, ObjectId};
/// use durable::{Pace, Records, Settings, Store, TokioClock, Turn};
///
/// struct Bell(u64);
/// struct RingIn(i64);
///
/// impl Message for RingIn {
///     type Reply = u64; // how often it has rung
/// }
///
/// impl Object for Bell {
///     const NAMESPACE: &'static str = "bell";
///     type Env = ();
///     type Effect = ();
///
///     fn load(_: &ObjectId, records: &Records<'_>, _: &()) -> Result<Self, Error> {
///         Ok(Self(records.get("rung")?.unwrap_or(0)))
///     }
///
///     fn alarm(&mut self, turn: &mut Turn<'_, ()>, _: Alarm) -> Result<(), AlarmFailed> {
///         self.0 += 1;
///         turn.put("rung", &self.0);
///         Ok(())
///     }
/// }
///
/// impl Handle<RingIn> for Bell {
///     fn handle(&mut self, turn: &mut Turn<'_, ()>, RingIn(ms): RingIn) -> u64 {
///         turn.set_alarm(turn.now() + ms);
///         self.0
///     }
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread();
/// # let runtime = { let mut it = runtime; it.enable_time().start_paused(true).build().unwrap() };
/// # tokio::task::LocalSet::new().block_on(&runtime, async {
/// // Inside a `LocalSet`, on a current-thread runtime with `start_paused(true)`:
/// let clock = Arc::new(TokioClock::new(1_000_000));
/// let settings = || Settings { clock: clock.clone(), seed: Some(7), ..Settings::default() };
/// let pace = Pace { flush_ms: 1..=20, read_ms: 0..=5 };
/// let bell = ObjectId::from_name("church")?;
///
/// let disk = Arc::new(FaultyStorage::new(7));
/// let host = Host::inline(Store::new(disk.clone())?, settings(), pace.clone())?;
/// let bells = host.namespace::<Bell>((), Arc::new(NoEffects));
/// assert_eq!(bells.stub(&bell).send(RingIn(3_600_000)).await?, 0);
/// host.crash(); // nothing of it runs from here on
///
/// let disk = Arc::new(disk.crash(Left::Any)); // what the disk has kept
/// let host = Host::inline(Store::new(disk)?, settings(), pace)?;
/// let bells = host.namespace::<Bell>((), Arc::new(NoEffects));
/// tokio::time::sleep(Duration::from_secs(3_601)).await; // passes at once
/// assert_eq!(bells.stub(&bell).send(RingIn(1)).await?, 1);
/// host.stop().await;
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub struct InlineHost {
    host: Host,
    life: Life,
    driver: AbortHandle,
}

impl Host {
    /// Starts a host without threads. It has to be called inside a `LocalSet` whose runtime has
    /// its time enabled.
    ///
    /// # Errors
    /// `Setting` names the field to change.
    pub fn inline(store: Store, settings: Settings, pace: Pace) -> Result<InlineHost, Error> {
        settings.check()?;
        let Store {
            journal,
            writer,
            epoch,
            ..
        } = store;
        let chance = Arc::new(Chance::new(settings.seed, epoch));
        let (committer, mut work) = Committer::new(writer, settings.commit_queue_max);
        if pace.flush_ms != (0..=0) {
            let (range, chance) = (pace.flush_ms.clone(), Arc::clone(&chance));
            work = work.paced(Box::new(move || {
                Box::pin(wait(chance.within(range.clone())))
            }));
        }
        let (jobs, to_do) = unbounded_channel();
        let places = vec![Place::Here(jobs.clone())];
        let executor = Executor::Inline {
            jobs,
            pace,
            chance: Arc::clone(&chance),
        };
        let core = Core::new(journal, epoch, settings, committer, executor, chance);
        let core = Arc::new(core);
        let (shutdown, shutdown_seen) = watch::channel(false);
        let (ended_guard, ended) = watch::channel(false);
        let set = Rc::new(LocalSet::new());
        let main = set.spawn_local(run(Arc::clone(&core), work, to_do, shutdown_seen));
        let life = Rc::new(RefCell::new(Some(set)));
        let driving = drive(Rc::clone(&life), main, Ended(ended_guard));
        let driver = tokio::task::spawn_local(driving).abort_handle();
        Ok(InlineHost {
            host: Self::running(core, places, (shutdown, ended), None),
            life,
            driver,
        })
    }
}

impl InlineHost {
    /// The host as programs know it. Its clones do not keep it running.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs a task that belongs to the host's process: the host's end, orderly or not, is its end
    /// too, and that of whatever it spawns with `spawn_local` or starts as an actor. After it,
    /// nothing is run.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        if let Some(set) = &*self.life.borrow() {
            set.spawn_local(task);
        }
    }

    /// Ends everything at once: no flush, no answer, and nothing handles what was on its way.
    /// Callers of the host get `OutcomeUnknown`. From within one of its own tasks it ends as soon
    /// as the local set has polled what was ready.
    pub fn crash(&self) {
        self.host.core().kill();
        let set = self.life.borrow_mut().take();
        self.driver.abort();
        drop(set);
    }
}

impl Deref for InlineHost {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Drop for InlineHost {
    fn drop(&mut self) {
        self.crash();
    }
}

impl fmt::Debug for InlineHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InlineHost").field(&self.host).finish()
    }
}

/// Lets the inner set go on as long as there is one, and drops it when `main` has ended.
async fn drive(life: Life, mut main: JoinHandle<()>, _ended: Ended) {
    std::future::poll_fn(move |cx| {
        // Held for the time of this poll only, so that a crash is one.
        let set = life.borrow().clone();
        let Some(set) = set else {
            return Poll::Ready(());
        };
        let polled = pin!(set.run_until(&mut main)).poll(cx);
        if polled.is_ready() {
            drop(life.borrow_mut().take());
        }
        polled.map(drop)
    })
    .await;
}

/// From the start to the end that was asked for.
async fn run(
    core: Arc<Core>,
    work: Work,
    mut jobs: UnboundedReceiver<Job>,
    shutdown: watch::Receiver<bool>,
) {
    let working = actix::spawn(async move {
        while let Some(job) = jobs.recv().await {
            job();
        }
    });
    let committing = actix::spawn(work.run());
    serve(Arc::clone(&core), shutdown).await;
    let _ = committing.await;
    working.abort();
    core.close();
}
