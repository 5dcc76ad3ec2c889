//! The words that an agent gets: who it is, what to do, and how its work is judged.
//!
//! Owns the text. Titles and bodies of beads are quoted as data; nothing here is a secret.

use std::fmt::Write as _;

use rig::DispatchOrder;

use crate::workspace::{Listing, Progress};

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

/// The first prompt of a dispatch in a fresh session.
pub(super) fn task(order: &DispatchOrder, progress: &Progress) -> String {
    let mut text = order.title.clone();
    if let Some(body) = &order.body {
        text.push_str("\n\n");
        text.push_str(body);
    }
    if order.failures > 0 {
        text.push_str("\n\nAn earlier attempt at this task failed.");
    }
    if !progress.is_none() {
        text.push_str("\n\n");
        text.push_str(&there_is(progress));
    }
    text
}

/// The first prompt of a dispatch that continues a session. What git holds is told as a fact: the
/// session may have been cut between a commit and its answer, and does not know of it.
pub(super) fn resume(order: &DispatchOrder, progress: &Progress) -> String {
    let there_is = if progress.is_none() {
        "Nothing of it is committed or changed yet.".to_owned()
    } else {
        there_is(progress)
    };
    format!(
        "Your session was interrupted and goes on now; whatever command was running has ended. \
         {there_is}\n\nFinish the task: {}",
        order.title
    )
}

fn there_is(progress: &Progress) -> String {
    let mut text = String::new();
    list(
        &mut text,
        "Commits of this task that are already there",
        &progress.commits,
    );
    list(
        &mut text,
        "Files with changes that are not committed yet",
        &progress.changes,
    );
    text.push_str("Look at them first, go on from there, and repeat nothing that is done.");
    text
}

fn list(text: &mut String, what: &str, listing: &Listing) {
    if listing.total == 0 {
        return;
    }
    text.push_str(what);
    text.push_str(":\n");
    for line in &listing.lines {
        text.push_str("- ");
        text.push_str(line);
        text.push('\n');
    }
    let more = listing.total - listing.lines.len();
    if more > 0 {
        // Writing to a String never fails.
        let _ = writeln!(text, "- and {more} more");
    }
}
