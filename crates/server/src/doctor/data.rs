//! The data directory: whose it is, who holds it, and what an earlier life left running.

use std::path::{Path, PathBuf};

use runtime::{DataDir, DataDirError, DirFacts};

use super::finding::Finding;

const CHECK: &str = "data dir";

/// What was seen of it, once, so that all findings speak of the same moment.
pub(super) struct Directory {
    path: PathBuf,
    facts: Result<DirFacts, DataDirError>,
}

impl Directory {
    pub(super) async fn look(path: &Path) -> Self {
        let dir = path.to_owned();
        let seen = tokio::task::spawn_blocking(move || DataDir::peek(&dir)).await;
        let path = path.to_owned();
        // Only a panic gets into the second case; then nothing is known of it.
        let facts = seen.unwrap_or_else(|_| Ok(DirFacts::default()));
        Self { path, facts }
    }

    pub(super) fn is_held(&self) -> bool {
        self.facts.as_ref().is_ok_and(|facts| facts.is_held)
    }

    pub(super) fn finding(&self) -> Finding {
        let shown = self.path.display();
        match &self.facts {
            Ok(facts) if facts.is_held => {
                let by = facts.pid.map_or_else(String::new, |pid| format!(" {pid}"));
                Finding::ok(CHECK, format!("{shown} is in use by process{by}"))
            }
            Ok(facts) if facts.instance.is_some() => {
                Finding::ok(CHECK, format!("{shown} is ours and nobody uses it"))
            }
            Ok(_) => Finding::ok(CHECK, format!("{shown} is made by the first start")),
            Err(error) => {
                let fix = match error {
                    DataDirError::ParentMissing { parent } => {
                        format!("mkdir -p '{}'", parent.display())
                    }
                    DataDirError::Io { path, .. } => format!("ls -ld '{}'", path.display()),
                    _ => "wellhead doctor --data-dir ~/another-directory".to_owned(),
                };
                Finding::fail(CHECK, error.to_string(), fix)
            }
        }
    }

    /// Processes that were started from it although nobody holds it.
    pub(super) async fn leftovers(&self) -> Finding {
        let check = "leftovers";
        let instance = self.facts.as_ref().ok().and_then(|f| f.instance.clone());
        let Some(instance) = instance else {
            return Finding::ok(
                check,
                "no process can be left of a directory without a marker",
            );
        };
        let pids = runtime::checkup::processes_of(&instance).await;
        if pids.is_empty() || self.is_held() {
            let text = format!("{} processes, none without its owner", pids.len());
            return Finding::ok(check, text);
        }
        let names: Vec<_> = pids.iter().map(ToString::to_string).collect();
        let text = format!(
            "{} processes outlived their owner; the next start ends them",
            pids.len()
        );
        Finding::warn(check, text, format!("kill {}", names.join(" ")))
    }
}
