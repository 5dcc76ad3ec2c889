//! The containers of all towns: each starts with the first message for it, or with the runtime if
//! it has anything to report.
//!
//! Owns the order of a container's start: leftovers are settled in the ledger and every rig of the
//! town is told about the new life before the first dispatch is taken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix::{Actor, Addr, ArbiterHandle, dev::ToEnvelope};
use durable::{Namespace, ObjectId, Stub};
use rig::{
    DispatchId, Incarnation, RigConfig, RigId, Scopes, TownId,
    town::{Entry, Found, Place, TownInput, TownReply},
};
use tokio::sync::OnceCell;

use crate::{
    Error,
    container::{Aboards, ContainerActor, ContainerView, Crew, Drain, Kit, Servers, scopes_of},
    data_dir::DataDir,
    directory::Directory,
    messages::{ContainerPort, ContainerStarted, NotTaken, RigPort},
    news::Newsroom,
    settings::Settings,
    town_actor::{LookTown, TellTown, TownActor},
    town_stub::TownStub,
    vault::Vault,
    workspace::Repositories,
};

/// Leftovers of an earlier life get this long between TERM and KILL.
pub(crate) const SWEEP_GRACE: Duration = Duration::from_secs(3);
/// How often a drain looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What containers are made of.
pub(crate) struct Parts {
    pub(crate) arbiter: ArbiterHandle,
    pub(crate) towns: Namespace<TownActor>,
    pub(crate) rigs: RigPort,
    pub(crate) directory: Directory,
    pub(crate) data: Arc<DataDir>,
    pub(crate) settings: Settings,
    pub(crate) vault: Arc<Vault>,
    pub(crate) http: reqwest::Client,
    pub(crate) program: Arc<OnceCell<kilo::Found>>,
    pub(crate) search: kilo::Search,
    pub(crate) news: Newsroom,
}

/// All containers of the runtime.
#[derive(Clone)]
pub(crate) struct Containers {
    parts: Arc<Parts>,
    started: Arc<Mutex<HashMap<TownId, Arc<OnceCell<Container>>>>>,
}

#[derive(Clone)]
struct Container {
    addr: Addr<ContainerActor>,
    town: Stub<TownActor>,
    kit: Arc<Kit>,
    since: Instant,
}

impl Containers {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
            started: Arc::default(),
        }
    }

    /// The port to a town's container, which is started if it does not run.
    pub(crate) async fn port(&self, town: &TownId) -> Result<ContainerPort, Error> {
        let addr = self.get(town).await?.addr;
        Ok(ContainerPort {
            dispatch: addr.clone().recipient(),
            stop: addr.clone().recipient(),
            check: addr.clone().recipient(),
            nudge: addr.clone().recipient(),
            reset: addr.clone().recipient(),
            tripped: addr.clone().recipient(),
            closed: addr.recipient(),
        })
    }

    /// Hands an order of a town to its own container.
    pub(crate) async fn order<M>(&self, town: &TownId, order: M) -> Result<(), NotTaken>
    where
        M: actix::Message<Result = Result<(), NotTaken>> + Send + 'static,
        ContainerActor: actix::Handler<M>,
        actix::Context<ContainerActor>: ToEnvelope<ContainerActor, M>,
    {
        let container = self.get(town).await;
        let addr = container
            .map_err(|error| NotTaken::Later(error.to_string()))?
            .addr;
        let taken = addr.send(order).await;
        taken.map_err(|error| NotTaken::Later(error.to_string()))?
    }

    /// The handle of a town.
    pub(crate) fn town(&self, town: &TownId) -> Result<TownStub, Error> {
        let id = ObjectId::from_name(town.as_str())?;
        Ok(TownStub::new(self.parts.towns.stub(&id)))
    }

    /// What dispatches of that configuration share with others; starts nothing.
    pub(crate) async fn scopes(&self, config: &RigConfig) -> Scopes {
        scopes_of(&self.parts.vault, &self.parts.settings, config).await
    }

    async fn get(&self, town: &TownId) -> Result<Container, Error> {
        let cell = {
            let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(started.entry(town.clone()).or_default())
        };
        cell.get_or_try_init(|| Box::pin(self.start(town)))
            .await
            .cloned()
    }

    async fn start(&self, town: &TownId) -> Result<Container, Error> {
        let parts = &self.parts;
        let name = uuid::Uuid::new_v4().to_string();
        let incarnation = Incarnation::new(name).map_err(|error| Error::Invalid {
            field: "incarnation",
            reason: error.to_string(),
        })?;
        let stub = parts.towns.stub(&ObjectId::from_name(town.as_str())?);
        let found = match stub.send(TellTown(TownInput::Survey)).await? {
            TownReply::Found(found) => found,
            _ => Found::default(),
        };
        end_recorded(&found.places).await?;
        self.tell_rigs(town, &incarnation, &found.unreported)
            .await?;
        stub.send(TellTown(TownInput::Boot)).await?;
        let kit = Arc::new(Kit {
            town: town.clone(),
            data: Arc::clone(&parts.data),
            settings: parts.settings.clone(),
            vault: Arc::clone(&parts.vault),
            servers: Servers::default(),
            repositories: Repositories::default(),
            http: parts.http.clone(),
            program: Arc::clone(&parts.program),
            search: parts.search.clone(),
            boot_id: kilo::boot_id(),
            prices: Mutex::default(),
        });
        let actor = ContainerActor::new(
            Arc::clone(&kit),
            stub.clone(),
            parts.rigs.clone(),
            incarnation.clone(),
            parts.news.clone(),
        );
        let addr = ContainerActor::start_in_arbiter(&parts.arbiter, move |_| actor);
        tracing::info!(%town, %incarnation, "container started");
        let since = Instant::now();
        Ok(Container {
            addr,
            town: stub,
            kit,
            since,
        })
    }

    /// Tells every rig of the town about the new life: nothing is live yet.
    async fn tell_rigs(
        &self,
        town: &TownId,
        incarnation: &Incarnation,
        unreported: &[(RigId, DispatchId)],
    ) -> Result<(), Error> {
        let rows = self.parts.directory.all_rigs().await?;
        let own = rows
            .into_iter()
            .filter(|row| row.config.town_id == *town)
            .map(|row| row.id);
        let mut rigs: Vec<RigId> = own
            .chain(unreported.iter().map(|(rig, _)| rig.clone()))
            .collect();
        rigs.sort();
        rigs.dedup();
        for rig in rigs {
            let unreported = unreported.iter().filter(|(of, _)| *of == rig);
            let message = ContainerStarted {
                rig: rig.clone(),
                incarnation: incarnation.clone(),
                live: Vec::new(),
                unreported: unreported.map(|(_, dispatch)| dispatch.clone()).collect(),
            };
            if let Ok(Err(error)) = self.parts.rigs.container.send(message).await {
                tracing::warn!(%rig, %error, "a rig could not be told about its container");
            }
        }
        Ok(())
    }

    /// Takes nothing more, gives agents that long to finish, ends the rest, and waits until every
    /// report is with its rig; then ends all servers.
    pub(crate) async fn drain(&self, grace_ms: i64) {
        let drains = self.running().into_iter().map(|container| async move {
            // A dead actor has nobody on board.
            let _ = container.addr.send(Drain { grace_ms }).await;
            while container.addr.send(Crew).await.is_ok_and(|crew| crew > 0) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            while untold(&container.town).await > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            container.kit.servers.end_all().await;
        });
        futures_util::future::join_all(drains).await;
    }

    fn running(&self) -> Vec<Container> {
        let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started
            .values()
            .filter_map(|cell| cell.get().cloned())
            .collect()
    }

    /// A town's container as of now; nothing is started by looking.
    pub(crate) async fn view(&self, town: &TownId) -> ContainerView {
        let found = {
            let started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
            started.get(town).and_then(|cell| cell.get().cloned())
        };
        let Some(container) = found else {
            return ContainerView::default();
        };
        ContainerView {
            // A dead actor has nobody on board.
            aboard: container.addr.send(Aboards).await.unwrap_or_default(),
            servers: container.kit.servers.pids().await.len(),
            uptime: container.since.elapsed(),
        }
    }

    /// Pids of all `kilo serve` children.
    pub(crate) async fn server_pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for container in self.running() {
            pids.extend(container.kit.servers.pids().await);
        }
        pids
    }
}

/// How many reports no rig has taken yet; a store that is closed has told what it could.
async fn untold(town: &Stub<TownActor>) -> usize {
    let count = |town: &rig::town::Town, _| {
        let untold = |entry: &&Entry| entry.is_untold();
        town.entries().filter(untold).count()
    };
    town.send(LookTown(Box::new(count))).await.unwrap_or(0)
}

/// Ends the recorded servers of an earlier life. The sweep by marker came first; this one finds
/// what hides its environment. Nothing goes on while one of them may still work.
async fn end_recorded(places: &[Place]) -> Result<(), Error> {
    let boot_id = kilo::boot_id();
    let of_this_boot = places
        .iter()
        .filter(|place| Some(&place.boot_id) == boot_id.as_ref());
    let recorded = of_this_boot.map(|place| kilo::Identity {
        pid: place.pid,
        start_time: place.start_time,
    });
    let swept = kilo::end_recorded(recorded.collect(), SWEEP_GRACE).await;
    if swept.survivors.is_empty() {
        return Ok(());
    }
    Err(Error::Leftovers {
        pids: swept.survivors,
    })
}
