//! Where the program lies: the final place, the staging directories, and the move from one to the
//! other.
//!
//! Only file names; what fills them is in `npm`.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs;

use super::error::ProvisionError;

const STAGING_PREFIX: &str = ".staging-";
const MODULES: &str = "node_modules";

/// The install directory of one version.
#[derive(Debug)]
pub(super) struct Place {
    dir: PathBuf,
    version: String,
    /// The package with the program for this machine, from `node_modules`.
    package: PathBuf,
}

/// A directory that is removed unless it was accepted. After a crash the next install removes it.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
}

impl Staging {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it and waits for that. What cannot be removed now is a leftover for the next time.
    pub(super) async fn remove(mut self) {
        let path = std::mem::take(&mut self.path);
        drop(fs::remove_dir_all(path).await);
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path.as_os_str().is_empty() {
            return;
        }
        // Thousands of files: not on the thread that drops, which may be an async one.
        let remove = move || drop(std::fs::remove_dir_all(path));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Place {
    pub(super) fn new(dir: &Path, version: &str) -> Result<Self, ProvisionError> {
        let arch = match (std::env::consts::OS, std::env::consts::ARCH) {
            ("linux", "x86_64") => "x64",
            ("linux", "aarch64") => "arm64",
            (os, arch) => return Err(ProvisionError::Platform { os, arch }),
        };
        let package = Path::new("@kilocode").join(format!("cli-linux-{arch}"));
        Ok(Self {
            dir: dir.to_owned(),
            version: version.to_owned(),
            package,
        })
    }

    fn modules(&self) -> PathBuf {
        self.dir.join(MODULES)
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.dir.join(".install.lock")
    }

    pub(super) async fn make(&self) -> Result<(), ProvisionError> {
        let made = fs::create_dir_all(&self.dir).await;
        made.map_err(ProvisionError::io("create", &self.dir))
    }

    /// The program, if this version of it is there.
    pub(super) async fn program(&self) -> Option<PathBuf> {
        self.program_in(&self.modules()).await
    }

    async fn program_in(&self, modules: &Path) -> Option<PathBuf> {
        let package = modules.join(&self.package);
        let program = package.join("bin/kilo");
        if !fs::metadata(&program).await.ok()?.is_file() {
            return None;
        }
        let manifest = fs::read(package.join("package.json")).await.ok()?;
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).ok()?;
        (manifest.get("version")?.as_str()? == self.version).then_some(program)
    }

    pub(super) async fn make_staging(&self) -> Result<Staging, ProvisionError> {
        let path = self
            .dir
            .join(format!("{STAGING_PREFIX}{}", uuid::Uuid::new_v4().simple()));
        fs::create_dir(&path)
            .await
            .map_err(ProvisionError::io("create", &path))?;
        Ok(Staging { path })
    }

    /// What installs that were killed have left.
    pub(super) async fn remove_leftovers(&self) -> Result<(), ProvisionError> {
        for (name, path) in self.entries(&self.dir).await? {
            if name.starts_with(STAGING_PREFIX) {
                let removed = fs::remove_dir_all(&path).await;
                ignore_missing(removed).map_err(ProvisionError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// An old `node_modules` is replaced only if nothing but kilo is in it.
    pub(super) async fn refuse_foreign(&self) -> Result<(), ProvisionError> {
        let modules = self.modules();
        let ours = |name: &str| name == "@kilocode" || name.starts_with('.');
        if self
            .entries(&modules)
            .await?
            .iter()
            .all(|(name, _)| ours(name))
        {
            return Ok(());
        }
        Err(ProvisionError::Foreign { path: modules })
    }

    async fn entries(&self, dir: &Path) -> Result<Vec<(String, PathBuf)>, ProvisionError> {
        let failed = |source| ProvisionError::io("read", dir)(source);
        let mut reader = match fs::read_dir(dir).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().await.map_err(failed)? {
            entries.push((
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            ));
        }
        Ok(entries)
    }

    /// Moves a whole install into its place. The rename is the moment at which it is there.
    pub(super) async fn accept(&self, staging: &Staging) -> Result<PathBuf, ProvisionError> {
        let (fresh, modules) = (staging.path.join(MODULES), self.modules());
        if self.program_in(&fresh).await.is_none() {
            let path = Path::new(MODULES).join(&self.package).join("bin/kilo");
            return Err(ProvisionError::ProgramMissing { path });
        }
        // An old version goes into the staging directory, and with it. A crash between the renames
        // leaves no program, and the next call installs it.
        let old = fs::rename(&modules, staging.path.join("old")).await;
        ignore_missing(old).map_err(ProvisionError::io("move away", &modules))?;
        let moved = fs::rename(&fresh, &modules).await;
        moved.map_err(ProvisionError::io("move into place", &modules))?;
        Ok(modules.join(&self.package).join("bin/kilo"))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
