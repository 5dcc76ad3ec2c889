//! The gateway's life: it listens on one port of 127.0.0.1, can refuse connections for a while, and
//! ends.
//!
//! Its HTTP workers have threads of their own, so it runs inside any tokio runtime.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use secrecy::SecretString;
use tokio::net::TcpSocket;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::error::Error;
use super::log::{Counters, Ledger, RequestLog};
use super::routes::{Shared, routes};
use super::script::Script;

const BACKLOG: u32 = 1_024;
/// How long the old listener may take to give the port back.
const REBIND_WITHIN: Duration = Duration::from_secs(5);
const REBIND_EVERY: Duration = Duration::from_millis(10);
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How a gateway is started.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// The bearer token that chat requests must carry.
    pub token: SecretString,
    /// The port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// A file that gets one JSON line for each chat request.
    pub log_file: Option<PathBuf>,
    /// Model ids to list besides the scripted ones.
    pub models: Vec<String>,
}

impl GatewaySettings {
    /// A free port, no file, the scripted models.
    pub fn new(token: SecretString) -> Self {
        Self {
            token,
            port: 0,
            log_file: None,
            models: Vec::new(),
        }
    }
}

/// A scripted gateway that runs. Dropping it ends it; [`Gateway::stop`] also waits for that.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    port: u16,
    listener: Mutex<Listener>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Listener {
    Up(Running),
    /// Bound and not listening: connections are refused, and nobody else gets the port.
    Down(TcpSocket),
    Stopped,
}

impl Gateway {
    /// Starts a gateway on 127.0.0.1.
    pub async fn start(script: Script, settings: GatewaySettings) -> Result<Self, Error> {
        let GatewaySettings {
            token,
            port,
            log_file,
            models,
        } = settings;
        let socket = bind(port)?;
        let (ledger, writer) = Ledger::open(log_file.as_deref()).await?;
        let shared = Arc::new(Shared {
            script,
            token: RwLock::new(token),
            models,
            ledger,
        });
        let running = Running::start(socket, port, Arc::clone(&shared))?;
        Ok(Self {
            shared,
            port: running.port,
            listener: Mutex::new(Listener::Up(running)),
            writer: Mutex::new(writer),
        })
    }

    /// What `KILO_API_URL` has to be. It stays the same for the gateway's whole life.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The last 10,000 chat requests, oldest first.
    pub fn requests(&self) -> Vec<RequestLog> {
        self.shared.ledger.recent()
    }

    /// The totals since the start.
    pub fn counters(&self) -> Counters {
        self.shared.ledger.watch().borrow().clone()
    }

    /// Follows the totals.
    pub fn watch(&self) -> watch::Receiver<Counters> {
        self.shared.ledger.watch()
    }

    /// Waits until the totals are as wanted, and returns them.
    pub async fn wait_until(
        &self,
        wanted: impl FnMut(&Counters) -> bool,
        within: Duration,
    ) -> Result<Counters, Error> {
        let mut counters = self.watch();
        let seen = timeout(within, counters.wait_for(wanted)).await;
        if let Ok(Ok(counters)) = seen {
            return Ok(counters.clone());
        }
        Err(Error::Deadline {
            waited_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
            seen: format!("{:?}", self.counters()),
        })
    }

    /// From now on only this token is right.
    pub fn set_token(&self, token: SecretString) {
        *self
            .shared
            .token
            .write()
            .unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// Down: open connections break and new ones are refused. Up: the same port answers again.
    pub async fn set_down(&self, down: bool) -> Result<(), Error> {
        let mut listener = self.listener.lock().await;
        match std::mem::replace(&mut *listener, Listener::Stopped) {
            Listener::Stopped => return Err(Error::Stopped),
            Listener::Up(running) if down => {
                running.stop().await;
                *listener = Listener::Down(rebind(self.port).await?);
            }
            Listener::Down(socket) if !down => {
                let running = Running::start(socket, self.port, Arc::clone(&self.shared))?;
                *listener = Listener::Up(running);
            }
            as_wanted => *listener = as_wanted,
        }
        Ok(())
    }

    /// Ends the gateway: open connections break, the log file is complete afterwards.
    pub async fn stop(&self) {
        let listener = std::mem::replace(&mut *self.listener.lock().await, Listener::Stopped);
        if let Listener::Up(running) = listener {
            running.stop().await;
        }
        self.shared.ledger.close();
        if let Some(writer) = self.writer.lock().await.take() {
            // A disk that does not answer must not keep the caller.
            if timeout(STOP_WITHIN, writer).await.is_err() {
                tracing::warn!("the request log of the gateway is not complete");
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.shared.ledger.close();
    }
}

#[derive(Debug)]
struct Running {
    port: u16,
    handle: ServerHandle,
    task: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start(socket: TcpSocket, port: u16, shared: Arc<Shared>) -> Result<Self, Error> {
        let failed = |source| Error::Bind { port, source };
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let listener = listener.into_std().map_err(failed)?;
        let shared = web::Data::from(shared);
        let server = HttpServer::new(move || App::new().app_data(shared.clone()).configure(routes))
            .workers(1)
            // A client that leaves ends its answer, also one that hangs.
            .h1_allow_half_closed(false)
            .disable_signals()
            .listen(listener)
            .map_err(Error::Serve)?
            .run();
        Ok(Self {
            port,
            handle: server.handle(),
            task: Some(tokio::spawn(server)),
        })
    }

    async fn stop(mut self) {
        if timeout(STOP_WITHIN, self.handle.stop(false)).await.is_err() {
            tracing::warn!("the gateway's listener does not end");
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The command is sent by the call; the future would only wait for the end.
        drop(self.handle.stop(false));
    }
}

fn bind(port: u16) -> Result<TcpSocket, Error> {
    let failed = |source| Error::Bind { port, source };
    let socket = TcpSocket::new_v4().map_err(failed)?;
    // The port may be in use by connections that have ended, not by a listener.
    socket.set_reuseaddr(true).map_err(failed)?;
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    socket.bind(SocketAddr::V4(address)).map_err(failed)?;
    Ok(socket)
}

/// Takes the port as soon as the old listener is gone: success is the proof that it is.
async fn rebind(port: u16) -> Result<TcpSocket, Error> {
    let deadline = Instant::now() + REBIND_WITHIN;
    loop {
        match bind(port) {
            Err(_) if Instant::now() < deadline => sleep(REBIND_EVERY).await,
            bound_or_late => return bound_or_late,
        }
    }
}
