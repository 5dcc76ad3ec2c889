//! Finds the kilo program and asks it for its version.
//!
//! Order: a setting, our own installation, PATH. The Node wrapper that npm puts on the PATH is
//! never run: its SIGKILL would orphan the real server. It must not start servers.

use crate::spawner::{self, Recipe};
use crate::version::{Support, TESTED, Version};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// A cold start of the program takes seconds on a busy machine.
const VERSION_DEADLINE: Duration = Duration::from_secs(30);
const VERSION_OUTPUT_BYTES_MAX: u64 = 4096;

/// A program that may be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The platform's own executable.
    pub path: PathBuf,
    /// What it says about itself.
    pub version: Version,
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// A path that a person set: used, or an error.
    pub setting: Option<PathBuf>,
    /// The host's `PATH`.
    pub path_var: Option<OsString>,
    /// The directory that holds our own `node_modules`.
    pub own_install: Option<PathBuf>,
}

/// A usable program and what a person should know about it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The program.
    pub program: Program,
    /// Set when the version is newer than the tested one.
    pub warning: Option<String>,
}

/// Why there is no usable program. Every text names the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Nothing at any of the places.
    #[error("kilo was not found ({searched}); {fix}")]
    NotFound {
        /// The places, in order.
        searched: String,
        /// What to do.
        fix: String,
    },
    /// The setting names something that cannot be run.
    #[error("the setting names {path}, which {why}; {fix}")]
    SettingUnusable {
        /// The path as set.
        path: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        fix: String,
    },
    /// Only the Node wrapper is there.
    #[error("{path} is a script that starts kilo, and the program itself is not beside it; {fix}")]
    WrapperOnly {
        /// The wrapper.
        path: String,
        /// What to do.
        fix: String,
    },
    /// It ran, and the version rule refuses it.
    #[error("kilo {found} is not supported (supported: {supported}); {fix}")]
    Unsupported {
        /// What it printed, cut.
        found: String,
        /// What would be accepted.
        supported: String,
        /// What to do.
        fix: String,
    },
    /// It could not be run, or did not answer in time.
    #[error("{path} --version failed: {why}; {fix}")]
    NoAnswer {
        /// The program.
        path: String,
        /// What went wrong.
        why: String,
        /// What to do.
        fix: String,
    },
}

impl Program {
    /// Finds the program and checks its version; runs `--version` with a deadline.
    pub async fn find(search: &Search) -> Result<Found, ProgramError> {
        let path = locate(search)?;
        let text = ask_version(&path, search.path_var.as_ref()).await?;
        let version = Version::parse(text.lines().next().unwrap_or_default());
        let warning = match version.as_ref().map(Version::support) {
            Some(Support::Tested) => None,
            Some(Support::Untested(warning)) => Some(warning),
            Some(Support::No) | None => return Err(unsupported(&text)),
        };
        let version = version.ok_or_else(|| unsupported(&text))?;
        Ok(Found {
            program: Self { path, version },
            warning,
        })
    }
}

fn unsupported(text: &str) -> ProgramError {
    let found = crate::redact::cut(text.trim(), 80);
    let found = if found.is_empty() {
        "without a version".to_owned()
    } else {
        found
    };
    ProgramError::Unsupported {
        found,
        supported: format!("{TESTED} and newer {}.x", TESTED.major),
        fix: install_hint(),
    }
}

fn install_hint() -> String {
    format!(
        "run `npm install @kilocode/cli@{TESTED}` and point the kilo program setting at its platform binary"
    )
}

fn locate(search: &Search) -> Result<PathBuf, ProgramError> {
    if let Some(path) = &search.setting {
        return from_setting(path);
    }
    if let Some(found) = search.own_install.as_deref().and_then(platform_binary_in) {
        return Ok(found);
    }
    let on_path = search
        .path_var
        .iter()
        .flat_map(std::env::split_paths)
        .map(|dir| dir.join("kilo"));
    match on_path.into_iter().find(|path| is_executable(path)) {
        Some(path) => resolve(&path, false),
        None => Err(ProgramError::NotFound {
            searched: "own installation, PATH".to_owned(),
            fix: install_hint(),
        }),
    }
}

fn from_setting(path: &Path) -> Result<PathBuf, ProgramError> {
    let unusable = |why: &str| ProgramError::SettingUnusable {
        path: path.display().to_string(),
        why: why.to_owned(),
        fix: "set the path of the executable, or unset it to search for kilo".to_owned(),
    };
    if !path.exists() {
        return Err(unusable("does not exist"));
    }
    if !is_executable(path) {
        return Err(unusable("is not an executable file"));
    }
    resolve(path, true)
}

/// The platform's binary for what was found: itself, or the one beside a wrapper script.
fn resolve(path: &Path, is_setting: bool) -> Result<PathBuf, ProgramError> {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // Anything may be set by hand, but a script out of the npm package is always the wrapper.
    let packaged = [path, &real].iter().any(|path| is_in_package(path));
    if !is_script(&real) || (is_setting && !packaged) {
        return Ok(real);
    }
    let near = [real.as_path(), path].into_iter().flat_map(Path::ancestors);
    near.into_iter()
        .find_map(platform_binary_in)
        .ok_or_else(|| ProgramError::WrapperOnly {
            path: path.display().to_string(),
            fix: install_hint(),
        })
}

fn is_in_package(path: &Path) -> bool {
    path.components()
        .any(|part| matches!(part.as_os_str().to_str(), Some("@kilocode" | ".bin")))
}

/// The binary of a package that fits this machine, below a directory.
fn platform_binary_in(dir: &Path) -> Option<PathBuf> {
    let scopes = [dir.join("node_modules/@kilocode"), dir.join("@kilocode")];
    let packages = platform_packages();
    let all = scopes.iter().flat_map(|scope| {
        packages
            .iter()
            .map(|name| scope.join(name).join("bin/kilo"))
    });
    all.into_iter().find(|path| is_executable(path))
}

#[cfg(target_arch = "x86_64")]
fn platform_packages() -> Vec<&'static str> {
    if std::arch::is_x86_feature_detected!("avx2") {
        vec!["cli-linux-x64", "cli-linux-x64-baseline"]
    } else {
        // The ordinary build ends with an illegal instruction here.
        vec!["cli-linux-x64-baseline"]
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn platform_packages() -> Vec<&'static str> {
    vec!["cli-linux-arm64"]
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn is_script(path: &Path) -> bool {
    let mut head = [0_u8; 2];
    let read =
        std::fs::File::open(path).and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
    read.is_ok() && &head == b"#!"
}

async fn ask_version(path: &Path, path_var: Option<&OsString>) -> Result<String, ProgramError> {
    let answer = tokio::time::timeout(VERSION_DEADLINE, run_version(path, path_var)).await;
    let why = match answer {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", VERSION_DEADLINE.as_secs()),
    };
    Err(ProgramError::NoAnswer {
        path: path.display().to_string(),
        why,
        fix: install_hint(),
    })
}

async fn run_version(path: &Path, path_var: Option<&OsString>) -> io::Result<String> {
    let nowhere = std::env::temp_dir();
    let mut env = BTreeMap::from([(
        "HOME".into(),
        crate::env::EnvValue::Plain(nowhere.clone().into()),
    )]);
    if let Some(value) = path_var.cloned().or_else(|| std::env::var_os("PATH")) {
        env.insert("PATH".into(), crate::env::EnvValue::Plain(value));
    }
    let recipe = Recipe {
        program: path.to_owned(),
        args: vec!["--version".into()],
        env,
        dir: nowhere,
    };
    // Dropped at the deadline, which kills it.
    let mut child = spawner::spawn(recipe).await?;
    let mut text = Vec::new();
    if let Some(out) = child.stdout.take() {
        out.take(VERSION_OUTPUT_BYTES_MAX)
            .read_to_end(&mut text)
            .await?;
    }
    let status = child.wait().await?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}
