//! The facade's life: secrets, listener, workers, end.
//!
//! Owns the order of its start and its end. The runtime is the host's: it is neither started nor
//! stopped here.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web::Data};
use runtime::Runtime;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::JoinHandle;

use super::{
    access::{Hosts, Keys, SecretError, Sessions, admin_token_file, viewer_token_file},
    outer::outer,
    state::State,
    table,
};

/// Open requests get this long when the facade stops.
const SHUTDOWN_S: u64 = 5;
/// A little more than that before the listener's task is cut.
const STOP_WITHIN: Duration = Duration::from_secs(SHUTDOWN_S + 2);
/// Slow clients can not hold a connection without a whole request head for longer.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
const CONNECTIONS_MAX: usize = 1_024;

/// How a facade is started.
#[derive(Clone, Debug)]
pub struct FacadeSettings {
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further names under which the facade answers, as a reverse proxy sends them.
    pub allow_hosts: Vec<String>,
    /// Signs agents' tokens, at least 32 bytes; otherwise one is made and kept in the data
    /// directory.
    pub jwt_secret: Option<SecretString>,
}

impl FacadeSettings {
    /// A free port of 127.0.0.1. Reads nothing.
    pub fn loopback() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_hosts: Vec::new(),
            jwt_secret: None,
        }
    }
}

/// Why a facade did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FacadeError {
    /// The address can be reached from other machines.
    #[error("{0} is no loopback address; listen on 127.0.0.1 or [::1], with a proxy in front")]
    NotLoopback(SocketAddr),
    /// The address can not be used.
    #[error("cannot listen on {address}: {source}; choose another port, or 0 for a free one")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// A secret can not be read, made or trusted.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The HTTP server's threads could not be started.
    #[error("cannot start the HTTP server: {0}")]
    Serve(std::io::Error),
}

/// A running facade. Dropping it ends it; [`Facade::stop`] also waits for that.
pub struct Facade {
    state: Data<State>,
    address: SocketAddr,
    data_dir: PathBuf,
    open_url: String,
    handle: ServerHandle,
    task: Mutex<Option<JoinHandle<std::io::Result<()>>>>,
}

impl Facade {
    /// Starts to serve a runtime. Tokens lie in the runtime's data directory.
    ///
    /// # Errors
    /// [`FacadeError`]; nothing is left running then.
    pub async fn start(runtime: Runtime, settings: FacadeSettings) -> Result<Self, FacadeError> {
        let FacadeSettings {
            listen,
            allow_hosts,
            jwt_secret,
        } = settings;
        let data_dir = runtime.data_dir().to_owned();
        if !listen.ip().is_loopback() {
            return Err(FacadeError::NotLoopback(listen));
        }
        let dir = data_dir.clone();
        let opened = tokio::task::spawn_blocking(move || Keys::open(&dir, jwt_secret)).await;
        let keys = opened.map_err(|error| FacadeError::Serve(std::io::Error::other(error)))??;
        let failed = |source| FacadeError::Bind {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let sessions = Sessions::new(address.port());
        let key = sessions.new_key(Instant::now())?;
        let open_url = format!("http://{address}/#key={}", key.expose_secret());
        let hosts = Hosts::new(address, &allow_hosts);
        let life = uuid::Uuid::new_v4().simple().to_string();
        let state = Data::new(State::new(runtime, hosts, keys, sessions, life));
        let (handle, task) = serve(&state, listener)?;
        let task = Mutex::new(Some(task));
        Ok(Self {
            state,
            address,
            data_dir,
            open_url,
            handle,
            task,
        })
    }

    /// Where it answers, as really bound; without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The link that signs a browser in: once, within five minutes of the start. A secret.
    pub fn open_url(&self) -> &str {
        &self.open_url
    }

    /// The file with the admin's bearer token.
    pub fn admin_token_file(&self) -> PathBuf {
        admin_token_file(&self.data_dir)
    }

    /// The file with the bearer token that may only read.
    pub fn viewer_token_file(&self) -> PathBuf {
        viewer_token_file(&self.data_dir)
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Accepts nothing more, ends long polls, and lets open requests finish for five seconds.
    pub async fn stop(&self) {
        self.state.stopping.cancel();
        if tokio::time::timeout(STOP_WITHIN, self.handle.stop(true))
            .await
            .is_err()
        {
            tracing::warn!("the HTTP server does not end; it is cut");
        }
        let task = self
            .task
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

impl fmt::Debug for Facade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The link is a secret.
        f.debug_struct("Facade")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Facade {
    fn drop(&mut self) {
        self.state.stopping.cancel();
        // The command is sent by the call; the future would only wait for the end.
        drop(self.handle.stop(false));
    }
}

type Serving = (ServerHandle, JoinHandle<std::io::Result<()>>);

fn serve(state: &Data<State>, listener: TcpListener) -> Result<Serving, FacadeError> {
    let shared = state.clone();
    let make = move || {
        App::new()
            .app_data(shared.clone())
            .wrap(from_fn(outer))
            .configure(table::mount)
    };
    let server = HttpServer::new(make)
        .workers(2)
        .max_connections(CONNECTIONS_MAX)
        .client_request_timeout(HEAD_WITHIN)
        .shutdown_timeout(SHUTDOWN_S)
        // Signals are the host program's.
        .disable_signals()
        .listen(listener)
        .map_err(FacadeError::Serve)?
        .run();
    Ok((server.handle(), tokio::spawn(server)))
}
