//! Saving work and telling what there is of it.
//!
//! Owns commits and saved refs that are made on an agent's behalf, and the look-up of what a
//! dispatch left. Trees are written by a temporary index, so a save changes nothing that the agent
//! sees. It must not judge whether the work is good or whom it is charged to.

use rig::{DispatchId, Failure, Stage, Work};
use tokio::fs;

use super::{
    branch::update_ref,
    clone::{commit_of, gone},
    program::{Git, GitError},
    worktree::{Trouble, Worktree, at_worktree},
};

/// A saved ref counts only once it would survive a power loss.
pub(super) const FSYNC: &str = "core.fsync=committed,loose-object,reference";
/// Who commits on an agent's behalf.
const NAME: &str = "Wellhead agent";
const EMAIL: &str = "agents@wellhead.invalid";
/// Saves of one name; more than that is a loop.
const SAVES_MAX: u32 = 1_000;

/// What a worktree holds right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeState {
    /// The head of the work: of the branch, or of what the agent checked out on top of it.
    pub(crate) head: String,
    /// Whether there are uncommitted changes, untracked files included, ignored ones not.
    pub(crate) dirty: bool,
    /// Whether the head has a commit that was not there when the dispatch began.
    pub(crate) is_fresh: bool,
    /// Whether the head has a commit beyond the bead's base.
    pub(crate) is_beyond_base: bool,
}

impl TreeState {
    /// What is committed; uncommitted changes count only once [`Worktree::outcome_work`] has
    /// committed them.
    pub(crate) fn work(&self) -> Work {
        let sha = self.head.clone();
        if self.is_fresh && self.is_beyond_base {
            Work::Commit { sha }
        } else if self.is_beyond_base {
            Work::Earlier { sha }
        } else {
            Work::None
        }
    }
}

/// Where the uncommitted work of a dispatch is saved. Bead ids may hold dots, refs not all of them.
pub(crate) fn saved_ref(dispatch: &DispatchId) -> String {
    format!(
        "refs/wellhead/saved/{}/{}",
        dispatch.bead.as_str().replace('.', "-"),
        dispatch.no
    )
}

impl Worktree {
    /// What there is, without changing anything: also while a session works here.
    pub(crate) async fn state(&self) -> Result<TreeState, Failure> {
        self.look().await.map_err(|trouble| at_end(&trouble))
    }

    /// Saves what is uncommitted to a ref, if anything is, and returns the commit; then back to the
    /// branch's head. For a failure that is charged. A ref of that name that holds other work is
    /// kept: the next free name (`…-2`) is taken.
    pub(crate) async fn save_and_reset(&self, ref_name: &str) -> Result<Option<String>, Failure> {
        let _guard = self.repository.lock.lock().await;
        let saved = async {
            let saved = self.save(ref_name).await?;
            self.rejoin().await?;
            quit_operations(self).await?;
            switch(self).await?;
            Ok(saved)
        };
        saved.await.map_err(|trouble: Trouble| at_end(&trouble))
    }

    /// Saves what is uncommitted to a ref, if anything is, and leaves it where it is: for a session
    /// that is gone on with later.
    pub(crate) async fn save_aside(&self, ref_name: &str) -> Result<Option<String>, Failure> {
        let _guard = self.repository.lock.lock().await;
        let saved = self.save(ref_name).await;
        saved.map_err(|trouble| at_end(&trouble))
    }

    /// What the dispatch left, once its session is over. `completed`: uncommitted changes are
    /// committed where nothing else is fresh. Otherwise they are left where they are.
    pub(crate) async fn outcome_work(&self, completed: bool) -> Result<Work, Failure> {
        let _guard = self.repository.lock.lock().await;
        self.settle(completed)
            .await
            .map_err(|trouble| at_end(&trouble))
    }

    async fn settle(&self, completed: bool) -> Result<Work, Trouble> {
        self.ensure_ours().await?;
        self.keep_dropped().await?;
        let is_on_branch = self.rejoin().await?;
        let state = self.look().await?;
        if !completed || state.is_fresh || !state.dirty {
            return Ok(state.work());
        }
        self.clear_stale_locks().await?;
        if !is_on_branch {
            // The changes belong to another history; they are kept, but are not the branch's.
            snapshot(self, &saved_ref(&self.dispatch), "Left off the branch").await?;
            return Ok(state.work());
        }
        let message = format!("Save the work of dispatch {}", self.dispatch);
        let sha = self.commit_all(&message).await?;
        if sha == state.head {
            Ok(state.work())
        } else {
            Ok(Work::Saved { sha })
        }
    }

    async fn save(&self, ref_name: &str) -> Result<Option<String>, Trouble> {
        self.ensure_ours().await?;
        self.clear_stale_locks().await?;
        snapshot(
            self,
            ref_name,
            &format!("Saved of dispatch {}", self.dispatch),
        )
        .await
    }

    /// Commits everything that is uncommitted to the branch, which is checked out; without hooks
    /// and signatures. Returns the branch's head.
    async fn commit_all(&self, message: &str) -> Result<String, Trouble> {
        let head = self.branch_head().await?;
        let Some(sha) = commit_tree(self, message).await? else {
            return Ok(head);
        };
        update_ref(self.at(), &self.branch_ref(), &sha, Some(&head)).await?;
        // The tree is the commit's already; only the index and a merge under way are behind.
        Git::new(self.at(), ["reset", "--quiet", "--mixed"])
            .run()
            .await?;
        Ok(sha)
    }

    async fn look(&self) -> Result<TreeState, Trouble> {
        let at = self.at();
        let branch = self.branch_head().await?;
        let head = match commit_of(at, "HEAD").await? {
            Some(head) if self.is_ancestor(&branch, &head).await? => head,
            _ => branch,
        };
        let status = [
            "status",
            "--porcelain=v1",
            "--untracked-files=normal",
            "--no-renames",
        ];
        let dirty = !Git::new(at, status).run().await?.text().is_empty();
        let is_fresh = !self.is_ancestor(&head, &self.start_sha).await?;
        let is_beyond_base = !self.is_ancestor(&head, &self.base_sha).await?;
        Ok(TreeState {
            head,
            dirty,
            is_fresh,
            is_beyond_base,
        })
    }

    async fn is_ancestor(&self, of: &str, descendant: &str) -> Result<bool, GitError> {
        let ask = ["merge-base", "--is-ancestor", of, descendant];
        Ok(Git::new(self.at(), ask).ask().await?.is_some())
    }

    /// The branch's head; a branch that the agent deleted is made again.
    pub(super) async fn branch_head(&self) -> Result<String, Trouble> {
        if let Some(head) = commit_of(self.at(), &self.branch_ref()).await? {
            return Ok(head);
        }
        update_ref(self.at(), &self.branch_ref(), &self.start_sha, Some("")).await?;
        Ok(self.start_sha.clone())
    }

    /// Brings the branch up to what the agent checked out instead of it, where that continues the
    /// branch. Says whether the worktree is on its branch then; commits of another history are
    /// kept by a ref.
    pub(super) async fn rejoin(&self) -> Result<bool, Trouble> {
        let (at, branch_ref) = (self.at(), self.branch_ref());
        let branch = self.branch_head().await?;
        let on = Git::new(at, ["symbolic-ref", "--quiet", "HEAD"])
            .ask()
            .await?;
        if on.as_deref() == Some(branch_ref.as_str()) {
            return Ok(true);
        }
        let Some(head) = commit_of(at, "HEAD").await? else {
            return Ok(false);
        };
        let is_busy = is_in_operation(self).await?;
        if !is_busy && self.is_ancestor(&branch, &head).await? {
            update_ref(at, &branch_ref, &head, Some(&branch)).await?;
            Git::new(at, ["symbolic-ref", "HEAD", &branch_ref])
                .run()
                .await?;
            return Ok(true);
        }
        if !self.is_ancestor(&head, &branch).await? {
            keep(self, &format!("{}-head", saved_ref(&self.dispatch)), &head).await?;
        }
        Ok(false)
    }

    /// Commits that stood on the branch at the start and that the agent dropped from it.
    pub(super) async fn keep_dropped(&self) -> Result<(), Trouble> {
        let head = self.branch_head().await?;
        if self.is_ancestor(&self.start_sha, &head).await? {
            return Ok(());
        }
        keep(
            self,
            &format!("{}-start", saved_ref(&self.dispatch)),
            &self.start_sha,
        )
        .await
    }
}

/// Saves what is uncommitted to a ref; `None` where nothing is.
pub(super) async fn snapshot(
    worktree: &Worktree,
    ref_name: &str,
    message: &str,
) -> Result<Option<String>, Trouble> {
    let Some(sha) = commit_tree(worktree, message).await? else {
        return Ok(None);
    };
    keep(worktree, ref_name, &sha).await?;
    Ok(Some(sha))
}

/// Back to the branch's head; only what is ignored stays.
pub(super) async fn switch(worktree: &Worktree) -> Result<(), Trouble> {
    let at = worktree.at();
    Git::new(at, ["reset", "--quiet", "--hard"]).run().await?;
    Git::new(at, ["clean", "--quiet", "-fd"]).run().await?;
    let checkout = [
        "checkout",
        "--quiet",
        "--force",
        "--no-guess",
        &worktree.branch,
        "--",
    ];
    Git::new(at, checkout).run().await?;
    Ok(())
}

/// Leaves a rebase, cherry-pick or the like as it stands: its commits are saved, its plan is not
/// the next dispatch's.
pub(super) async fn quit_operations(worktree: &Worktree) -> Result<(), Trouble> {
    for quit in ["rebase", "am", "cherry-pick", "revert"] {
        // "No such operation" is the ordinary answer.
        let _ = Git::new(worktree.at(), [quit, "--quit"]).run().await;
    }
    Ok(())
}

async fn is_in_operation(worktree: &Worktree) -> Result<bool, Trouble> {
    let dir = worktree.admin_dir().await?;
    for name in ["rebase-merge", "rebase-apply"] {
        if fs::try_exists(dir.join(name)).await.unwrap_or(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A commit of the whole tree on top of HEAD, by an index of its own; `None` where the tree is
/// HEAD's.
async fn commit_tree(worktree: &Worktree, message: &str) -> Result<Option<String>, Trouble> {
    let admin = worktree.admin_dir().await?;
    let index = admin.join("wellhead-index");
    for leftover in [&index, &admin.join("wellhead-index.lock")] {
        gone(fs::remove_file(leftover).await).map_err(|error| Trouble::io(leftover, error))?;
    }
    // The agent's index knows which files are unchanged. Without one, git reads every file.
    let _ = fs::copy(admin.join("index"), &index).await;
    let at = worktree.at();
    let add = [
        "-c",
        FSYNC,
        "-c",
        "core.fsyncMethod=batch",
        "-c",
        "advice.addEmbeddedRepo=false",
    ];
    let add = Git::new(at, add.into_iter().chain(["add", "--all", "--", ":/"]));
    add.env("GIT_INDEX_FILE", &index).run().await?;
    let write = Git::new(at, ["-c", FSYNC, "write-tree"]).env("GIT_INDEX_FILE", &index);
    let tree = write.run().await?.line();
    gone(fs::remove_file(&index).await).map_err(|error| Trouble::io(&index, error))?;
    let parents = parents(worktree).await?;
    if let Some(head) = parents.first() {
        let head_tree = Git::new(at, ["rev-parse", &format!("{head}^{{tree}}")])
            .run()
            .await?;
        if head_tree.line() == tree && parents.len() == 1 {
            return Ok(None);
        }
    }
    let parents = parents.iter().flat_map(|sha| ["-p", sha]);
    let commit = ["-c", FSYNC, "commit-tree", "--no-gpg-sign"]
        .into_iter()
        .chain(parents);
    let commit = Git::new(at, commit.chain(["-m", message, tree.as_str()]));
    Ok(Some(as_agent(commit).run().await?.line()))
}

/// HEAD, and what is being merged into it.
async fn parents(worktree: &Worktree) -> Result<Vec<String>, GitError> {
    let mut parents = Vec::new();
    for name in ["HEAD", "MERGE_HEAD"] {
        parents.extend(commit_of(worktree.at(), name).await?);
    }
    Ok(parents)
}

fn as_agent(call: Git<'_>) -> Git<'_> {
    call.env("GIT_AUTHOR_NAME", NAME)
        .env("GIT_AUTHOR_EMAIL", EMAIL)
        .env("GIT_COMMITTER_NAME", NAME)
        .env("GIT_COMMITTER_EMAIL", EMAIL)
}

/// Points a new ref at the commit; a name that is taken by other work gets a number.
async fn keep(worktree: &Worktree, name: &str, sha: &str) -> Result<(), Trouble> {
    for no in 1..=SAVES_MAX {
        let name = if no == 1 {
            name.to_owned()
        } else {
            format!("{name}-{no}")
        };
        match commit_of(worktree.at(), &name).await? {
            Some(found) if found == sha => return Ok(()),
            Some(_) => {}
            None => return Ok(update_ref(worktree.at(), &name, sha, Some("")).await?),
        }
    }
    Err(Trouble::NoFreeRef {
        name: name.to_owned(),
    })
}

pub(super) fn at_end(trouble: &Trouble) -> Failure {
    Failure {
        stage: Stage::End,
        ..at_worktree(trouble)
    }
}
