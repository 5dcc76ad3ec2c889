//! The start of a server, phase by phase under one deadline: directories, spawn, ready line,
//! health, configuration, events.
//!
//! It must not know sessions. Whatever fails, the child is ended and waited for first.

use crate::child::{ExitInfo, Supervised};
use crate::client::Client;
use crate::env::{EnvValue, child_env};
use crate::event::Event;
use crate::feed::{EventFeed, FeedTimes, Hub, SseFeed};
use crate::http::ClientError;
use crate::redact::Redactor;
use crate::server::Server;
use crate::settings::ServerSettings;
use crate::spawner::Recipe;
use crate::version::{Support, Version};
use base64::Engine;
use rand::RngCore;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// A server that failed to start is not asked nicely for long.
const FAILED_GRACE: Duration = Duration::from_secs(2);
const HEALTH_RETRY: Duration = Duration::from_millis(50);
/// Tells one start from all others with the same marker: the end of one is not theirs.
const LIFE_VARIABLE: &str = "WELLHEAD_SERVER_LIFE";

/// A start that failed; nothing of it is left running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("kilo serve did not start ({phase}): {text}")]
pub struct StartError {
    /// How far it came.
    pub phase: Phase,
    /// In what way it failed.
    pub kind: StartErrorKind,
    /// For people: the reason and the child's last lines, redacted.
    pub text: String,
}

/// The phases of a start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Private directories and the environment.
    Prepare,
    /// Fork and exec.
    Spawn,
    /// Waiting for the line that names the port.
    Ready,
    /// The health route and the version.
    Health,
    /// Whether it took its configuration.
    Config,
    /// The event stream.
    Events,
}

/// In what way a start failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartErrorKind {
    /// The private directory cannot be made or cleaned.
    PrivateDir,
    /// The program cannot be run.
    Spawn,
    /// The process ended by itself.
    Exited(ExitInfo),
    /// The start deadline passed.
    Timeout,
    /// The server's version is not supported.
    UnsupportedVersion,
    /// Kilo did not accept its configuration.
    ConfigRejected,
    /// It answered wrongly.
    Http,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prepare => "preparing its directories",
            Self::Spawn => "spawning it",
            Self::Ready => "waiting for its ready line",
            Self::Health => "asking for its health",
            Self::Config => "checking its configuration",
            Self::Events => "connecting to its events",
        })
    }
}

pub(crate) async fn start(settings: ServerSettings) -> Result<Server, StartError> {
    let deadline = Instant::now() + settings.start_deadline;
    let password = random_password();
    let redactor = redactor(&settings, &password);
    prepare(&settings).await?;
    let marker = own_marker(&settings.marker);
    let recipe = recipe(&settings, &password, &marker);
    let spawned = Supervised::spawn(recipe, marker, redactor.clone()).await;
    let child = spawned.map_err(|error| {
        let text = format!(
            "{}: {error}; check the kilo program setting",
            settings.program.path.display()
        );
        StartError {
            phase: Phase::Spawn,
            kind: StartErrorKind::Spawn,
            text: redactor.clean(&text),
        }
    })?;
    let starting = Starting {
        child: &child,
        deadline,
        redactor: &redactor,
    };
    match starting.bring_up(password).await {
        Ok(up) => Ok(Server {
            child,
            client: up.client,
            hub: up.hub,
            port: up.port,
            version: up.version,
            marker: settings.marker,
            redactor,
        }),
        Err(failure) => Err(failed(failure, &child, &redactor).await),
    }
}

/// Ends the child and writes its last lines into the error.
async fn failed(failure: Failure, child: &Supervised, redactor: &Redactor) -> StartError {
    let ended = child.end(FAILED_GRACE).await;
    let Failure {
        phase,
        mut kind,
        mut text,
    } = failure;
    if let StartErrorKind::Exited(info) = &mut kind {
        *info = ended.exit.clone();
        text = format!("it ended by itself ({})", describe(info));
    }
    let lines = child.stderr.lines();
    if !lines.is_empty() {
        text = format!(
            "{text}; its last lines: {}",
            redactor.clean(&lines.join("\n"))
        );
    }
    StartError { phase, kind, text }
}

fn describe(info: &ExitInfo) -> String {
    match (info.code, info.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "cause unknown".to_owned(),
    }
}

/// The marker of this start alone. Without a marker only ancestry says what is ours.
fn own_marker(shared: &[(String, String)]) -> Vec<(String, String)> {
    let mut marker = shared.to_vec();
    if !marker.is_empty() {
        let life = format!("{:016x}", rand::rng().next_u64());
        marker.push((LIFE_VARIABLE.to_owned(), life));
    }
    marker
}

fn random_password() -> SecretString {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    base64::engine::general_purpose::URL_SAFE_NO_PAD
        .encode(bytes)
        .into()
}

/// Knows the password, what the basic scheme makes of it, and the token.
fn redactor(settings: &ServerSettings, password: &SecretString) -> Redactor {
    let pair = format!("kilo:{}", password.expose_secret());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let token = settings.credentials.token().cloned();
    Redactor::new([password.clone(), encoded.into()].into_iter().chain(token))
}

fn recipe(
    settings: &ServerSettings,
    password: &SecretString,
    marker: &[(String, String)],
) -> Recipe {
    let host_env: HashMap<_, _> = std::env::vars_os().collect();
    let mut env = child_env(settings, password, std::process::id(), &host_env);
    env.extend(marker.iter().map(|(name, value)| {
        let value = EnvValue::Plain(value.into());
        (name.into(), value)
    }));
    Recipe {
        program: settings.program.path.clone(),
        args: ["serve", "--hostname", "127.0.0.1", "--port", "0"]
            .map(Into::into)
            .to_vec(),
        env,
        dir: settings.places().stand(),
    }
}

async fn prepare(settings: &ServerSettings) -> Result<(), StartError> {
    let places = settings.places();
    let mut dirs = vec![settings.private_dir.clone(), places.stand()];
    dirs.extend(places.by_variable().map(|(_, dir)| dir));
    let auth_file = places.auth_file();
    let work = move || {
        dirs.iter().try_for_each(|dir| private_dir(dir))?;
        // Stored credentials would outrank the ones we hand over.
        match std::fs::remove_file(auth_file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    let done = tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|error| StartError {
        phase: Phase::Prepare,
        kind: StartErrorKind::PrivateDir,
        text: format!(
            "{}: {error}; make it writable for this user",
            settings.private_dir.display()
        ),
    })
}

fn private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    // It may have been made earlier, by somebody with another umask.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))
}

struct Up {
    client: Client,
    hub: Hub,
    port: u16,
    version: String,
}

#[derive(Debug)]
struct Failure {
    phase: Phase,
    kind: StartErrorKind,
    text: String,
}

struct Starting<'a> {
    child: &'a Supervised,
    deadline: Instant,
    redactor: &'a Redactor,
}

impl Starting<'_> {
    async fn bring_up(&self, password: SecretString) -> Result<Up, Failure> {
        let port = self.within(Phase::Ready, self.ready()).await?;
        let client = Client::new(port, password, self.redactor.clone());
        let client = client.map_err(|error| http(Phase::Health, &error))?;
        let version = self.within(Phase::Health, healthy(&client)).await?;
        self.within(Phase::Config, accepted_config(&client)).await?;
        let feed = SseFeed::new(client.clone(), FeedTimes::default());
        let (hub, mut first) = Hub::start(feed, self.child.exit());
        let connected = async {
            while let Some(event) = first.next().await {
                if *event == Event::Reconnected {
                    return Ok(());
                }
            }
            Err(Failure {
                phase: Phase::Events,
                kind: StartErrorKind::Http,
                text: "no events".into(),
            })
        };
        self.within(Phase::Events, connected).await?;
        Ok(Up {
            client,
            hub,
            port,
            version,
        })
    }

    async fn ready(&self) -> Result<u16, Failure> {
        match self.child.port().await {
            Some(port) => Ok(port),
            // Its output has ended; its exit follows and says more.
            None => std::future::pending().await,
        }
    }

    /// A phase ends with its result, the process's exit or the deadline.
    async fn within<T>(
        &self,
        phase: Phase,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut exit = self.child.exit();
        tokio::select! {
            biased;
            info = exit.wait() => {
                Err(Failure { phase, kind: StartErrorKind::Exited(info), text: String::new() })
            }
            result = tokio::time::timeout_at(self.deadline, work) => result.unwrap_or_else(|_| {
                let text = "the start deadline passed; look at the machine's load or raise the deadline";
                Err(Failure { phase, kind: StartErrorKind::Timeout, text: text.into() })
            }),
        }
    }
}

fn http(phase: Phase, error: &ClientError) -> Failure {
    Failure {
        phase,
        kind: StartErrorKind::Http,
        text: error.to_string(),
    }
}

/// Asks until it is healthy: the port is announced a moment before it answers.
async fn healthy(client: &Client) -> Result<String, Failure> {
    let health = loop {
        match client.health().await {
            Ok(health) if health.healthy => break health,
            Ok(_) => {}
            Err(error) if error.kind == crate::http::ClientErrorKind::Connect => {}
            Err(error) => return Err(http(Phase::Health, &error)),
        }
        tokio::time::sleep(HEALTH_RETRY).await;
    };
    match Version::parse(&health.version).map(|version| version.support()) {
        Some(Support::Tested | Support::Untested(_)) => Ok(health.version),
        Some(Support::No) | None => Err(Failure {
            phase: Phase::Health,
            kind: StartErrorKind::UnsupportedVersion,
            text: format!(
                "it is version {:?}; install {}",
                crate::redact::cut(&health.version, 40),
                crate::version::TESTED
            ),
        }),
    }
}

/// A configuration that kilo cannot read leaves no other trace: it starts without it.
async fn accepted_config(client: &Client) -> Result<(), Failure> {
    let warnings = client
        .warnings()
        .await
        .map_err(|error| http(Phase::Config, &error))?;
    if warnings.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.path, warning.message))
        .collect();
    let text = format!("it rejected its configuration: {}", all.join("; "));
    Err(Failure {
        phase: Phase::Config,
        kind: StartErrorKind::ConfigRejected,
        text,
    })
}
