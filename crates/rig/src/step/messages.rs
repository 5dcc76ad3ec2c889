//! What people tell a live session: kept with its bead until a turn has read it.
//!
//! Owns when a message is taken, and that it is handed out at a turn's end, one per turn, and paid
//! for like every prompt. A session that dies before it has read one leaves it to the next.

use super::{draft::Draft, settle};
use crate::{AgentId, DispatchId, Phase, Refused, Reply};

/// More than these are not read in the life of a session.
const MESSAGES_MAX: usize = 16;

pub(super) fn message(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    prompt: String,
) -> Result<Reply, Refused> {
    if draft.agent(agent).is_none() {
        return Err(Refused::NoAgent(agent.clone()));
    }
    let conflict = |why: &str| Err(Refused::Conflict(why.to_owned()));
    let idle = "the agent has no running session; start it with this prompt";
    let Some(id) = draft.hook_of(agent) else {
        return conflict(idle);
    };
    let limit = |bead: &crate::Bead| settle::prompts_limit(&draft.record().policy, &bead.numbers);
    let bead = draft.bead(&id).ok_or(Refused::NoBead(id.clone()))?;
    let is_over = match &bead.phase {
        Phase::Dispatched { .. } => false,
        Phase::Working { run, .. } => run.is_over,
        Phase::Ending { .. } => true,
        _ => return conflict(idle),
    };
    if is_over {
        return conflict("the agent's session is at its end; ask again when it is over");
    }
    let waiting = u32::try_from(bead.messages.len()).unwrap_or(u32::MAX);
    if bead.messages.len() >= MESSAGES_MAX {
        return conflict("the agent has not read its earlier messages yet; wait for it");
    }
    if bead.numbers.prompts.saturating_add(waiting) >= limit(bead) {
        return conflict("the bead has no prompt left for a further message");
    }
    draft.bead_mut(&id)?.messages.push(prompt);
    Ok(Reply::Accepted)
}

/// What the session is to be told after this turn; the same turn again gets the same.
pub(super) fn after_turn(
    draft: &mut Draft<'_>,
    dispatch: &DispatchId,
    turn_no: u32,
    has_prompts: bool,
) -> Result<Option<String>, Refused> {
    let Some(bead) = draft.bead(&dispatch.bead) else {
        return Ok(None);
    };
    if bead.messages.is_empty() {
        return Ok(None);
    }
    let told = bead.run().and_then(|run| run.told_after);
    if told == Some(turn_no) {
        return Ok(bead.messages.first().cloned());
    }
    let bead = draft.bead_mut(&dispatch.bead)?;
    if told.is_some() {
        // The turn that it opened has ended: it was read.
        bead.messages.remove(0);
    }
    let next = bead.messages.first().filter(|_| has_prompts).cloned();
    if next.is_some() {
        bead.numbers.prompts = bead.numbers.prompts.saturating_add(1);
    }
    if let Some(run) = bead.run_mut() {
        run.told_after = next.as_ref().map(|_| turn_no);
    }
    Ok(next)
}
