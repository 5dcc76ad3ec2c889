//! An agent's worktree: made, healed, continued, or handed over to another branch.
//!
//! Owns what stands in `worktrees/` and which branch and dispatch it was given to. Before anything
//! is replaced it is saved (`save`). It must not know sessions or outcomes.

use std::{
    io,
    path::{Path, PathBuf},
};

use rig::{Class, DispatchId, Failure, Stage};
use serde::{Deserialize, Serialize};
use tokio::fs;

use super::{
    branch::update_ref,
    clone::{Repository, gone},
    locks,
    program::{At, Git, GitError},
    save::{self, saved_ref},
    url::{is_branch_name, is_slug},
};

/// In the worktree's directory of `repo.git`: to whom it was given, once it was wholly checked out.
const ASSIGNMENT: &str = "wellhead.json";

/// What a dispatch needs of a worktree.
#[derive(Clone, Debug)]
pub(crate) struct Prepare {
    /// The directory's name: letters, digits, dots, dashes.
    pub(crate) agent_slug: String,
    /// The branch to work on; kept where it exists.
    pub(crate) branch: String,
    /// The branch that a new one starts from, if not the default one.
    pub(crate) base_branch: Option<String>,
    /// Whose work it will be.
    pub(crate) dispatch: DispatchId,
}

/// A worktree that is given to a dispatch.
#[derive(Clone, Debug)]
pub(crate) struct Worktree {
    /// Where it stands.
    pub(crate) path: PathBuf,
    /// Its branch.
    pub(crate) branch: String,
    /// Where the bead's work began.
    pub(crate) base_sha: String,
    /// Where this dispatch began.
    pub(crate) start_sha: String,
    pub(super) dispatch: DispatchId,
    pub(super) repository: Repository,
}

/// To whom a worktree was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Assignment {
    branch: String,
    base_sha: String,
    start_sha: String,
    dispatch: DispatchId,
}

impl Repository {
    /// Makes the agent's worktree ready for a dispatch.
    ///
    /// Work of the same branch is continued as it lies there; work of another branch is saved
    /// below `refs/wellhead/saved/` first.
    ///
    /// # Errors
    /// Class git where the remote is at fault, class agent failed where this branch or worktree is.
    pub(crate) async fn prepare(&self, request: &Prepare) -> Result<Worktree, Failure> {
        check_names(request)?;
        let _guard = self.lock.lock().await;
        self.clear_stale_locks(request)
            .await
            .map_err(|error| at_worktree(&error))?;
        if !self.ensure_clone().await? {
            let is_known = self.has_branch(&request.branch).await;
            if !is_known.map_err(|error| at_worktree(&error.into()))? {
                // Only a new branch needs to know where the remote stands now.
                self.fetch().await?;
            }
        }
        let branch = self.ensure_branch(request).await;
        let (base_sha, start_sha) = branch.map_err(|error| at_worktree(&error))?;
        let worktree = Worktree {
            path: self.worktrees().join(&request.agent_slug),
            branch: request.branch.clone(),
            base_sha,
            start_sha,
            dispatch: request.dispatch.clone(),
            repository: self.clone(),
        };
        worktree
            .make_ready(&request.agent_slug)
            .await
            .map_err(|error| at_worktree(&error))
    }

    fn given(&self, path: PathBuf, given: Assignment) -> Worktree {
        let Assignment {
            branch,
            base_sha,
            start_sha,
            dispatch,
        } = given;
        Worktree {
            path,
            branch,
            base_sha,
            start_sha,
            dispatch,
            repository: self.clone(),
        }
    }

    /// What a git that died while it wrote refs or settings left behind.
    async fn clear_stale_locks(&self, request: &Prepare) -> Result<(), Trouble> {
        let branch = format!("refs/heads/{}.lock", request.branch);
        let names = ["packed-refs.lock", "config.lock", branch.as_str()];
        let locks = names.map(|name| self.git_dir().join(name));
        locks::clear(&locks, &self.worktrees()).await
    }

    /// Whether `path` is a worktree of this repository, by git's own words.
    pub(super) async fn is_ours(&self, path: &Path) -> bool {
        let is_dir = fs::symlink_metadata(path)
            .await
            .is_ok_and(|meta| meta.is_dir());
        if !is_dir {
            return false;
        }
        let ask = [
            "rev-parse",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-toplevel",
        ];
        let Ok(answer) = Git::new(At::Worktree(path), ask).run().await else {
            return false;
        };
        let mut lines = answer.text().lines().map(PathBuf::from);
        is_same(lines.next(), &self.git_dir()).await && is_same(lines.next(), path).await
    }
}

/// What went wrong with one branch or worktree, while the remote is well.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("the default branch is not in the clone; correct the rig's default branch")]
    NoDefault,
    #[error("{path} is not this rig's worktree any more; it is made anew at the next dispatch")]
    NotOurs { path: String },
    #[error("another git holds {path}; end it, or remove that file if none runs")]
    Locked { path: String },
    #[error("too many refs are named {name}; remove old ones")]
    NoFreeRef { name: String },
}

impl Trouble {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.display().to_string(),
            source,
        }
    }
}

impl Worktree {
    pub(super) fn at(&self) -> At<'_> {
        At::Worktree(&self.path)
    }

    pub(super) fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    async fn make_ready(mut self, slug: &str) -> Result<Self, Trouble> {
        let exists = fs::symlink_metadata(&self.path).await.is_ok();
        if exists && self.heal().await? {
            self.take_over().await?;
        } else {
            self.add().await?;
        }
        // It may have gained what a lost dispatch had committed beside it: not this one's work.
        self.start_sha = self.branch_head().await?;
        let start_ref = format!("refs/wellhead/start/{slug}");
        // Keeps the commits that the agent may drop from its branch.
        update_ref(self.at(), &start_ref, &self.start_sha, None).await?;
        self.write_assignment().await?;
        Ok(self)
    }

    /// Whether what stands there is a worktree of ours, after repair; else it is moved aside.
    async fn heal(&self) -> Result<bool, Trouble> {
        if self.repository.is_ours(&self.path).await {
            return Ok(true);
        }
        let is_dir = fs::symlink_metadata(&self.path)
            .await
            .is_ok_and(|meta| meta.is_dir());
        if is_dir {
            let git_dir = self.repository.git_dir();
            let repair = [
                "worktree".as_ref(),
                "repair".as_ref(),
                "--".as_ref(),
                self.path.as_os_str(),
            ];
            // Its words do not matter: what counts is whether git finds the repository then.
            let _ = Git::new(At::Bare(&git_dir), repair).run().await;
            if self.repository.is_ours(&self.path).await {
                return Ok(true);
            }
            // Empty: nothing to keep.
            if fs::remove_dir(&self.path).await.is_ok() {
                return Ok(false);
            }
        }
        self.move_aside().await?;
        Ok(false)
    }

    async fn move_aside(&self) -> Result<(), Trouble> {
        for no in 1..10_000_u32 {
            let aside = self.repository.worktrees().join(format!(".aside-{no}"));
            if fs::symlink_metadata(&aside).await.is_ok() {
                continue;
            }
            fs::rename(&self.path, &aside)
                .await
                .map_err(|error| Trouble::io(&aside, error))?;
            tracing::warn!(from = %self.path.display(), to = %aside.display(), "moved aside");
            return Ok(());
        }
        let full = io::Error::other("ten thousand directories stand aside; look through them");
        Err(Trouble::io(&self.path, full))
    }

    async fn add(&self) -> Result<(), Trouble> {
        let parent = self.repository.worktrees();
        fs::create_dir_all(&parent)
            .await
            .map_err(|error| Trouble::io(&parent, error))?;
        let git_dir = self.repository.git_dir();
        let at = At::Bare(&git_dir);
        // A registration of a directory that is gone; one that died while being made is locked.
        let unlock = [
            "worktree".as_ref(),
            "unlock".as_ref(),
            "--".as_ref(),
            self.path.as_os_str(),
        ];
        let _ = Git::new(at, unlock).run().await;
        Git::new(at, ["worktree", "prune"]).run().await?;
        let add = [
            "worktree".as_ref(),
            "add".as_ref(),
            "--quiet".as_ref(),
            "--".as_ref(),
            self.path.as_os_str(),
            self.branch.as_ref(),
        ];
        Git::new(at, add).run().await?;
        Ok(())
    }

    /// A worktree is there: the same branch goes on, another one is saved and left.
    async fn take_over(&self) -> Result<(), Trouble> {
        self.clear_stale_locks().await?;
        let given = read_assignment(&self.path).await?;
        let name = match given.map(|given| self.repository.given(self.path.clone(), given)) {
            Some(old) => {
                old.keep_dropped().await?;
                if old.rejoin().await? && old.branch == self.branch {
                    return Ok(());
                }
                saved_ref(&old.dispatch)
            }
            // Never wholly made, or not by us.
            None => format!("{}-found", saved_ref(&self.dispatch)),
        };
        if let Some(sha) = save::snapshot(self, &name, "Left in the worktree").await? {
            tracing::info!(sha, name, "saved what another branch had left");
        }
        self.drop_assignment().await?;
        save::quit_operations(self).await?;
        save::switch(self).await
    }

    /// The git directory of this worktree, inside of `repo.git`.
    pub(super) async fn admin_dir(&self) -> Result<PathBuf, Trouble> {
        admin_dir(&self.path).await
    }

    /// Errors unless git sees our worktree here: the agent may have replaced it.
    pub(super) async fn ensure_ours(&self) -> Result<(), Trouble> {
        if self.repository.is_ours(&self.path).await {
            return Ok(());
        }
        Err(Trouble::NotOurs {
            path: self.path.display().to_string(),
        })
    }

    /// Removes the locks of a git that died here; waits for one that lives.
    pub(super) async fn clear_stale_locks(&self) -> Result<(), Trouble> {
        let admin = self.admin_dir().await?;
        locks::clear(
            &[admin.join("index.lock"), admin.join("HEAD.lock")],
            &self.path,
        )
        .await
    }

    async fn write_assignment(&self) -> Result<(), Trouble> {
        let file = self.admin_dir().await?.join(ASSIGNMENT);
        let given = Assignment {
            branch: self.branch.clone(),
            base_sha: self.base_sha.clone(),
            start_sha: self.start_sha.clone(),
            dispatch: self.dispatch.clone(),
        };
        let staged = file.with_extension("new");
        let text = serde_json::to_vec(&given).map_err(|e| Trouble::io(&file, e.into()))?;
        fs::write(&staged, text)
            .await
            .map_err(|error| Trouble::io(&staged, error))?;
        fs::rename(&staged, &file)
            .await
            .map_err(|error| Trouble::io(&file, error))
    }

    async fn drop_assignment(&self) -> Result<(), Trouble> {
        let file = self.admin_dir().await?.join(ASSIGNMENT);
        gone(fs::remove_file(&file).await).map_err(|error| Trouble::io(&file, error))
    }
}

async fn admin_dir(path: &Path) -> Result<PathBuf, Trouble> {
    let line = Git::new(At::Worktree(path), ["rev-parse", "--absolute-git-dir"])
        .run()
        .await?;
    Ok(PathBuf::from(line.line()))
}

/// `None` also for one that does not read back: it was never wholly written.
async fn read_assignment(path: &Path) -> Result<Option<Assignment>, Trouble> {
    let file = admin_dir(path).await?.join(ASSIGNMENT);
    let bytes = fs::read(&file).await.unwrap_or_default();
    Ok(serde_json::from_slice(&bytes).ok())
}

fn check_names(request: &Prepare) -> Result<(), Failure> {
    let wrong = |what: &str, name: &str, rule: &str| {
        let text = format!("{name:?} can not be {what}: {rule}");
        Err(Failure::new(Class::AgentFailed, Stage::Worktree, text))
    };
    if !is_slug(&request.agent_slug) {
        let rule = "use letters, digits, dots and dashes, and begin with a letter or a digit";
        return wrong("a worktree's name", &request.agent_slug, rule);
    }
    if !is_branch_name(&request.branch) {
        let rule = "use a name that `git check-ref-format --branch` accepts";
        return wrong("a branch", &request.branch, rule);
    }
    Ok(())
}

pub(super) fn at_worktree(trouble: &Trouble) -> Failure {
    let class = match trouble {
        Trouble::NoDefault | Trouble::Git(GitError::NotInstalled) => Class::Git,
        _ => Class::AgentFailed,
    };
    Failure::new(class, Stage::Worktree, trouble.to_string())
}

async fn is_same(found: Option<PathBuf>, wanted: &Path) -> bool {
    let Some(found) = found else { return false };
    match (
        fs::canonicalize(&found).await,
        fs::canonicalize(wanted).await,
    ) {
        (Ok(found), Ok(wanted)) => found == wanted,
        _ => false,
    }
}
