//! What the demo starts before anybody plays: data directory, kilo, gateway, server.
//!
//! Owns start and end of all of it, and where lines for people go. Knows no bead.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::RngCore;
use runtime::{Runtime, Settings};
use secrecy::SecretString;

use super::{Args, Trouble, eprint_line, print_line};
use crate::{
    facade::{Facade, FacadeSettings},
    gateway::{Gateway, GatewaySettings, Script},
    provision::{Progress, ensure_kilo},
};

/// The version that the demo installs.
pub(super) const KILO_VERSION: &str = "7.7.7";
/// At the end agents get this long before they are cut.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Everything that runs.
pub(super) struct Stage {
    pub(super) runtime: Runtime,
    pub(super) gateway: Gateway,
    /// The gateway's token, for the rigs that use it.
    pub(super) token: SecretString,
    /// Whether the first bead goes to a real gateway.
    pub(super) real_gateway: bool,
    pub(super) data_dir: PathBuf,
    /// The program that was installed.
    pub(super) kilo: PathBuf,
    facade: Facade,
    began: Instant,
    json: bool,
}

/// What is known when everything has ended.
pub(super) struct Ended {
    pub(super) seconds: f64,
    pub(super) processes_left: usize,
    pub(super) gateway_requests: u64,
    pub(super) data_dir: PathBuf,
}

impl Stage {
    pub(super) async fn build(args: &Args) -> Result<Self, Trouble> {
        let began = Instant::now();
        let data_dir = match &args.data_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => default_dir()?,
        };
        let mut settings = Settings::new(&data_dir).with_process_environment();
        settings.kilo_install.clone_from(&args.kilo_install);
        let own = &settings.environment;
        let real_gateway = own.gateway_url.is_some() && own.token.is_some();
        let runtime = Box::pin(Runtime::start(settings)).await?;
        let json = args.json;
        say(
            json,
            began,
            &format!("everything is kept in {}", data_dir.display()),
        );
        let kilo = install(&runtime, json, began).await?;
        let token = random_token();
        let mut gateway = GatewaySettings::new(token.clone());
        gateway.log_file = Some(data_dir.join("gateway.jsonl"));
        let gateway = Gateway::start(Script::default(), gateway).await?;
        let facade = Facade::start(runtime.clone(), FacadeSettings::loopback()).await?;
        say(json, began, &format!("dashboard: {}", facade.open_url()));
        Ok(Self {
            runtime,
            gateway,
            token,
            real_gateway,
            data_dir,
            kilo,
            facade,
            began,
            json,
        })
    }

    /// Tells a person something: on stdout, or beside the JSON on stderr.
    pub(super) fn say(&self, line: &str) {
        say(self.json, self.began, line);
    }

    /// Ends everything, and counts what would be left of it.
    pub(super) async fn end(self) -> Ended {
        self.facade.stop().await;
        let marker = self.runtime.marker();
        self.runtime.stop(STOP_DEADLINE).await;
        self.gateway.stop().await;
        Ended {
            seconds: self.began.elapsed().as_secs_f64(),
            processes_left: runtime::processes_with(&marker).await,
            gateway_requests: self.gateway.counters().requests,
            data_dir: self.data_dir,
        }
    }
}

fn say(json: bool, began: Instant, line: &str) {
    let line = format!("[{:6.1} s] {line}", began.elapsed().as_secs_f64());
    if json {
        eprint_line(&line);
    } else {
        print_line(&line);
    }
}

async fn install(runtime: &Runtime, json: bool, began: Instant) -> Result<PathBuf, Trouble> {
    let dir = runtime.kilo_install_dir();
    let program = ensure_kilo(dir, KILO_VERSION, |progress| match progress {
        Progress::Installing { package } => {
            say(
                json,
                began,
                &format!("installing {package} with npm (about 290 MB, once)"),
            );
        }
        Progress::WaitingForOther => say(json, began, "another install is under way; waiting"),
        Progress::Line(line) => say(json, began, &format!("  npm: {line}")),
        Progress::Installed(_) => say(json, began, "kilo is installed"),
    })
    .await?;
    say(
        json,
        began,
        &format!("kilo {KILO_VERSION}: {}", shown(&program)),
    );
    Ok(program)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The user's own data directory for the demo, apart from any real town.
fn default_dir() -> Result<PathBuf, Trouble> {
    let base = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute());
    let base = base.or_else(|| std::env::home_dir().map(|home| home.join(".local/share")));
    let base = base.ok_or("no home directory is known: say --data-dir DIR")?;
    Ok(base.join("wellhead-demo"))
}

fn random_token() -> SecretString {
    use std::fmt::Write as _;
    let mut bytes = [0_u8; 24];
    rand::rng().fill_bytes(&mut bytes);
    let mut token = String::from("demo-");
    for byte in bytes {
        // Writing to a String never fails.
        let _ = write!(token, "{byte:02x}");
    }
    SecretString::from(token)
}
