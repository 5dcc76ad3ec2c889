//! The words that an agent gets: who it is, what to do, and how its work is judged.
//!
//! Owns the text. Titles and bodies of beads are quoted as data; nothing here is a secret.

use rig::DispatchOrder;

/// The system prompt: identity, place and rules.
pub(super) fn system(order: &DispatchOrder, rig: &rig::RigId) -> String {
    format!(
        "You are {name}, a polecat: a worker of the rig {rig} in the town {town}. Your identity is \
         {identity}.\n\
         You work alone and unattended on the branch {branch}, in a git worktree of your own, which \
         is your current directory. Nobody answers questions while you work.\n\
         Your work counts when it is committed on this branch: commit small, whole steps with clear \
         messages. Do not push, do not switch branches, do not touch files outside of this \
         directory.\n\
         When the task is done and committed, end your turn with one short summary. If you can not \
         go on without a person, end your turn and say in one sentence what you need.",
        name = order.agent_name,
        town = order.config.town_id,
        identity = order.identity,
        branch = order.branch,
    )
}

/// The first prompt of a dispatch.
pub(super) fn task(order: &DispatchOrder) -> String {
    let mut text = order.title.clone();
    if let Some(body) = &order.body {
        text.push_str("\n\n");
        text.push_str(body);
    }
    if order.failures > 0 {
        text.push_str(
            "\n\nAn earlier attempt at this task failed. Look at what is already there first.",
        );
    }
    text
}

/// The first prompt of a dispatch that continues a session.
pub(super) fn resume(order: &DispatchOrder) -> String {
    format!(
        "Your session was interrupted and goes on now. Look at the state of the repository and \
         finish the task: {}",
        order.title
    )
}
