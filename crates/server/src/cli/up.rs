//! `wellhead up`: a runtime and its facade, from the first line to the last signal.
//!
//! Owns the order: runtime, facade, ready line; then wait; then facade, runtime. What the line says
//! is true when it is printed: the address is bound and answers.

use std::{env, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use runtime::{Runtime, Settings, StartError};
use secrecy::SecretString;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    exit::{Exit, failed},
    paths,
};
use crate::{Facade, FacadeError, FacadeSettings};

/// Agents get this long to stop and have their work saved.
const DRAIN: Duration = Duration::from_secs(20);
/// After a second signal: one try to flush, not more.
const FLUSH: Duration = Duration::from_secs(1);
/// Ours first; the second name is that of the hosted system.
const JWT_VARIABLES: [&str; 2] = ["WELLHEAD_JWT_SECRET", "GASTOWN_JWT_SECRET"];

/// What `wellhead up` is told.
#[derive(Clone, Debug, clap::Args)]
pub struct UpArgs {
    /// Where everything is kept: state, tokens, clones, worktrees
    /// [default: wellhead in `$XDG_DATA_HOME`]
    #[arg(long, value_name = "DIR", env = "WELLHEAD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The loopback address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4180")]
    pub listen: SocketAddr,
    /// Print the ready line as one JSON object
    #[arg(long)]
    pub json: bool,
    /// The kilo program [default: the data directory's own, then the one in PATH]
    #[arg(long, value_name = "PATH")]
    pub kilo: Option<PathBuf>,
    /// The model of rigs that name none [default: the gateway's]
    #[arg(long, value_name = "ID")]
    pub model: Option<String>,
    /// A further host name under which the server answers; may be repeated
    #[arg(long = "allow-host", value_name = "NAME")]
    pub allow_hosts: Vec<String>,
}

/// Runs the server until a signal or a fatal failure.
pub(super) async fn run(args: UpArgs) -> ExitCode {
    // Before anything is started, so that no signal is missed.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(Exit::Failure, &format!("cannot wait for signals: {error}")),
    };
    if !args.listen.ip().is_loopback() {
        return failed(
            Exit::Usage,
            &FacadeError::NotLoopback(args.listen).to_string(),
        );
    }
    let data_dir = match paths::chosen(args.data_dir.as_deref()) {
        Ok(dir) => dir,
        Err(why) => return failed(Exit::Usage, &why),
    };
    let runtime = match start_runtime(&args, data_dir).await {
        Ok(runtime) => runtime,
        Err(error) => return failed(exit_of(&error), &error.to_string()),
    };
    let code = match start_facade(&args, &runtime).await {
        Ok(facade) => serve(&facade, &runtime, &mut signals, args.json).await,
        Err(error) => failed(Exit::Failure, &error.to_string()),
    };
    stop_runtime(&runtime, &mut signals).await.unwrap_or(code)
}

async fn start_runtime(args: &UpArgs, data_dir: PathBuf) -> Result<Runtime, StartError> {
    let settings = Settings {
        kilo_program: args.kilo.clone(),
        default_model: args.model.clone(),
        ..Settings::new(data_dir).with_process_environment()
    };
    Box::pin(Runtime::start(settings)).await
}

fn exit_of(error: &StartError) -> Exit {
    match error {
        StartError::DataDir(error) => exit_of_dir(error),
        StartError::Store(runtime::StoreError::Busy { .. }) => Exit::RefusedByState,
        _ => Exit::Failure,
    }
}

/// How a command ends that can not use its data directory.
pub(super) fn exit_of_dir(error: &runtime::DataDirError) -> Exit {
    use runtime::DataDirError as Dir;
    match error {
        Dir::Relative { .. } | Dir::ParentMissing { .. } | Dir::NotADirectory { .. } => Exit::Usage,
        Dir::Io { .. } => Exit::Failure,
        _ => Exit::RefusedByState,
    }
}

async fn start_facade(args: &UpArgs, runtime: &Runtime) -> Result<Facade, FacadeError> {
    let given = JWT_VARIABLES.iter().find_map(|name| env::var(name).ok());
    let settings = FacadeSettings {
        listen: args.listen,
        allow_hosts: args.allow_hosts.clone(),
        jwt_secret: given.map(SecretString::from),
    };
    Facade::start(runtime.clone(), settings).await
}

/// Prints the ready line and waits for the end. The facade accepts nothing more afterwards.
async fn serve(facade: &Facade, runtime: &Runtime, signals: &mut Signals, json: bool) -> ExitCode {
    let mut fatal = runtime.fatal();
    let code = if let Err(error) = print_ready(facade, json) {
        failed(
            Exit::Failure,
            &format!("cannot print the ready line: {error}"),
        )
    } else {
        tokio::select! {
            name = signals.next() => {
                tracing::info!(signal = name, "stopping; a second signal ends it at once");
                Exit::Ok.into()
            }
            // An error means that the runtime is gone: as fatal as any reason.
            reason = fatal.wait_for(Option::is_some) => {
                let reason = reason.ok().and_then(|reason| reason.clone());
                let reason = reason.unwrap_or_else(|| "the runtime ended".to_owned());
                failed(Exit::Failure, &format!("nothing can be stored any more: {reason}"))
            }
        }
    };
    tokio::select! {
        () = facade.stop() => code,
        _ = signals.next() => Exit::Interrupted.into(),
    }
}

/// Stops the runtime; `Some` when a second signal cut it.
async fn stop_runtime(runtime: &Runtime, signals: &mut Signals) -> Option<ExitCode> {
    tokio::select! {
        () = runtime.stop(DRAIN) => None,
        name = signals.next() => {
            tracing::warn!(signal = name, "ending at once; agents are continued at the next start");
            let _ = tokio::time::timeout(FLUSH, runtime.stop(Duration::ZERO)).await;
            Some(Exit::Interrupted.into())
        }
    }
}

fn print_ready(facade: &Facade, json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let line = json!({
            "url": facade.url(),
            "admin_token_file": facade.admin_token_file(),
            "pid": std::process::id(),
            "viewer_token_file": facade.viewer_token_file(),
            "data_dir": facade.data_dir(),
            "open_url": facade.open_url(),
        });
        writeln!(out, "{line}")?;
    } else {
        let (link, data_dir) = (facade.open_url(), facade.data_dir().display());
        writeln!(
            out,
            "Wellhead is up: open {link} (works once, for 5 minutes); data in {data_dir}"
        )?;
    }
    out.flush()
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
