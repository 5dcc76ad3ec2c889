//! One running `kilo serve`: its handle, its sessions, its end.
//!
//! Starting it is `start`'s business, owning the process `child`'s. It must not know what the
//! sessions are for.

use crate::child::{Ended, ExitInfo, Supervised};
use crate::client::Client;
use crate::error::ErrorKind;
use crate::feed::{Hub, Subscription};
use crate::http::ClientError;
use crate::redact::Redactor;
use crate::session::Session;
use crate::settings::ServerSettings;
use crate::start::{self, StartError};
use std::future::Future;
use std::path::Path;
use std::time::Duration;

/// A running server. Dropping it ends the process and its descendants in the background.
#[derive(Debug)]
pub struct Server {
    pub(crate) child: Supervised,
    pub(crate) client: Client,
    pub(crate) hub: Hub,
    pub(crate) port: u16,
    pub(crate) version: String,
    pub(crate) marker: Vec<(String, String)>,
    pub(crate) redactor: Redactor,
}

/// Why a model cannot be used; found without spending anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Kilo has no credentials for the gateway.
    #[error("kilo has no credentials for the gateway; set a token")]
    NoCredentials,
    /// The gateway does not list it.
    #[error(
        "the gateway does not list the model {model} (it lists {listed} others); set one that it lists"
    )]
    NotListed {
        /// The model asked for.
        model: String,
        /// How many it lists.
        listed: usize,
    },
    /// The gateway listed nothing at all: it is down, or refused the credentials.
    #[error("the gateway listed no models; check that it is reachable and that the token is valid")]
    NothingListed,
    /// The server did not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl ModelError {
    /// The kind of failure this would become in a session.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoCredentials => ErrorKind::Credentials,
            Self::NotListed { .. } => ErrorKind::ModelNotFound,
            Self::NothingListed => ErrorKind::GatewayDown,
            Self::Client(_) => ErrorKind::Other,
        }
    }
}

impl Server {
    /// Starts a server and waits until it is ready and its events flow. After an error nothing of
    /// it is left.
    pub async fn start(settings: ServerSettings) -> Result<Self, StartError> {
        // On the heap: it is large, and the caller's own future holds it.
        Box::pin(start::start(settings)).await
    }

    /// Process id of the server.
    pub fn pid(&self) -> u32 {
        self.child.identity.pid
    }

    /// Start time of that process, in clock ticks since boot.
    pub fn start_time(&self) -> u64 {
        self.child.identity.start_time
    }

    /// Port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the running server says it is.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Resolves as soon as the process is gone, whatever ended it.
    pub fn exited(&self) -> impl Future<Output = ExitInfo> + Send + use<> {
        let mut exit = self.child.exit();
        async move { exit.wait().await }
    }

    /// The exit, if it has happened.
    pub fn exit_info(&self) -> Option<ExitInfo> {
        self.child.exit().now()
    }

    /// Calls to this server.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// All events of this server from now on.
    pub fn events(&self) -> Subscription {
        self.hub.subscribe()
    }

    /// Whether the gateway's model can be used: credentials present and the model listed.
    pub async fn check_model(&self, model: &str) -> Result<(), ModelError> {
        let providers = self.client.providers().await?.providers;
        let kilo = providers.iter().find(|provider| provider.id == "kilo");
        match kilo {
            None => Err(ModelError::NoCredentials),
            Some(kilo) if kilo.source == "custom" => Err(ModelError::NoCredentials),
            Some(kilo) if kilo.models.contains_key(model) => Ok(()),
            Some(kilo) if kilo.models.is_empty() => Err(ModelError::NothingListed),
            Some(kilo) => Err(ModelError::NotListed {
                model: model.to_owned(),
                listed: kilo.models.len(),
            }),
        }
    }

    /// A new session that works in a directory.
    pub async fn open_session(&self, dir: &Path, title: &str) -> Result<Session, ClientError> {
        let events = self.hub.subscribe();
        let info = self.client.create_session(dir, title).await?;
        Ok(self.session(info.id, dir, events))
    }

    /// A session of an earlier server on the same private directory; `None` when it is not there.
    pub async fn resume_session(
        &self,
        id: &str,
        dir: &Path,
    ) -> Result<Option<Session>, ClientError> {
        let events = self.hub.subscribe();
        let exists = self.client.session_exists(id, dir).await?;
        Ok(exists.then(|| self.session(id.to_owned(), dir, events)))
    }

    /// Ends the process and all its descendants, and proves it. Safe to call more than once.
    pub async fn end(&self, grace: Duration) -> Ended {
        self.child.end(grace).await
    }

    fn session(&self, id: String, dir: &Path, events: Subscription) -> Session {
        let parts = crate::session::Parts {
            client: self.client.clone(),
            exit: self.child.exit(),
            redactor: self.redactor.clone(),
            marker: self.marker.clone(),
            server_pid: self.pid(),
        };
        Session::new(id, dir.to_owned(), parts, events)
    }
}
