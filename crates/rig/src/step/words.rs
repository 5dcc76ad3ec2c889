//! What is said of a session by word: the agent's own `done`, and an external `completed`.
//!
//! Owns which dispatch such a word is about, and that the same word again gets the same answer.
//! The container's own reports are in `reports`; what an end means is `settle`'s.

use super::{draft::Draft, orders, review, settle};
use crate::{
    AgentId, Bead, BeadId, Cause, Class, Completion, DispatchId, DoneReport, Failure, Phase,
    Refused, Reply, Resolution, ReviewMode, Stage,
};

pub(super) fn done(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    dispatch: Option<&DispatchId>,
    report: DoneReport,
) -> Result<Reply, Refused> {
    let hooked = hooked_for_report(draft, agent, dispatch)?;
    let Some(id) = hooked else {
        return match dispatch {
            Some(dispatch) => said_before(draft, dispatch, &Cause::Done(report)),
            None => Err(Refused::Conflict(format!(
                "agent {agent} has nothing on its hook"
            ))),
        };
    };
    let Some(bead) = draft.bead(&id) else {
        return Err(Refused::NoBead(id));
    };
    match &bead.phase {
        Phase::Dispatched { .. } | Phase::Working { .. } => {
            let grace_ms = draft.record().policy.end_grace_ms;
            orders::begin_ending(
                draft,
                &id,
                Cause::Done(report),
                grace_ms,
                "the agent is done",
            )?;
        }
        Phase::Ending { ending, .. } => match &ending.cause {
            Cause::Done(said) if *said == report => return Ok(Reply::Repeated),
            Cause::SessionOver | Cause::Completed | Cause::Expired(_) => {
                orders::begin_ending(draft, &id, Cause::Done(report), 0, "the agent is done")?;
            }
            Cause::Done(_) | Cause::Reported(_) | Cause::Ordered(_) => {
                return Err(Refused::Conflict(format!(
                    "bead {id} is being given another end"
                )));
            }
        },
        _ => return done_without_session(draft, agent, &id, report),
    }
    settle::try_settle(draft, &id)?;
    Ok(Reply::Accepted)
}

/// A report of a dispatch that is settled: the same one again, or a stale one.
fn said_before(draft: &Draft<'_>, dispatch: &DispatchId, cause: &Cause) -> Result<Reply, Refused> {
    let said = draft.bead(&dispatch.bead).is_some_and(|bead| {
        let mut log = bead.attempts.iter();
        log.any(|attempt| attempt.no == dispatch.no && attempt.cause == *cause)
    });
    if said {
        Ok(Reply::Repeated)
    } else {
        Err(Refused::Stale(dispatch.clone()))
    }
}

/// The bead that a report of an agent is about: the dispatch that it names must be current; with
/// a live dispatch it has to name one; without one it is about the hook alone.
fn hooked_for_report(
    draft: &Draft<'_>,
    agent: &AgentId,
    dispatch: Option<&DispatchId>,
) -> Result<Option<BeadId>, Refused> {
    if draft.agent(agent).is_none() {
        return Err(Refused::NoAgent(agent.clone()));
    }
    let Some(id) = draft.hook_of(agent) else {
        return Ok(None);
    };
    let live = draft.bead(&id).and_then(Bead::dispatch_id);
    match (live, dispatch) {
        (Some(live), Some(named)) if live == *named => Ok(Some(id)),
        (_, Some(_)) => Ok(None),
        (Some(_), None) => Err(Refused::DispatchRequired(agent.clone())),
        (None, None) => Ok(Some(id)),
    }
}

fn done_without_session(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    id: &BeadId,
    report: DoneReport,
) -> Result<Reply, Refused> {
    let now = draft.now();
    let config = draft.record().config.as_ref();
    let reviews = config.is_none_or(|config| config.review == ReviewMode::Manual);
    let bead = draft.bead_mut(id)?;
    bead.branch = Some(report.branch.clone());
    if reviews {
        review::submit_bead(draft, id, Some(agent), report)?;
    } else {
        bead.phase = Phase::Closed {
            at: now,
            resolution: Resolution::ByHand,
        };
        orders::closed_event(draft, id, Some(agent), "done");
    }
    Ok(Reply::Accepted)
}

pub(super) fn completed(
    draft: &mut Draft<'_>,
    agent: &AgentId,
    dispatch: Option<&DispatchId>,
    completion: Completion,
) -> Result<Reply, Refused> {
    let cause = cause_of(completion);
    let Some(id) = hooked_for_report(draft, agent, dispatch)? else {
        return match dispatch {
            Some(dispatch) => said_before(draft, dispatch, &cause),
            None => Ok(Reply::Accepted),
        };
    };
    if draft.bead(&id).is_some_and(|bead| bead.run().is_some()) {
        return completed_live(draft, &id, cause);
    }
    match cause {
        Cause::Reported(failure) => settle::fail_bead(draft, &id, &failure.text)?,
        _ => orders::carry_out(draft, &id, crate::Order::Close, Some(agent))?,
    }
    Ok(Reply::Accepted)
}

fn cause_of(completion: Completion) -> Cause {
    match completion {
        Completion::Completed => Cause::Completed,
        Completion::Failed { reason } => {
            let text = reason.unwrap_or_else(|| "the session was reported as failed".to_owned());
            Cause::Reported(Failure::new(Class::AgentFailed, Stage::Turn, text))
        }
    }
}

/// The report of a live dispatch: it never outweighs what a person ordered or what was said first.
fn completed_live(draft: &mut Draft<'_>, id: &BeadId, cause: Cause) -> Result<Reply, Refused> {
    let under_way = draft.bead(id).and_then(|bead| match &bead.phase {
        Phase::Ending { ending, .. } => Some(&ending.cause),
        _ => None,
    });
    match (under_way, &cause) {
        (Some(same), _) if *same == cause => return Ok(Reply::Repeated),
        (Some(Cause::Ordered(_) | Cause::Reported(_)), _) => {
            return Err(Refused::Conflict(format!(
                "bead {id} is being given another end"
            )));
        }
        // The agent said so itself, and said more.
        (Some(Cause::Done(_)), Cause::Completed) => return Ok(Reply::Accepted),
        _ => {}
    }
    orders::begin_ending(draft, id, cause, 0, "reported over")?;
    settle::try_settle(draft, id)?;
    Ok(Reply::Accepted)
}
