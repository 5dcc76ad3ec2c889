//! A town for tests: the real `kilo serve` behind a scripted gateway, in a directory of its own.
//!
//! Owns setting it up and waiting for what happens, always with a deadline and never by sleeping.

#![allow(dead_code, reason = "each test file uses its own part of it")]

pub(crate) mod command;
pub(crate) mod tiny;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rig::{
    AgentId, Bead, BeadId, CredentialSource, NewBead, Policy, ReviewMode, Rig, RigConfig, RigId,
    TownId,
};
use runtime::{RigStub, Runtime, Settings};
use secrecy::SecretString;
use tempfile::TempDir;
use wellhead::{
    demo::sample::create_sample_repo,
    gateway::{Gateway, GatewaySettings, Script},
    provision::ensure_kilo,
};

/// A whole attempt on the real kilo, cold start included, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const CANARY: &str = "canary-3f9c1d7e5b2a4860";

pub(crate) struct Town {
    pub(crate) runtime: Runtime,
    pub(crate) gateway: Gateway,
    pub(crate) id: TownId,
    pub(crate) origin: PathBuf,
    pub(crate) dir: TempDir,
}

pub(crate) struct OneRig {
    pub(crate) rig: RigStub,
    pub(crate) id: RigId,
    pub(crate) clone: PathBuf,
}

/// The program, installed once for all tests of a checkout.
pub(crate) async fn kilo_install() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kilo-7.7.7");
    ensure_kilo(&dir, "7.7.7", |_| {})
        .await
        .expect("kilo is installed by npm");
    dir
}

/// The program of that installation.
pub(crate) async fn kilo_program() -> PathBuf {
    let install = kilo_install().await;
    let found = ensure_kilo(&install, "7.7.7", |_| {}).await;
    found.expect("kilo is installed")
}

impl Town {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    /// In that directory, with its data in `data`.
    pub(crate) async fn start_in(dir: TempDir) -> Self {
        let install = kilo_install().await;
        let mut settings = Settings::new(dir.path().join("data"));
        settings.kilo_install = Some(install);
        let runtime = Runtime::start(settings).await.unwrap();
        let token = GatewaySettings::new(SecretString::from(CANARY));
        let gateway = Gateway::start(Script::default(), token).await.unwrap();
        let origin = create_sample_repo(dir.path().join("origin")).await.unwrap();
        let id = runtime
            .directory()
            .create_town("tester", "Test")
            .await
            .unwrap()
            .id;
        Self {
            runtime,
            gateway,
            id,
            origin,
            dir,
        }
    }

    pub(crate) async fn credentials(&self) -> CredentialSource {
        let token = SecretString::from(CANARY);
        let id = self
            .runtime
            .store_token(Some(self.gateway.url()), token)
            .await
            .unwrap();
        CredentialSource::Stored { id }
    }

    pub(crate) fn config(&self, credentials: CredentialSource) -> RigConfig {
        RigConfig {
            town_id: self.id.clone(),
            name: "rig".to_owned(),
            git_url: self.origin.display().to_string(),
            default_branch: "main".to_owned(),
            model: Some("scripted/auto".to_owned()),
            review: ReviewMode::Off,
            credentials,
        }
    }

    pub(crate) async fn rig(&self, config: RigConfig, policy: Policy) -> OneRig {
        let row = self
            .runtime
            .directory()
            .create_rig("tester", config)
            .await
            .unwrap();
        let rig = self.runtime.rig(&row.id).unwrap();
        rig.set_policy(policy).await.unwrap();
        let clone = self.runtime.rig_dir(&self.id, &row.id).join("repo.git");
        OneRig {
            rig,
            id: row.id,
            clone,
        }
    }

    /// A rig with working credentials.
    pub(crate) async fn working_rig(&self, policy: Policy) -> OneRig {
        let credentials = self.credentials().await;
        self.rig(self.config(credentials), policy).await
    }

    /// Waits until the branch of that rig's clone has a commit beyond where work began.
    pub(crate) async fn until_commit(&self, rig: &OneRig, branch: &str) {
        let wait = async {
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                let range = format!("refs/remotes/origin/main..{branch}");
                let out = std::process::Command::new("git")
                    .arg("-C")
                    .arg(&rig.clone)
                    .args(["rev-list", "--count", &range])
                    .output()
                    .unwrap();
                if !matches!(String::from_utf8_lossy(&out.stdout).trim(), "" | "0") {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("a commit");
    }

    /// As [`Town::until_terminal`], for the rig of another runtime on the same directory.
    pub(crate) async fn until_terminal_of(
        &self,
        runtime: &Runtime,
        rig: &RigId,
        bead: &BeadId,
    ) -> Bead {
        let rig = runtime.rig(rig).unwrap();
        let mut changes = runtime.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let found = rig.bead(bead).await.unwrap().unwrap();
                if found.is_terminal() {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait)
            .await
            .expect("a terminal bead")
    }

    /// Waits until a look at the rig gives something; fails with what it saw last.
    pub(crate) async fn until<R: Send + 'static>(
        &self,
        rig: &RigStub,
        what: &str,
        look: impl Fn(&Rig) -> Option<R> + Clone + Send + 'static,
    ) -> R {
        let mut changes = self.runtime.changes();
        let wait = async {
            loop {
                changes.borrow_and_update();
                let look = look.clone();
                if let Some(found) = rig.look(move |rig, _| look(rig)).await.unwrap() {
                    return found;
                }
                changes.changed().await.unwrap();
            }
        };
        if let Ok(found) = tokio::time::timeout(PATIENCE, wait).await {
            return found;
        }
        let beads = rig.beads().await.unwrap();
        let record = rig.look(|rig, _| rig.record().clone()).await.unwrap();
        panic!("no {what} within {PATIENCE:?}: {beads:#?} {record:#?}")
    }

    pub(crate) async fn until_terminal(&self, rig: &RigStub, id: &BeadId) -> Bead {
        let id = id.clone();
        let terminal = move |rig: &Rig| rig.bead(&id).filter(|bead| bead.is_terminal()).cloned();
        self.until(rig, "terminal bead", terminal).await
    }

    pub(crate) async fn stop(self) {
        let marker = self.runtime.marker();
        self.runtime.stop(Duration::from_secs(20)).await;
        self.gateway.stop().await;
        assert!(
            kilo::marked(&marker).is_empty(),
            "a process with our marker is left"
        );
    }
}

/// Short steps, so that several attempts fit into a test.
pub(crate) fn quick() -> Policy {
    Policy {
        backoff_ms: vec![100],
        idle_grace_ms: 300,
        end_grace_ms: 100,
        cooldown_ms: 60_000,
        ..Policy::default()
    }
}

/// A bead whose model behaves as told.
pub(crate) fn scripted(behaviour: &str) -> NewBead {
    NewBead {
        body: Some(format!("[[script: {behaviour}]]")),
        ..NewBead::issue(format!("meet {behaviour}"))
    }
}

/// What git says in that repository.
pub(crate) fn git(repo: &Path, args: &[&str]) -> String {
    let out = std::process::Command::new("git")
        .arg("-C")
        .arg(repo)
        .args(args)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

pub(crate) fn agent_of(bead: &Bead) -> AgentId {
    bead.assignee.clone().expect("a slung bead has an assignee")
}

/// Whether the bytes occur.
pub(crate) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Every file below that directory in which the bytes occur.
pub(crate) fn files_with(dir: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files_with(&path, needle));
        } else if kind.is_file() && contains(&std::fs::read(&path).unwrap_or_default(), needle) {
            found.push(path);
        }
    }
    found
}
