//! The runtime: everything that a host program starts, holds and stops.
//!
//! Owns the wiring of store, rigs, directory and containers, and their order at start and end. A
//! handle is `Clone + Send + Sync`; the library runs its own threads.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actix::{Actor, ArbiterHandle};
use durable::{Host, Namespace, ObjectId, Store};
use rig::RigId;
use secrecy::SecretString;
use tokio::sync::{broadcast, watch};

use crate::{
    Error,
    container::marker,
    containers::{Containers, Parts, SWEEP_GRACE},
    data_dir::{DataDir, DataDirError},
    directory::{Directory, DirectoryActor},
    mail::{DirectoryMail, RigMail, TownPost},
    news::{BreakerNews, Newsroom},
    preflight::http_client,
    rig_actor::{Changes, RigActor, RigEnv},
    rig_desk::{self, RigDesk},
    rig_stub::RigStub,
    settings::Settings,
    threads::ActorThread,
    town_actor::{TownActor, TownEnv},
    town_stub::TownStub,
    vault::Vault,
};

/// What is cut gets this long between TERM and KILL.
const CUT_GRACE: Duration = Duration::from_millis(200);
/// When nothing can be stored any more, what still runs is ended after so long: nothing that it does
/// could be noted, and it costs money.
const BROKEN_GRACE: Duration = Duration::from_secs(10);
/// The one object that holds towns and rigs.
const DIRECTORY_ID: &str = "directory";

/// Why a runtime did not start; nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data directory can not be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The store can not be opened.
    #[error(transparent)]
    Store(#[from] durable::Error),
    /// Towns and rigs can not be read.
    #[error(transparent)]
    Runtime(#[from] Error),
    /// The system refused a thread or a client.
    #[error("the system refused {what}: {reason}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its own words.
        reason: String,
    },
}

/// A running Wellhead: rigs, directory, containers. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    rigs: Namespace<RigActor>,
    directory: Directory,
    containers: Containers,
    vault: Arc<Vault>,
    data: Arc<DataDir>,
    kilo_install: PathBuf,
    changes: Changes,
    news: Newsroom,
    actors: Mutex<Option<ActorThread>>,
}

impl Runtime {
    /// Starts everything on a data directory. Processes that an earlier life left behind are ended
    /// first; dispatches that it had begun are reported as lost and go on.
    ///
    /// # Errors
    /// [`StartError`]; a directory that is held by another process, is not ours, or is newer is
    /// left untouched.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let path = settings.data_dir.clone();
        let data = blocking(move || DataDir::open(path)).await??;
        let data = Arc::new(data);
        let vault = Vault::new(
            data.secrets(),
            data.instance(),
            settings.environment.clone(),
        );
        let vault = Arc::new(vault);
        let swept = kilo::end_marked(&marker(&data), SWEEP_GRACE).await;
        if swept.ended > 0 {
            tracing::warn!(
                ended = swept.ended,
                "leftovers of an earlier life were ended"
            );
        }
        if !swept.survivors.is_empty() {
            // A session must not go on while its earlier life may still work on the same files.
            return Err(Error::Leftovers {
                pids: swept.survivors,
            }
            .into());
        }
        let store_dir = data.store();
        let host_settings = durable::Settings {
            arbiters: settings.arbiters,
            ..durable::Settings::default()
        };
        let opened = blocking(move || {
            let store = Store::open(store_dir)?;
            let numbers_from = store.restored();
            Host::start(store, host_settings).map(|host| (host, numbers_from))
        });
        let (host, numbers_from) = opened.await??;
        let actors = ActorThread::start()
            .await
            .map_err(|error| StartError::System {
                what: "a thread",
                reason: error.to_string(),
            })?;
        let env = RigEnv {
            numbers_from,
            ..RigEnv::alone()
        };
        Self::wire(settings, data, vault, host, env, actors).await
    }

    async fn wire(
        settings: Settings,
        data: Arc<DataDir>,
        vault: Arc<Vault>,
        host: Host,
        env: RigEnv,
        actors: ActorThread,
    ) -> Result<Self, StartError> {
        let changes = env.changes.clone();
        let slots = Slots::default();
        let rig_mail = RigMail {
            containers: Arc::clone(&slots.containers),
        };
        let rigs = host.namespace::<RigActor>(env, Arc::new(rig_mail));
        let directory_mail = DirectoryMail {
            directory: Arc::clone(&slots.directory),
        };
        let directories = host.namespace::<DirectoryActor>((), Arc::new(directory_mail));
        let directory = Directory::new(
            directories.stub(&ObjectId::from_name(DIRECTORY_ID)?),
            rigs.clone(),
            Arc::clone(&vault),
        );
        let news = Newsroom::new();
        let town_post = TownPost {
            rigs: Arc::clone(&slots.rigs),
            towns: Arc::clone(&slots.towns),
            containers: Arc::clone(&slots.containers),
            news: news.clone(),
        };
        let towns = host.namespace::<TownActor>(TownEnv::default(), Arc::new(town_post));
        let desk = RigDesk::new(rigs.clone());
        let desk = RigDesk::start_in_arbiter(&actors.arbiter(), move |_| desk);
        let port = rig_desk::port(&desk);
        let kilo_install = settings.kilo_install.clone().map(from_here);
        let kilo_install = kilo_install.unwrap_or_else(|| data.kilo());
        let containers = Containers::new(Parts {
            arbiter: actors.arbiter(),
            towns: towns.clone(),
            rigs: port.clone(),
            directory: directory.clone(),
            data: Arc::clone(&data),
            http: http_client().map_err(|error| StartError::System {
                what: "an HTTP client",
                reason: error.to_string(),
            })?,
            program: Arc::default(),
            search: kilo::Search {
                setting: settings.kilo_program.clone().map(from_here),
                path_var: std::env::var_os("PATH"),
                own_install: Some(kilo_install.clone()),
            },
            settings,
            vault: Arc::clone(&vault),
            news: news.clone(),
        });
        // From here on the outboxes find their receivers. Each slot is set once.
        let _ = slots.rigs.set(port);
        let _ = slots.towns.set(towns);
        let _ = slots.directory.set(directory.clone());
        let _ = slots.containers.set(containers.clone());
        end_with_store(&host, &data, &actors.arbiter());
        let actors = Mutex::new(Some(actors));
        let inner = Inner {
            host,
            rigs,
            directory,
            containers,
            vault,
            data,
            kilo_install,
            changes,
            news,
            actors,
        };
        let runtime = Self {
            inner: Arc::new(inner),
        };
        runtime.start_containers().await?;
        Ok(runtime)
    }

    /// Every town's container is up before anything may be declared lost.
    async fn start_containers(&self) -> Result<(), Error> {
        for town in self.inner.directory.all_towns().await? {
            self.inner.containers.port(&town.id).await?;
        }
        Ok(())
    }

    /// The handle of a rig; it exists from its first write.
    pub fn rig(&self, id: &RigId) -> Result<RigStub, Error> {
        let id = ObjectId::from_name(id.as_str())?;
        Ok(RigStub::new(self.inner.rigs.stub(&id)))
    }

    /// The handle of a town: its slots, shared breakers, budget and pause.
    pub fn town(&self, id: &rig::TownId) -> Result<TownStub, Error> {
        self.inner.containers.town(id)
    }

    /// News of breakers that open and close from now on.
    pub fn breaker_news(&self) -> broadcast::Receiver<BreakerNews> {
        self.inner.news.listen()
    }

    /// The ids of all rigs that were ever written to.
    pub async fn rig_ids(&self) -> Result<Vec<RigId>, Error> {
        let ids = self.inner.rigs.ids().await?;
        // Every stored id went through RigId before.
        Ok(ids
            .iter()
            .filter_map(|id| RigId::new(id.as_str()).ok())
            .collect())
    }

    /// Who owns which town and rig.
    pub fn directory(&self) -> Directory {
        self.inner.directory.clone()
    }

    /// Stores a token for rigs and gives the id by which a configuration refers to it.
    pub async fn store_token(
        &self,
        gateway_url: Option<String>,
        token: SecretString,
    ) -> Result<String, Error> {
        Ok(self.inner.vault.store(gateway_url, token).await?)
    }

    /// A number that changes whenever some rig has changed; look again then.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Becomes the reason when nothing can be stored any more: stop, and start again.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.inner.host.fatal()
    }

    /// Is the reason while the disk is full: nothing is stored or dispatched until there is room.
    pub fn full(&self) -> watch::Receiver<Option<durable::Error>> {
        self.inner.host.full()
    }

    /// Every alarm that is set: namespace, object and unix milliseconds.
    pub async fn alarms_pending(&self) -> Result<Vec<(String, String, i64)>, Error> {
        let pending = self.inner.host.alarms_pending().await?;
        Ok(pending
            .into_iter()
            .map(|(ns, id, at)| (ns, id.as_str().to_owned(), at))
            .collect())
    }

    /// A town's container as of now: who is on board, and what runs. Starts nothing.
    pub async fn container(&self, town: &rig::TownId) -> crate::ContainerView {
        self.inner.containers.view(town).await
    }

    /// Pids of the `kilo serve` children.
    pub async fn server_pids(&self) -> Vec<u32> {
        self.inner.containers.server_pids().await
    }

    /// The environment variable and value that mark every process of this data directory.
    pub fn marker(&self) -> Vec<(String, String)> {
        marker(&self.inner.data)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.inner.data.path()
    }

    /// Where our own install of kilo is looked for.
    pub fn kilo_install_dir(&self) -> &Path {
        &self.inner.kilo_install
    }

    /// The directory of a rig's clone and worktrees.
    pub fn rig_dir(&self, town: &rig::TownId, rig: &RigId) -> PathBuf {
        self.inner.data.rig(town, rig)
    }

    /// Ends everything: nothing new is begun, agents get most of `deadline` to finish, the others
    /// are stopped and their work is saved; servers are ended, state is flushed, threads are
    /// joined. What is not over after `deadline` is cut and continued at the next start; nothing
    /// stored is lost by that. A deadline of zero cuts at once.
    pub async fn stop(&self, deadline: Duration) {
        let inner = &self.inner;
        let grace_ms = i64::try_from(deadline.as_millis() * 6 / 10).unwrap_or(i64::MAX);
        let drained = tokio::time::timeout(deadline, inner.containers.drain(grace_ms)).await;
        if drained.is_err() {
            tracing::warn!("agents did not end in time; they will be continued at the next start");
            kilo::end_marked(&marker(&inner.data), CUT_GRACE).await;
        }
        inner.host.stop().await;
        let actors = inner
            .actors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(actors) = actors {
            actors.stop().await;
        }
        inner.data.release();
    }
}

/// Ends every process of ours some time after the store has failed, whatever the host program does
/// about it.
fn end_with_store(host: &Host, data: &DataDir, arbiter: &ArbiterHandle) {
    let (mut fatal, marker) = (host.fatal(), marker(data));
    arbiter.spawn(async move {
        // An error means that the host was dropped: then its owner ends what runs.
        let failed = fatal.wait_for(Option::is_some).await.is_ok();
        if failed {
            tokio::time::sleep(BROKEN_GRACE).await;
            let ended = kilo::end_marked(&marker, CUT_GRACE).await.ended;
            tracing::error!(ended, "nothing can be stored: what still ran was ended");
        }
    });
}

/// Children run in directories of their own: a relative path means ours.
fn from_here(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// What the outboxes deliver to, set while everything is wired.
#[derive(Default)]
struct Slots {
    containers: Arc<OnceLock<Containers>>,
    rigs: Arc<OnceLock<crate::messages::RigPort>>,
    towns: Arc<OnceLock<Namespace<TownActor>>>,
    directory: Arc<OnceLock<Directory>>,
}

/// How many processes carry that marker in their environment right now.
pub async fn processes_with(marker: &[(String, String)]) -> usize {
    let marker = marker.to_vec();
    let count = tokio::task::spawn_blocking(move || kilo::marked(&marker).len()).await;
    // Only a panic in the scan gets here; then nothing is known to be gone.
    count.unwrap_or(usize::MAX)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StartError::System {
            what: "a thread",
            reason: error.to_string(),
        })
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("data_dir", &self.inner.data.path())
            .finish_non_exhaustive()
    }
}
