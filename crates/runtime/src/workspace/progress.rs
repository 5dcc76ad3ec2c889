//! What a bead's branch and worktree already hold, in words for whoever goes on with it.
//!
//! Owns the look and its bounds. Changes nothing and judges nothing.

use rig::Failure;

use super::{
    program::{Git, GitError},
    save::at_end,
    worktree::Worktree,
};

/// More commits than this are counted, not listed.
const COMMITS_MAX: usize = 20;
/// The same for files with uncommitted changes.
const FILES_MAX: usize = 20;
/// Longer lines are cut.
const CHARS_MAX: usize = 120;

/// Earlier work on a branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Commits beyond the bead's base, the newest first: short hash and subject.
    pub(crate) commits: Listing,
    /// Files with uncommitted changes, as `git status` shows them.
    pub(crate) changes: Listing,
}

/// The first lines of a list, and how many there are in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    pub(crate) lines: Vec<String>,
    pub(crate) total: usize,
}

impl Progress {
    pub(crate) fn is_none(&self) -> bool {
        self.commits.total == 0 && self.changes.total == 0
    }
}

impl Listing {
    fn of(text: &str, max: usize) -> Self {
        let cut = |line: &str| line.chars().take(CHARS_MAX).collect();
        Self {
            lines: text.lines().take(max).map(cut).collect(),
            total: text.lines().count(),
        }
    }
}

impl Worktree {
    /// What there is of earlier dispatches, before a session goes on with it.
    pub(crate) async fn progress(&self) -> Result<Progress, Failure> {
        self.read_progress()
            .await
            .map_err(|error| at_end(&error.into()))
    }

    async fn read_progress(&self) -> Result<Progress, GitError> {
        let range = format!("{}..{}", self.base_sha, self.branch_ref());
        let log = ["log", "--format=%h %s", range.as_str(), "--"];
        let commits = Git::new(self.at(), log).run().await?;
        let status = [
            "status",
            "--porcelain=v1",
            "--untracked-files=normal",
            "--no-renames",
        ];
        let changes = Git::new(self.at(), status).run().await?;
        Ok(Progress {
            commits: Listing::of(commits.text(), COMMITS_MAX),
            changes: Listing::of(changes.text(), FILES_MAX),
        })
    }
}
