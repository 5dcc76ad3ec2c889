//! Who takes part, and how each is started on an empty directory, made ready, and ended.
//!
//! It knows processes and addresses, and nothing of what is measured.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::http::{Connection, post};

const PACKAGES: [&str; 3] = [
    "workerd@1.20261117.1",
    "@restatedev/restate-server@1.7.12",
    "@restatedev/restate-sdk@1.17.2",
];
const READY: Duration = Duration::from_secs(30);

/// One who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peer {
    /// The durable object host behind actix-web
    Durable,
    /// workerd with SQLite-backed Durable Objects
    Workerd,
    /// restate-server with a virtual object in Node
    Restate,
    /// The shipped `POST /api/rigs/{rig}/sling`
    Sling,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Durable => "wellhead-durable",
            Self::Workerd => "workerd",
            Self::Restate => "Restate",
            Self::Sling => "wellhead sling",
        }
    }
}

/// A server that answers, and how to ask it.
pub(crate) struct Running {
    children: Vec<Child>,
    dir: tempfile::TempDir,
    pub(crate) host: String,
    pub(crate) paths: Vec<String>,
    pub(crate) bearer: Option<String>,
}

impl Running {
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Its directory goes too, so nothing is lost.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where the peers' programs are; installs them with npm at the first run.
pub(crate) fn tools() -> Outcome<PathBuf> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let wanted = PACKAGES.join(" ");
    let installed = root.join("installed");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(root);
    }
    eprintln!("installing {wanted} with npm (about 390 MB, once)");
    fs::create_dir_all(&root)?;
    fs::write(root.join("package.json"), "{\"private\":true}")?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-fund", "--no-audit"])
        .args(PACKAGES);
    if !npm.current_dir(&root).status()?.success() {
        return Err("npm install failed".into());
    }
    fs::write(installed, wanted)?;
    Ok(root)
}

fn ours(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("benches/peers")
        .join(file)
}

/// A port that was free a moment ago.
fn free() -> Outcome<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

impl Peer {
    /// Starts on an empty directory and asks each rig once, so that all of them exist.
    pub(crate) async fn start(self, rigs: usize, body: &str, tools: &Path) -> Outcome<Running> {
        let dir = tempfile::Builder::new()
            .prefix("peer-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let host = free()?;
        let mut running = Running {
            children: Vec::new(),
            dir,
            paths: (0..rigs).map(|n| format!("/rig/r{n}/transition")).collect(),
            bearer: None,
            host,
        };
        let dir = running.dir.path().to_owned();
        match self {
            Self::Durable => running.durable(&dir)?,
            Self::Workerd => running.workerd(&dir, tools)?,
            Self::Restate => running.restate(&dir, tools).await?,
            Self::Sling => running.sling(&dir, rigs).await?,
        }
        let mut connection = connect(&running.host).await?;
        for path in &running.paths {
            let request = post(&running.host, path, running.bearer.as_deref(), body);
            let (status, said) = connection.ask_all(&request).await?;
            if !(200..300).contains(&status) {
                return Err(format!("{}: {status} {said}", self.name()).into());
            }
        }
        Ok(running)
    }
}

impl Running {
    fn spawn(&mut self, command: &mut Command, dir: &Path) -> Outcome<()> {
        let log = File::create(dir.join(format!("log{}", self.children.len())))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.children.push(command.spawn()?);
        Ok(())
    }

    fn durable(&mut self, dir: &Path) -> Outcome<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["server", "--listen", &self.host, "--dir"])
            .arg(dir.join("store"));
        // For trials of other numbers of threads.
        command.args(
            std::env::var("PEERS_SERVER_ARGS")
                .unwrap_or_default()
                .split_whitespace(),
        );
        self.spawn(&mut command, dir)
    }

    fn workerd(&mut self, dir: &Path, tools: &Path) -> Outcome<()> {
        let disk = dir.join("disk");
        fs::create_dir(&disk)?;
        let program = tools.join("node_modules/@cloudflare/workerd-linux-64/bin/workerd");
        let mut command = with_many_files(&program);
        command.arg("serve").arg(ours("workerd/config.capnp"));
        command
            .arg("--socket-addr")
            .arg(format!("http={}", self.host));
        command
            .arg("--directory-path")
            .arg(format!("disk={}", disk.display()));
        self.spawn(&mut command, dir)
    }

    async fn restate(&mut self, dir: &Path, tools: &Path) -> Outcome<()> {
        let (service, node, admin) = (free()?, free()?, free()?);
        // Beside its packages, since Node looks for them there.
        let program = tools.join("service.mjs");
        fs::copy(ours("restate/service.mjs"), &program)?;
        let port = service.rsplit(':').next().unwrap_or_default();
        self.spawn(Command::new("node").arg(program).env("PORT", port), dir)?;
        let program =
            tools.join("node_modules/@restatedev/restate-server-linux-x64/bin/restate-server");
        let mut command = with_many_files(&program);
        command.arg("--no-logo");
        command.envs([
            (
                "RESTATE_BASE_DIR",
                dir.join("restate").display().to_string(),
            ),
            ("RESTATE_BIND_ADDRESS", node.clone()),
            ("RESTATE_ADVERTISED_ADDRESS", format!("http://{node}/")),
            ("RESTATE_INGRESS__BIND_ADDRESS", self.host.clone()),
            ("RESTATE_ADMIN__BIND_ADDRESS", admin.clone()),
            ("RESTATE_LISTEN_MODE", "tcp".to_owned()),
            ("RESTATE_DISABLE_TELEMETRY", "true".to_owned()),
            ("RUST_LOG", "warn".to_owned()),
        ]);
        self.spawn(&mut command, dir)?;
        drop(connect(&service).await?);
        let body = json!({ "uri": format!("http://{service}") }).to_string();
        until_created(&admin, &post(&admin, "/deployments", None, &body)).await?;
        drop(connect(&self.host).await?);
        Ok(())
    }

    async fn sling(&mut self, dir: &Path, rigs: usize) -> Outcome<()> {
        let data = dir.join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wellhead"));
        command
            .args(["up", "--listen", &self.host, "--data-dir"])
            .arg(&data);
        // Without credentials the rigs take work and start nothing.
        command
            .env_remove("KILOCODE_TOKEN")
            .env_remove("KILO_API_URL");
        self.spawn(command.env("RUST_LOG", "error"), dir)?;
        let mut connection = connect(&self.host).await?;
        let token = fs::read_to_string(data.join("admin-token"))?
            .trim()
            .to_owned();
        let mut make = async |path: &str, body: Value| -> Outcome<String> {
            let request = post(&self.host, path, Some(&token), &body.to_string());
            let (status, said) = connection.ask_all(&request).await?;
            let found: Value = serde_json::from_str(&said)?;
            let id = found["data"]["id"].as_str().map(str::to_owned);
            id.ok_or_else(|| format!("{path}: {status} {said}").into())
        };
        let town = make("/api/users/me/towns", json!({ "name": "Race" })).await?;
        self.paths.clear();
        for n in 0..rigs {
            let new = json!({ "town_id": town, "name": format!("r{n}"),
                "git_url": env!("CARGO_MANIFEST_DIR"), "default_branch": "main" });
            let rig = make("/api/users/me/rigs", new).await?;
            self.paths.push(format!("/api/rigs/{rig}/sling"));
        }
        self.bearer = Some(token);
        Ok(())
    }
}

/// One object is some open files to the peers.
fn with_many_files(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 65536; exec \"$0\" \"$@\""])
        .arg(program);
    command
}

/// Connects as soon as somebody listens.
async fn connect(host: &str) -> Outcome<Connection> {
    let end = Instant::now() + READY;
    loop {
        match Connection::open(host).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > end => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Asks until it is told yes: Restate needs a moment after it listens.
async fn until_created(host: &str, request: &[u8]) -> Outcome<()> {
    let end = Instant::now() + READY;
    loop {
        let (status, said) = connect(host).await?.ask_all(request).await?;
        if (200..300).contains(&status) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(format!("{host}: {status} {said}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
