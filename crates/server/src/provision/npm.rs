//! The npm child: found on a given path, run in a process group of its own, never left behind.
//!
//! It gets an environment from an allow-list, since npm runs the scripts of packages.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::error::ProvisionError;

const LINES_KEPT_MAX: usize = 20;
const LINE_BYTES_MAX: u64 = 4_096;
const LINES_WAITING_MAX: usize = 64;

/// Settings of npm, of Node's certificates and of proxies; no credential of ours.
const ENVIRONMENT: [&str; 14] = [
    "HOME",
    "LANG",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NPM_TOKEN",
    "NODE_AUTH_TOKEN",
    "NODE_OPTIONS",
];

/// What npm says when it cannot reach its registry.
const NETWORK_SIGNS: [&str; 9] = [
    "ENOTFOUND",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "ENETUNREACH",
    "EHOSTUNREACH",
    "ENOTCACHED",
    "ERR_SOCKET_TIMEOUT",
];

/// The package that npm is asked for.
pub(super) fn package(version: &str) -> String {
    format!("@kilocode/cli@{version}")
}

/// One call of npm.
#[derive(Debug)]
pub(super) struct Order<'a> {
    pub(super) prefix: &'a Path,
    pub(super) package: &'a str,
    pub(super) search_path: &'a OsStr,
    pub(super) deadline: Instant,
    /// The same as it was asked for, to be told.
    pub(super) deadline_s: u64,
}

/// An npm program.
#[derive(Debug)]
pub(super) struct Npm {
    program: PathBuf,
}

impl Npm {
    /// The first executable `npm` of a search path.
    pub(super) async fn find(search_path: &OsStr) -> Option<Self> {
        for dir in std::env::split_paths(search_path) {
            let program = dir.join("npm");
            let Ok(meta) = tokio::fs::metadata(&program).await else {
                continue;
            };
            if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
                return Some(Self { program });
            }
        }
        None
    }

    /// Installs a package. Each line of output is told.
    pub(super) async fn install(
        &self,
        order: &Order<'_>,
        tell: impl Fn(&str),
    ) -> Result<(), ProvisionError> {
        let mut group = self.spawn(order)?;
        let mut last = VecDeque::with_capacity(LINES_KEPT_MAX);
        let keep = |line: String| {
            tell(&line);
            if last.len() == LINES_KEPT_MAX {
                last.pop_front();
            }
            last.push_back(line);
        };
        let ended = timeout_at(order.deadline, group.run(keep)).await;
        let lines = Vec::from(last);
        match ended {
            Err(_) => Err(ProvisionError::Deadline {
                deadline_s: order.deadline_s,
                lines,
            }),
            Ok(Err(source)) => Err(ProvisionError::io("wait for", &self.program)(source)),
            Ok(Ok(status)) => judge(status, lines),
        }
    }

    fn spawn(&self, order: &Order<'_>) -> Result<Group, ProvisionError> {
        let child = Command::new(&self.program)
            .arg("install")
            .arg("--prefix")
            .arg(order.prefix)
            // The program comes as an optional package, which a user's settings may omit.
            .args([
                "--include=optional",
                "--no-fund",
                "--no-audit",
                "--no-save",
                order.package,
            ])
            .current_dir(order.prefix)
            .env_clear()
            .envs(environment(std::env::vars_os()))
            .env("PATH", order.search_path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        child
            .map(Group::new)
            .map_err(ProvisionError::io("start", &self.program))
    }
}

fn judge(status: ExitStatus, lines: Vec<String>) -> Result<(), ProvisionError> {
    if status.success() {
        return Ok(());
    }
    let network = |line: &String| NETWORK_SIGNS.iter().any(|sign| line.contains(sign));
    if lines.iter().any(network) {
        return Err(ProvisionError::Network { lines });
    }
    Err(ProvisionError::NpmFailed {
        status: status.to_string(),
        lines,
    })
}

fn environment(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (OsString, OsString)> {
    all.filter(|(name, _)| {
        let name = name.to_string_lossy().to_ascii_uppercase();
        ENVIRONMENT.contains(&name.as_str()) || name.starts_with("NPM_CONFIG_")
    })
}

/// The child and all that it starts: they end together, also when this is dropped.
#[derive(Debug)]
struct Group {
    child: Child,
    /// None once the group was ended: its number may then be another's.
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Self { child, id }
    }

    /// Tells each line until the leader ends.
    async fn run(&mut self, mut tell: impl FnMut(String)) -> std::io::Result<ExitStatus> {
        let (sender, mut lines) = mpsc::channel(LINES_WAITING_MAX);
        let readers = [
            self.child
                .stdout
                .take()
                .map(|pipe| tokio::spawn(read_lines(pipe, sender.clone()))),
            self.child
                .stderr
                .take()
                .map(|pipe| tokio::spawn(read_lines(pipe, sender))),
        ];
        let status = loop {
            tokio::select! {
                biased;
                Some(line) = lines.recv() => tell(line),
                status = self.child.wait() => break status,
            }
        };
        // What the leader left behind would hold the pipes open for ever.
        self.end();
        while let Some(line) = lines.recv().await {
            tell(line);
        }
        for reader in readers.into_iter().flatten() {
            reader.abort();
        }
        status
    }

    fn end(&mut self) {
        if let Some(id) = self.id.take() {
            // No such group is the usual answer: everyone has gone home.
            let _ = kill_process_group(id, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
    }
}

/// A line longer than the bound comes in pieces, so that no output fills the memory.
async fn read_lines(pipe: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !text.is_empty() && lines.send(text).await.is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npm_gets_its_own_settings_and_no_credential_of_ours() {
        let all = [
            "HOME",
            "https_proxy",
            "npm_config_registry",
            "KILO_API_KEY",
            "AWS_SECRET",
        ];
        let all = all.into_iter().map(|name| (name.into(), "x".into()));
        let kept: Vec<OsString> = environment(all).map(|(name, _)| name).collect();
        assert_eq!(kept, ["HOME", "https_proxy", "npm_config_registry"]);
    }
}
