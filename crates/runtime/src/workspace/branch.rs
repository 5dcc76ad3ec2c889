//! The branch of a bead: where it begins, and the ref that remembers it.
//!
//! Owns `refs/wellhead/base/`. What a bead's work is measured against is decided here once, when
//! its branch is made. It must not know worktrees.

use super::{
    clone::{Repository, commit_of},
    program::{At, Git, GitError},
    save,
    url::is_branch_name,
    worktree::{Prepare, Trouble},
};

impl Repository {
    pub(super) async fn has_branch(&self, branch: &str) -> Result<bool, GitError> {
        let (head_ref, _) = refs_of(branch);
        Ok(commit_of(At::Bare(&self.git_dir()), &head_ref)
            .await?
            .is_some())
    }

    /// Makes the branch where it is missing; returns where the bead's work began, and where the
    /// branch stands.
    pub(super) async fn ensure_branch(
        &self,
        request: &Prepare,
    ) -> Result<(String, String), Trouble> {
        let git_dir = self.git_dir();
        let at = At::Bare(&git_dir);
        let (head_ref, base_ref) = refs_of(&request.branch);
        if let Some(head) = commit_of(at, &head_ref).await? {
            if let Some(base) = commit_of(at, &base_ref).await? {
                return Ok((base, head));
            }
            // A branch that somebody else made: its own work is what the default branch lacks.
            let base = self
                .fork_point(&head)
                .await?
                .unwrap_or_else(|| head.clone());
            update_ref(at, &base_ref, &base, None).await?;
            return Ok((base, head));
        }
        let (base, start) = self.starting_point(request.base_branch.as_deref()).await?;
        // The base first: a branch without one would count its origin's commits as work.
        update_ref(at, &base_ref, &base, None).await?;
        update_ref(at, &head_ref, &start, Some("")).await?;
        Ok((base, start))
    }

    /// Where the bead's work began, and where the new branch starts.
    async fn starting_point(&self, from: Option<&str>) -> Result<(String, String), Trouble> {
        let git_dir = self.git_dir();
        let at = At::Bare(&git_dir);
        if let Some(from) = from.filter(|from| is_branch_name(from)) {
            let (head_ref, base_ref) = refs_of(from);
            let remote_ref = format!("refs/remotes/origin/{from}");
            for (name, base_ref) in [(head_ref, Some(base_ref)), (remote_ref, None)] {
                let Some(start) = commit_of(at, &name).await? else {
                    continue;
                };
                let known = match base_ref {
                    Some(base_ref) => commit_of(at, &base_ref).await?,
                    None => None,
                };
                let base = match known {
                    Some(base) => Some(base),
                    None => self.fork_point(&start).await?,
                };
                return Ok((base.unwrap_or_else(|| start.clone()), start));
            }
            // It is a name that an agent reported; the work itself must not hang on it.
            tracing::warn!(
                branch = from,
                "no such branch to start from: starting at the default"
            );
        }
        let wanted = self.default_ref();
        let start = commit_of(at, &wanted).await?.ok_or(Trouble::NoDefault)?;
        Ok((start.clone(), start))
    }

    async fn fork_point(&self, head: &str) -> Result<Option<String>, GitError> {
        let (git_dir, default) = (self.git_dir(), self.default_ref());
        if commit_of(At::Bare(&git_dir), &default).await?.is_none() {
            return Ok(None);
        }
        Git::new(At::Bare(&git_dir), ["merge-base", &default, head])
            .ask()
            .await
    }
}

/// Sets a ref; `old` as git means it: empty for "must not exist yet".
pub(super) async fn update_ref(
    at: At<'_>,
    name: &str,
    sha: &str,
    old: Option<&str>,
) -> Result<(), GitError> {
    let args = [
        "-c",
        save::FSYNC,
        "update-ref",
        "--no-deref",
        "--",
        name,
        sha,
    ];
    Git::new(at, args.into_iter().chain(old))
        .run()
        .await
        .map(drop)
}

fn refs_of(branch: &str) -> (String, String) {
    (
        format!("refs/heads/{branch}"),
        format!("refs/wellhead/base/{branch}"),
    )
}
