//! `Host`: starts, registers kinds of objects, tells of its state, ends.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::actor::Shared;
use super::chance::Chance;
use super::core::Core;
use super::executor::{Executor, Place};
use super::namespace::{Namespace, Route, pinned};
use super::registry::{Registry, TellJump, WakeObject};
use super::settings::Settings;
use super::{recovery, threads};
use crate::commit::Committer;
use crate::timers::Waker;
use crate::{Deliver, Error, Object, ObjectId, Store, keys, meta};

/// A running object host. Cheap to clone; the last clone's end is the host's end.
///
/// Namespaces and stubs do not keep it running.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    places: Vec<Place>,
    shutdown: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
    main: Mutex<Option<JoinHandle<()>>>,
    /// What is registered, as `Namespace<O>` without its type.
    namespaces: Mutex<HashMap<&'static str, Box<dyn Any + Send + Sync>>>,
}

/// An object whose alarm has failed six times or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Its namespace.
    pub namespace: String,
    /// Its id.
    pub id: ObjectId,
    /// Failures in a row.
    pub failures: u32,
    /// When it is tried again, in unix milliseconds.
    pub next_at: i64,
}

impl Host {
    /// Starts the host's threads on that store. Blocks for some milliseconds.
    ///
    /// # Errors
    /// `Setting` names the field to change, `Start` what the system refused.
    pub fn start(store: Store, settings: Settings) -> Result<Self, Error> {
        settings.check()?;
        let Store {
            journal,
            writer,
            epoch,
            ..
        } = store;
        let (committer, committing) = Committer::start(writer, settings.commit_queue_max)?;
        let chance = Arc::new(Chance::new(settings.seed, epoch));
        let executor = Executor::threads()?;
        let core = Core::new(journal, epoch, settings, committer, executor, chance);
        let core = Arc::new(core);
        let threads::Threads {
            arbiters,
            shutdown,
            ended,
            main,
        } = threads::start(Arc::clone(&core), committing)?;
        let places = arbiters.into_iter().map(Place::Arbiter).collect();
        Ok(Self::running(core, places, (shutdown, ended), Some(main)))
    }

    /// The handle of what runs already.
    pub(super) fn running(
        core: Arc<Core>,
        places: Vec<Place>,
        (shutdown, ended): (watch::Sender<bool>, watch::Receiver<bool>),
        main: Option<JoinHandle<()>>,
    ) -> Self {
        let (main, namespaces) = (Mutex::new(main), Mutex::default());
        let inner = Inner {
            core,
            places,
            shutdown,
            ended,
            main,
            namespaces,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Registers a kind of object. From now on its overdue alarms fire and what its outboxes
    /// still hold is sent again. Registering the same kind again gives the same namespace; a
    /// second kind of the same name gets one that answers `NamespaceTaken` to every message.
    pub fn namespace<O: Object>(
        &self,
        env: O::Env,
        deliver: Arc<dyn Deliver<O::Effect>>,
    ) -> Namespace<O> {
        let mut known = self
            .inner
            .namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let core = &self.inner.core;
        if let Some(registered) = known.get(O::NAMESPACE) {
            let same = registered.downcast_ref::<Namespace<O>>().cloned();
            return same.unwrap_or_else(|| Namespace::new(Arc::clone(core), Vec::new()));
        }
        if !keys::is_namespace(O::NAMESPACE) {
            return Namespace::new(Arc::clone(core), Vec::new());
        }
        let shared = Arc::new(Shared {
            core: Arc::clone(core),
            env,
            deliver,
        });
        let namespace = self.register::<O>(&shared);
        known.insert(O::NAMESPACE, Box::new(namespace.clone()));
        namespace
    }

    fn register<O: Object>(&self, shared: &Arc<Shared<O>>) -> Namespace<O> {
        let core = &self.inner.core;
        let start = |place: &Place| {
            let shared = Arc::clone(shared);
            place.start(move || Registry::new(shared))
        };
        let registries: Vec<_> = self.inner.places.iter().map(start).collect();
        let targets = registries.clone();
        let waker: Waker = Arc::new(move |id, kind| {
            if let Some(registry) = targets.get(pinned(id, targets.len())) {
                registry.do_send(WakeObject {
                    id: id.clone(),
                    kind,
                });
            }
        });
        core.timers.register(O::NAMESPACE, waker);
        let listening = registries.clone();
        core.jumps.listen(Box::new(move || {
            for registry in &listening {
                registry.do_send(TellJump);
            }
        }));
        core.executor
            .spawn(recovery::recover(Arc::clone(core), O::NAMESPACE));
        let route = |registry| Route {
            registry,
            queued: Arc::<AtomicUsize>::default(),
        };
        Namespace::new(
            Arc::clone(core),
            registries.into_iter().map(route).collect(),
        )
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// The number of this opening of the store.
    pub fn epoch(&self) -> u64 {
        self.inner.core.epoch
    }

    /// How many objects are in memory.
    pub fn awake(&self) -> usize {
        self.inner.core.awake.load(Ordering::Relaxed)
    }

    /// Becomes the reason once a commit has failed. Nothing is stored or answered after that:
    /// stop the host and open the store again.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.core.committer.fatal()
    }

    /// Is `Error::Full` while the disk is full: nothing is stored then, reads are served, and
    /// writes are taken again by themselves once there is room.
    pub fn full(&self) -> watch::Receiver<Option<Error>> {
        self.inner.core.committer.full()
    }

    /// Follows the number of the last durable commit. Numbers have no gaps, and none is ever
    /// used again, over restarts neither.
    pub fn last_seq(&self) -> watch::Receiver<u64> {
        self.inner.core.committer.last_seq()
    }

    /// Every alarm that is set, by time: namespace, object, and when it runs next (unix ms).
    ///
    /// # Errors
    /// `Storage` and `Corrupt` from the store, `Stopped`, `OutcomeUnknown` after a failed commit.
    pub async fn alarms_pending(&self) -> Result<Vec<(String, ObjectId, i64)>, Error> {
        let collect = |storage: &dyn crate::storage::Read| {
            let mut found = Vec::new();
            recovery::walk_alarms(storage, |entry| {
                found.push((entry.namespace, entry.id, entry.at));
            })?;
            Ok(found)
        };
        self.inner.core.read(collect).await
    }

    /// How many effects no receiver has accepted yet, of all objects.
    ///
    /// # Errors
    /// As for `alarms_pending`.
    pub async fn effects_pending(&self) -> Result<usize, Error> {
        self.inner.core.read(recovery::count_effects).await
    }

    /// The objects whose alarms fail again and again. They are retried every 1,024 s.
    ///
    /// # Errors
    /// As for `alarms_pending`.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, Error> {
        let collect = |storage: &dyn crate::storage::Read| {
            let mut found = Vec::new();
            recovery::walk_alarms(storage, |entry| {
                let recovery::AlarmEntry {
                    namespace,
                    id,
                    at: next_at,
                    failures,
                } = entry;
                if failures >= meta::COUNTED_FAILURES {
                    found.push(Quarantined {
                        namespace,
                        id,
                        failures,
                        next_at,
                    });
                }
            })?;
            Ok(found)
        };
        self.inner.core.read(collect).await
    }

    /// Takes no more messages, lets commits under way end, and ends all threads; the store is
    /// then closed. Calling it again, or from several tasks, waits for the same end.
    pub async fn stop(&self) {
        self.inner.begin_stop();
        let mut ended = self.inner.ended.clone();
        // The sender's end is the thread's end.
        let _ = ended.wait_for(|ended| *ended).await;
        let main = self
            .inner
            .main
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(main) = main {
            // It has said its last word above, so this does not wait.
            let _ = main.join();
        }
    }
}

impl Inner {
    fn begin_stop(&self) {
        self.core.set_stopping();
        self.shutdown.send_replace(true);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No join: the last handle may be dropped on one of the threads that have to end.
        self.begin_stop();
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host")
            .field("core", &self.inner.core)
            .finish_non_exhaustive()
    }
}
