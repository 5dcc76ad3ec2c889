//! A rig's decision, judged on the state that it was made on.
//!
//! Owns the order of the checks, and what is about the step as a whole.

use super::{RigAccount, numbers, passing, spending};
use crate::{Change, DispatchId, Input, Reply, Rig, RigRecord, Step, Timestamp};

/// The dispatch that a report names, if it is a report.
pub(super) fn dispatch_of(input: &Input) -> Option<&DispatchId> {
    match input {
        Input::AgentStarted { dispatch, .. } | Input::TurnEnded { dispatch, .. } => Some(dispatch),
        Input::Heartbeat(beat) => Some(&beat.dispatch),
        Input::AgentDone(report) => Some(&report.dispatch),
        Input::Done { dispatch, .. } | Input::Completed { dispatch, .. } => dispatch.as_ref(),
        _ => None,
    }
}

/// Judges a step before it is applied; what it has to remember of it goes into the account.
///
/// A session costs `turn_tokens_max` tokens more at most, once its budget is used up.
///
/// # Errors
/// What is broken, in words.
pub fn rig_step(
    old: &Rig,
    input: &Input,
    step: &Step,
    now: Timestamp,
    turn_tokens_max: u64,
    account: &mut RigAccount,
) -> Result<(), String> {
    let record = step.record(old);
    account.attempts_max = account.attempts_max.max(record.policy.attempts_max);
    stays_in_its_town(old.record(), record)?;
    for change in &step.changes {
        match change {
            Change::Bead(new) => match old.bead(&new.id) {
                Some(was) => {
                    numbers::bead(was, new, input, step, (record, account.attempts_max))?;
                }
                None => hold!(
                    new.numbers.prompts <= 1,
                    "I6: {} is born with prompts",
                    new.id
                ),
            },
            Change::BeadDeleted(id) => {
                account.has_deleted = true;
                numbers::deleted(old.bead(id), id, input)?;
            }
            _ => {}
        }
    }
    passing::passing(old, record, input, step, now, account)?;
    notices(input, step, account)?;
    spending::of_rig(old, record, step, now, turn_tokens_max, account)
}

/// Only the container that was granted a session can end it.
fn stays_in_its_town(old: &RigRecord, new: &RigRecord) -> Result<(), String> {
    if let (Some(was), Some(is)) = (&old.config, &new.config) {
        let (from, to) = (&was.town_id, &is.town_id);
        hold!(from == to, "I1: a rig moves from {from} to {to}");
    }
    Ok(())
}

/// Judges a refusal. B6: a report whose answer was lost comes again, and is answered like the first time.
///
/// # Errors
/// What is broken, in words.
pub fn rig_refusal(rig: &Rig, input: &Input) -> Result<(), String> {
    let Input::AgentDone(report) = input else {
        return Ok(());
    };
    let DispatchId { bead, no } = &report.dispatch;
    let mut log = rig.bead(bead).into_iter().flat_map(|bead| &bead.attempts);
    let is_known = log.any(|a| a.no == *no && a.outcome == report.outcome);
    hold!(
        !is_known,
        "B6: the repeated report of {bead} {no} is refused"
    );
    Ok(())
}

/// A notice is heeded once, and none is taken for another.
fn notices(input: &Input, step: &Step, account: &mut RigAccount) -> Result<(), String> {
    let Input::Noticed { no, notice } = input else {
        return Ok(());
    };
    let known = account.notices.get(no);
    if step.changes.is_empty() && step.reply == Reply::Accepted {
        // A deleted rig heeds nothing.
        return Ok(());
    }
    if step.reply == Reply::Repeated {
        let same = known.is_none_or(|known| known == notice);
        hold!(same, "notice {no}, {notice:?}, is taken for {known:?}");
        return Ok(());
    }
    hold!(
        known != Some(notice),
        "notice {no} is heeded twice: {notice:?}"
    );
    account.notices.insert(*no, notice.clone());
    Ok(())
}
