//! A rig's repository and its agents' worktrees, by the `git` program.
//!
//! Owns clone, fetch, branches, worktrees and the saving of work. No work is ever thrown away:
//! whatever is about to be replaced stands on a branch or on a ref below `refs/wellhead/saved/`
//! before. It must not know sessions, kilo, or what an outcome means for a bead.
//!
//! ```text
//! <rig's directory>/
//!   repo.git/                 bare; origin's branches below refs/remotes/origin/
//!     refs/heads/…            one branch per agent and bead
//!     refs/wellhead/base/…    where a branch began
//!     refs/wellhead/start/…   where the agent's newest dispatch began
//!     refs/wellhead/saved/…   uncommitted and stray work, by bead
//!   worktrees/<agent>/        one per agent; its branch changes with its bead
//!   worktrees/.aside-<n>/     what stood there and was not ours
//! ```

mod branch;
mod clone;
mod locks;
mod program;
mod progress;
mod running;
mod save;
#[cfg(test)]
mod tests;
mod url;
mod worktree;

pub(crate) use clone::{Repositories, Repository, check_remote};
pub(crate) use progress::{Listing, Progress};
pub(crate) use save::saved_ref;
pub(crate) use url::GitUrl;
pub(crate) use worktree::{Prepare, Worktree};
