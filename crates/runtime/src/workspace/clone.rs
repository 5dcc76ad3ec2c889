//! The bare clone of a rig's repository, and the check that the remote is worth cloning.
//!
//! Owns `repo.git`: it is made in a staging directory and renamed, so a half clone is never used.
//! One mutation at a time per repository. It must not know worktrees or agents.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as Map, PoisonError},
};

use rig::{Class, Failure, Stage};
use tokio::{fs, sync::Mutex};

use super::{
    program::{At, Git, GitError, REMOTE, TRANSFER, quiet_ssh},
    url::{GitUrl, is_branch_name},
};

/// Branches of the remote live here; local branches are the agents' own.
const REFSPEC: &str = "+refs/heads/*:refs/remotes/origin/*";
/// How many branches a failure names.
const NAMED_MAX: usize = 5;
const STAGING: &str = ".repo.git.staging";

/// A rig's repository on this machine. Cheap to clone; clones share the lock.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    dir: PathBuf,
    url: GitUrl,
    default_branch: String,
    pub(super) lock: Arc<Mutex<()>>,
}

/// Every repository in use, so that all who mean the same directory share its lock.
#[derive(Debug, Default)]
pub(crate) struct Repositories {
    locks: Map<HashMap<PathBuf, Arc<Mutex<()>>>>,
}

impl Repositories {
    /// The repository of a rig's directory, with the rig's present URL and default branch.
    pub(crate) fn open(&self, dir: PathBuf, url: GitUrl, default_branch: String) -> Repository {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody holds needs no lock.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        let lock = Arc::clone(locks.entry(dir.clone()).or_default());
        Repository {
            lock,
            ..Repository::new(dir, url, default_branch)
        }
    }
}

impl Repository {
    /// A repository below the rig's directory `dir`. Use [`Repositories::open`] where more than
    /// one may mean the same directory.
    pub(crate) fn new(dir: PathBuf, url: GitUrl, default_branch: String) -> Self {
        Self {
            dir,
            url,
            default_branch,
            lock: Arc::default(),
        }
    }

    /// The bare clone.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.dir.join("repo.git")
    }

    /// Where the worktrees stand.
    pub(crate) fn worktrees(&self) -> PathBuf {
        self.dir.join("worktrees")
    }

    /// Where new work starts.
    pub(super) fn default_ref(&self) -> String {
        format!("refs/remotes/origin/{}", self.default_branch)
    }

    /// Brings the remote's branches up to date; clones first where there is no clone. The caller
    /// holds the lock.
    pub(super) async fn fetch(&self) -> Result<(), Failure> {
        if self.ensure_clone().await? {
            return Ok(());
        }
        let git_dir = self.git_dir();
        self.follow_url(&git_dir).await?;
        self.transfer(&git_dir).await
    }

    /// Clones unless there is a clone; says whether it did.
    pub(super) async fn ensure_clone(&self) -> Result<bool, Failure> {
        let git_dir = self.git_dir();
        if fs::try_exists(&git_dir).await.unwrap_or(false) {
            return Ok(false);
        }
        let staging = self.dir.join(STAGING);
        // What a crash left in the middle of a clone holds nobody's work.
        gone(fs::remove_dir_all(&staging).await).map_err(|error| io_failed(&staging, &error))?;
        fs::create_dir_all(&self.dir)
            .await
            .map_err(|error| io_failed(&self.dir, &error))?;
        let init = [
            "init".as_ref(),
            "--bare".as_ref(),
            "--quiet".as_ref(),
            // No hooks of a person's template.
            "--template=".as_ref(),
            "--".as_ref(),
            staging.as_os_str(),
        ];
        Git::new(At::Nowhere, init)
            .run()
            .await
            .map_err(|error| self.failed(&error))?;
        let add = ["remote", "add", "--", "origin", self.url.as_str()];
        Git::new(At::Bare(&staging), add)
            .run()
            .await
            .map_err(|error| self.failed(&error))?;
        self.transfer(&staging).await?;
        fs::rename(&staging, &git_dir)
            .await
            .map_err(|error| io_failed(&git_dir, &error))?;
        Ok(true)
    }

    /// The rig's URL may have been changed since the clone.
    async fn follow_url(&self, git_dir: &Path) -> Result<(), Failure> {
        let get = ["config", "--get", "remote.origin.url"];
        let known = Git::new(At::Bare(git_dir), get).ask().await;
        let known = known.map_err(|error| self.failed(&error))?;
        let set = match known.as_deref() {
            Some(known) if known == self.url.as_str() => return Ok(()),
            Some(_) => ["remote", "set-url", "--", "origin", self.url.as_str()],
            None => ["remote", "add", "--", "origin", self.url.as_str()],
        };
        Git::new(At::Bare(git_dir), set)
            .run()
            .await
            .map_err(|error| self.failed(&error))?;
        Ok(())
    }

    async fn transfer(&self, git_dir: &Path) -> Result<(), Failure> {
        let args = [
            "fetch",
            "--quiet",
            "--prune",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
            "--",
            "origin",
            REFSPEC,
        ];
        let call = Git::new(At::Bare(git_dir), args).deadline(TRANSFER);
        let call = speaking(call, At::Bare(git_dir), &self.url).await;
        call.run().await.map_err(|error| self.failed(&error))?;
        let wanted = self.default_ref();
        if commit_of(At::Bare(git_dir), &wanted)
            .await
            .map_err(|e| self.failed(&e))?
            .is_some()
        {
            return Ok(());
        }
        Err(missing_branch(&self.url, &self.default_branch).await)
    }

    fn failed(&self, error: &GitError) -> Failure {
        unreachable(&self.url, error)
    }
}

/// Whether `url` can be reached and `branch` has a commit there. Clones nothing.
///
/// # Errors
/// A failure of class git whose text names the reason and the fix.
pub(crate) async fn check_remote(url: &GitUrl, branch: &str) -> Result<(), Failure> {
    if !is_branch_name(branch) {
        let text = format!("{branch:?} is no name of a branch; set the rig's default branch");
        return Err(git_failure(text));
    }
    if let Some(path) = url.local_path()
        && !path.is_dir()
    {
        let text = format!(
            "{} is not a directory on this machine; set the rig's git URL to an existing repository",
            path.display()
        );
        return Err(git_failure(text));
    }
    if list(url, Some(branch)).await?.is_empty() {
        return Err(missing_branch(url, branch).await);
    }
    Ok(())
}

/// Branches of the remote: all, or the one of this name.
async fn list(url: &GitUrl, branch: Option<&str>) -> Result<Vec<String>, Failure> {
    let wanted = branch.map(|branch| format!("refs/heads/{branch}"));
    let args = ["ls-remote", "--heads", "--", url.as_str()]
        .into_iter()
        .chain(wanted.as_deref());
    let call = Git::new(At::Nowhere, args).deadline(REMOTE);
    let output = speaking(call, At::Nowhere, url).await.run().await;
    let output = output.map_err(|error| unreachable(url, &error))?;
    let lines = output
        .text()
        .lines()
        .filter_map(|line| line.split_once("\trefs/heads/"));
    let names = lines.map(|(_, name)| name.to_owned());
    // A pattern also matches the end of longer names.
    Ok(names
        .filter(|name| branch.is_none_or(|branch| branch == name))
        .collect())
}

async fn missing_branch(url: &GitUrl, branch: &str) -> Failure {
    let names = match list(url, None).await {
        Ok(names) => names,
        Err(failure) => return failure,
    };
    if names.is_empty() {
        let text = format!(
            "{} has no commit yet; make a first commit on {branch} and push it",
            url.as_str()
        );
        return git_failure(text);
    }
    let more = if names.len() > NAMED_MAX { ", …" } else { "" };
    let first: Vec<&str> = names.iter().take(NAMED_MAX).map(String::as_str).collect();
    git_failure(format!(
        "{} has no branch {branch} (it has {}{more}); set the rig's default branch to one of them",
        url.as_str(),
        first.join(", "),
    ))
}

fn unreachable(url: &GitUrl, error: &GitError) -> Failure {
    let fix = match error {
        GitError::NotInstalled | GitError::NotRun(_) => return git_failure(error.to_string()),
        _ if url.local_path().is_some() => "set the rig's git URL to a git repository",
        _ if url.is_ssh() => "check the rig's git URL and that your ssh key opens it",
        _ => "check the rig's git URL, the network and git's credential helper",
    };
    git_failure(format!("{} can not be read: {error}; {fix}", url.as_str()))
}

fn git_failure(text: String) -> Failure {
    Failure::new(Class::Git, Stage::Preflight, text)
}

fn io_failed(path: &Path, error: &io::Error) -> Failure {
    let text = format!(
        "{}: {error}; check the data directory's disk and owner",
        path.display()
    );
    Failure::new(Class::Git, Stage::Worktree, text)
}

/// The same, but what was not there is gone as well.
pub(super) fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The commit that a name stands for.
pub(super) async fn commit_of(at: At<'_>, name: &str) -> Result<Option<String>, GitError> {
    let name = format!("{name}^{{commit}}");
    Git::new(at, ["rev-parse", "--verify", "--quiet", &name])
        .ask()
        .await
}

/// Adds what a call to a remote needs.
async fn speaking<'a>(call: Git<'a>, at: At<'_>, url: &GitUrl) -> Git<'a> {
    if !url.is_ssh() {
        return call;
    }
    match quiet_ssh(at).await {
        Some((name, value)) => call.env(name, value),
        None => call,
    }
}
