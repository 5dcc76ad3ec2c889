//! What people and agents say of a bead by hand: status, close, delete, cancel, retry, unhook.
//!
//! Owns which order a state allows. An order for a bead with a session ends the session first
//! (`Ending`) and takes effect when that is proven over; otherwise it takes effect at once.

use serde_json::json;

use super::{
    draft::{Draft, NewEvent},
    review, settle,
};
use crate::{
    AgentId, Bead, BeadId, Cause, Deadline, DoneReport, Effect, Ending, EventType, Order, Phase,
    Refused, Reply, Resolution, ReviewId, Status, Who,
};

pub(super) fn unhook(draft: &mut Draft<'_>, agent: &AgentId) -> Result<Reply, Refused> {
    if draft.agent(agent).is_none() {
        return Err(Refused::NoAgent(agent.clone()));
    }
    match draft.hook_of(agent) {
        Some(bead) => order(draft, &bead, Order::Unhook, Some(agent))?,
        None => return Ok(Reply::Accepted),
    }
    Ok(Reply::Accepted)
}

pub(super) fn close(
    draft: &mut Draft<'_>,
    id: &BeadId,
    by: Option<&AgentId>,
) -> Result<Reply, Refused> {
    let bead = existing(draft, id)?;
    match bead.phase {
        Phase::Closed { .. } => {}
        Phase::Failed { .. } => {
            return Err(Refused::Conflict(format!(
                "bead {id} has failed; retry it first"
            )));
        }
        _ => order(draft, id, Order::Close, by)?,
    }
    reply(draft, id)
}

pub(super) fn delete(draft: &mut Draft<'_>, id: &BeadId) -> Result<Reply, Refused> {
    existing(draft, id)?;
    order(draft, id, Order::Delete, None)?;
    Ok(Reply::Accepted)
}

pub(super) fn cancel(draft: &mut Draft<'_>, id: &BeadId, by: &Who) -> Result<Reply, Refused> {
    if existing(draft, id)?.is_terminal() {
        return Err(Refused::Conflict(format!(
            "bead {id} is already at its end"
        )));
    }
    let mut event = NewEvent::of(EventType::Cancelled, id);
    event.metadata = json!({ "by": by });
    draft.event(event);
    order(draft, id, Order::Cancel, None)?;
    reply(draft, id)
}

/// A person's retry: the one way out of `Failed`. Failures start anew; prompts are granted, not
/// forgotten, so that no number of retries hides what a bead has cost.
pub(super) fn retry(draft: &mut Draft<'_>, id: &BeadId, by: &Who) -> Result<Reply, Refused> {
    let now = draft.now();
    let bead = existing(draft, id)?;
    if !bead.is_work() {
        // A second open escalation for one cause would come back with it.
        return Err(Refused::Conflict(format!(
            "bead {id} is no work; only failed work is retried"
        )));
    }
    let Phase::Failed { .. } = bead.phase else {
        let status = bead.status().as_str();
        return Err(Refused::Conflict(format!(
            "bead {id} is {status}; only a failed one is retried"
        )));
    };
    let free = bead
        .assignee
        .clone()
        .filter(|agent| draft.agent(agent).is_some() && draft.hook_of(agent).is_none());
    let bead = draft.bead_mut(id)?;
    bead.numbers.retries = bead.numbers.retries.saturating_add(1);
    bead.numbers.failures = 0;
    bead.phase = match free {
        Some(agent) => Phase::Waiting {
            agent,
            until: Deadline::after(now, 0),
            park: None,
        },
        None => Phase::Open,
    };
    let mut event = NewEvent::of(EventType::Retried, id);
    event.metadata = json!({ "by": by });
    draft.event(event);
    reply(draft, id)
}

pub(super) fn set_status(
    draft: &mut Draft<'_>,
    id: &BeadId,
    wanted: Status,
    by: Option<&AgentId>,
) -> Result<Reply, Refused> {
    let bead = existing(draft, id)?;
    let (now_is, phase) = (bead.status(), bead.phase.clone());
    if now_is == wanted {
        return reply(draft, id);
    }
    let conflict = || {
        let (from, to) = (now_is.as_str(), wanted.as_str());
        Err(Refused::Conflict(format!(
            "bead {id} is {from}; it can not be set to {to} by hand"
        )))
    };
    match (phase, wanted) {
        (Phase::Closed { .. } | Phase::Failed { .. }, _) => return conflict(),
        (_, Status::Closed) => order(draft, id, Order::Close, by)?,
        (_, Status::Failed) => order(draft, id, Order::Cancel, by)?,
        (Phase::Held | Phase::InReview { .. }, Status::Open) => {
            set_phase(draft, id, Phase::Open, by)?;
        }
        (_, Status::Open) => order(draft, id, Order::Unhook, by)?,
        (Phase::Open | Phase::InReview { .. }, Status::InProgress) => {
            set_phase(draft, id, Phase::Held, by)?;
        }
        (
            Phase::Open | Phase::Held | Phase::Hooked { .. } | Phase::Waiting { .. },
            Status::InReview,
        ) => {
            let review = review_by_hand(draft, id, by)?;
            set_phase(draft, id, Phase::InReview { review }, by)?;
        }
        _ => return conflict(),
    }
    reply(draft, id)
}

fn review_by_hand(
    draft: &mut Draft<'_>,
    id: &BeadId,
    by: Option<&AgentId>,
) -> Result<ReviewId, Refused> {
    let bead = existing(draft, id)?;
    let agent = by.cloned().or_else(|| bead.assignee.clone());
    let report = DoneReport {
        branch: bead.branch.clone().unwrap_or_default(),
        ..DoneReport::default()
    };
    Ok(review::make_entry(draft, id, agent.as_ref(), report))
}

pub(super) fn set_phase(
    draft: &mut Draft<'_>,
    id: &BeadId,
    phase: Phase,
    by: Option<&AgentId>,
) -> Result<(), Refused> {
    let bead = draft.bead_mut(id)?;
    let old = bead.status();
    bead.phase = phase;
    let new = bead.status();
    status_event(draft, id, old, new, by);
    Ok(())
}

fn status_event(
    draft: &mut Draft<'_>,
    id: &BeadId,
    old: Status,
    new: Status,
    by: Option<&AgentId>,
) {
    let mut event = NewEvent::of(EventType::StatusChanged, id);
    event.agent = by;
    event.old = Some(old.as_str().to_owned());
    event.new = Some(new.as_str().to_owned());
    draft.event(event);
}

/// Gives a bead another end: at once, or as soon as its session is proven over.
pub(super) fn order(
    draft: &mut Draft<'_>,
    id: &BeadId,
    order: Order,
    by: Option<&AgentId>,
) -> Result<(), Refused> {
    if draft.bead(id).is_some_and(|bead| bead.run().is_some()) {
        check_outweighs(existing(draft, id)?, order)?;
        begin_ending(draft, id, Cause::Ordered(order), 0, "by order")?;
        return settle::try_settle(draft, id);
    }
    carry_out(draft, id, order, by)
}

/// An order that was accepted holds against a weaker one that comes before the session is over.
fn check_outweighs(bead: &Bead, order: Order) -> Result<(), Refused> {
    let weight = |order: Order| match order {
        Order::Unhook => 0,
        Order::Close | Order::Cancel => 1,
        Order::Delete => 2,
    };
    match &bead.phase {
        Phase::Ending { ending, .. } => match ending.cause {
            Cause::Ordered(before) if weight(before) > weight(order) => Err(Refused::Conflict(
                format!("bead {} is being given another end", bead.id),
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Starts the end of a live session, or gives an end that is under way another cause.
pub(super) fn begin_ending(
    draft: &mut Draft<'_>,
    id: &BeadId,
    cause: Cause,
    grace_ms: i64,
    reason: &str,
) -> Result<(), Refused> {
    let grace = Deadline::after(draft.now(), draft.record().policy.end_grace_ms);
    let bead = draft.bead_mut(id)?;
    let (run, ending) = match &bead.phase {
        Phase::Dispatched { run, .. } => (run.clone(), Ending::of(cause, None, grace)),
        Phase::Working { run, live } => {
            let session = Some(live.session.clone());
            (run.clone(), Ending::of(cause, session, grace))
        }
        Phase::Ending { run, ending } => {
            let ending = ending.clone();
            (run.clone(), Ending { cause, ..ending })
        }
        _ => return Err(Refused::Conflict(format!("bead {id} has no session"))),
    };
    let is_over = ending.over.is_some();
    let no = run.no;
    bead.phase = Phase::Ending { run, ending };
    if !is_over {
        ask_to_stop(draft, id, no, grace_ms, reason);
    }
    Ok(())
}

/// Asks the container to make a dispatch be over and to prove it.
pub(super) fn ask_to_stop(
    draft: &mut Draft<'_>,
    id: &BeadId,
    no: u64,
    grace_ms: i64,
    reason: &str,
) {
    let Some(config) = &draft.record().config else {
        return;
    };
    let effect = Effect::StopAgent {
        dispatch: crate::DispatchId {
            bead: id.clone(),
            no,
        },
        town: config.town_id.clone(),
        grace_ms,
        reason: reason.to_owned(),
    };
    draft.effect(effect);
}

/// Carries out an order on a bead without a session.
pub(super) fn carry_out(
    draft: &mut Draft<'_>,
    id: &BeadId,
    order: Order,
    by: Option<&AgentId>,
) -> Result<(), Refused> {
    let now = draft.now();
    let bead = draft.bead_mut(id)?;
    let (old, hooked) = (bead.status(), bead.hooked_to().cloned());
    let is_orphan = hooked
        .as_ref()
        .is_some_and(|agent| draft.agent(agent).is_none());
    let bead = draft.bead_mut(id)?;
    match order {
        Order::Close => {
            bead.phase = Phase::Closed {
                at: now,
                resolution: Resolution::ByHand,
            };
            closed_event(draft, id, by, "by_hand");
        }
        Order::Cancel => {
            bead.phase = Phase::Failed {
                at: now,
                reason: "cancelled".to_owned(),
            };
            status_event(draft, id, old, Status::Failed, by);
        }
        Order::Unhook => {
            bead.phase = Phase::Open;
            if is_orphan {
                bead.assignee = None;
            }
            let mut event = NewEvent::of(EventType::Unhooked, id);
            event.agent = hooked.as_ref();
            event.old = hooked.as_ref().map(ToString::to_string);
            draft.event(event);
        }
        Order::Delete => draft.delete_bead(id),
    }
    Ok(())
}

pub(super) fn closed_event(draft: &mut Draft<'_>, id: &BeadId, by: Option<&AgentId>, how: &str) {
    let mut event = NewEvent::of(EventType::Closed, id);
    event.agent = by;
    event.new = Some("closed".to_owned());
    event.metadata = json!({ "resolution": how });
    draft.event(event);
}

fn existing<'d>(draft: &'d Draft<'_>, id: &BeadId) -> Result<&'d Bead, Refused> {
    draft.bead(id).ok_or_else(|| Refused::NoBead(id.clone()))
}

fn reply(draft: &Draft<'_>, id: &BeadId) -> Result<Reply, Refused> {
    Ok(Reply::Bead(Box::new(existing(draft, id)?.clone())))
}
