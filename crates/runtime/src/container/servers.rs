//! The `kilo serve` children of a container: one per gateway, credential and configuration, shared
//! by many sessions.
//!
//! Owns starting each once however many ask at once, counting their sessions, ending the idle, and
//! ending all. Knows no dispatch.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kilo::{Server, ServerSettings, StartError};

/// A server without sessions is ended after this long: it costs half a gigabyte, and a new start
/// costs seconds.
const IDLE_MS: u64 = 5 * 60 * 1_000;
/// Ending a server: kilo needs about a second for its own clean end.
const END_GRACE: Duration = Duration::from_secs(5);

/// Which server is wanted; equal keys share one.
#[derive(Clone, Debug)]
pub(crate) struct ServerSpec {
    /// Gateway origin, credential id and configuration, as a name for its private directory.
    pub(crate) key: String,
    /// What it is started with.
    pub(crate) settings: ServerSettings,
}

/// All servers of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Servers {
    slots: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Locked while a start is under way, so that others wait for it instead of starting another.
    current: tokio::sync::Mutex<Option<Arc<Running>>>,
}

#[derive(Debug)]
struct Running {
    server: Server,
    sessions: AtomicUsize,
    /// How many sessions were on it when its death was first noticed.
    crowd: OnceLock<usize>,
}

/// A session's place on a server; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct ServerLease {
    running: Arc<Running>,
    slot: Arc<Slot>,
}

impl Servers {
    /// A place on the server of that key; starts it if it does not run.
    pub(crate) async fn lease(&self, spec: &ServerSpec) -> Result<ServerLease, StartError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(spec.key.clone()).or_default())
        };
        let mut current = slot.current.lock().await;
        let alive = current
            .as_ref()
            .filter(|running| running.server.exit_info().is_none());
        let running = if let Some(running) = alive {
            Arc::clone(running)
        } else {
            let server = Box::pin(Server::start(spec.settings.clone())).await?;
            tracing::info!(
                pid = server.pid(),
                port = server.port(),
                "kilo serve is ready"
            );
            let (sessions, crowd) = (AtomicUsize::new(0), OnceLock::new());
            let running = Arc::new(Running {
                server,
                sessions,
                crowd,
            });
            *current = Some(Arc::clone(&running));
            running
        };
        running.sessions.fetch_add(1, Ordering::SeqCst);
        drop(current);
        Ok(ServerLease { running, slot })
    }

    /// Pids of the servers that run.
    pub(crate) async fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        for slot in self.all() {
            if let Some(running) = slot.current.lock().await.as_ref()
                && running.server.exit_info().is_none()
            {
                pids.push(running.server.pid());
            }
        }
        pids
    }

    /// Ends every server, with everything that it started.
    pub(crate) async fn end_all(&self) {
        let ends = self.all().into_iter().map(|slot| async move {
            let running = slot.current.lock().await.take();
            if let Some(running) = running {
                running.server.end(END_GRACE).await;
            }
        });
        futures_util::future::join_all(ends).await;
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().map(Arc::clone).collect()
    }
}

impl ServerLease {
    /// The server.
    pub(crate) fn server(&self) -> &Server {
        &self.running.server
    }

    /// Whether this session was the only one on the server when it died. The first to ask decides
    /// it for all, so that a crowd that leaves one by one is not taken for the last one alone.
    pub(crate) fn was_alone(&self) -> bool {
        let now = || self.running.sessions.load(Ordering::SeqCst);
        *self.running.crowd.get_or_init(now) <= 1
    }

    /// Ends the server under all of its sessions: one of them could not be proven over.
    pub(crate) async fn end_server(&self) {
        self.running.server.end(END_GRACE).await;
    }
}

impl Drop for ServerLease {
    fn drop(&mut self) {
        if self.running.sessions.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        let (running, slot) = (Arc::clone(&self.running), Arc::clone(&self.slot));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(end_when_idle(running, slot));
        }
    }
}

/// Ends the server unless a session came back to it meanwhile.
async fn end_when_idle(running: Arc<Running>, slot: Arc<Slot>) {
    let exited = running.server.exited();
    tokio::select! {
        _ = exited => {}
        () = tokio::time::sleep(Duration::from_millis(IDLE_MS)) => {}
    }
    let mut current = slot.current.lock().await;
    let is_current = current
        .as_ref()
        .is_some_and(|now| Arc::ptr_eq(now, &running));
    if is_current && running.sessions.load(Ordering::SeqCst) == 0 {
        *current = None;
        running.server.end(END_GRACE).await;
    }
}

/// Where a server keeps its data: below the container's directory, by key.
pub(crate) fn private_dir(servers: &std::path::Path, key: &str) -> PathBuf {
    servers.join(key)
}
