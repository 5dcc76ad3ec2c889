//! What may be sent: the fence, the rig's breaker, its places, its pause, its budget, the town's
//! word.
//!
//! Owns the account of probes.

use std::collections::BTreeMap;

use super::{RigAccount, rig_step::dispatch_of};
use crate::{
    Attempt, Bead, BreakerState, Change, DispatchId, Hold, Input, Outcome, Reach, Readiness, Reply,
    Rig, RigRecord, Step, Timestamp, TurnVerdict,
};

/// Whether everything that this step sends may pass.
pub(super) fn passing(
    old: &Rig,
    record: &RigRecord,
    input: &Input,
    step: &Step,
    now: Timestamp,
    account: &mut RigAccount,
) -> Result<(), String> {
    fence(old, input, step, now)?;
    breaker(old.record(), record, input, step, account)?;
    dispatches(old, step)?;
    places(old, record, step)?;
    gates(old.record(), record, input, step, now)
}

/// A report of a dispatch that is not current changes nothing of its bead.
fn fence(old: &Rig, input: &Input, step: &Step, now: Timestamp) -> Result<(), String> {
    let Some(dispatch) = dispatch_of(input) else {
        return Ok(());
    };
    let Some(was) = old.bead(&dispatch.bead) else {
        return Err(format!("I5: {input:?} is about no bead and was accepted"));
    };
    if was.dispatch_id().as_ref() == Some(dispatch) {
        return Ok(());
    }
    let harmless = matches!(
        step.reply,
        Reply::Repeated | Reply::Turn(TurnVerdict::End) | Reply::Accepted
    );
    hold!(harmless, "I5: stale {dispatch} got {:?}", step.reply);
    for change in &step.changes {
        let Change::Bead(is) = change else { continue };
        // The gate may dispatch what is ready, whatever woke the rig; nothing else may move.
        let by_gate = old.bead(&is.id).is_some_and(|bead| bead.is_ready(now));
        hold!(
            by_gate || is.id != dispatch.bead,
            "I5: stale {dispatch} changed its bead"
        );
        hold!(
            is.id != dispatch.bead || is.attempts == was.attempts,
            "I5: stale {dispatch} settled an attempt"
        );
    }
    Ok(())
}

fn breaker(
    old: &RigRecord,
    new: &RigRecord,
    input: &Input,
    step: &Step,
    account: &mut RigAccount,
) -> Result<(), String> {
    let sent: Vec<_> = step.dispatches().collect();
    if !matches!(new.breaker.state, BreakerState::HalfOpen { .. })
        || new.breaker.trips != old.breaker.trips
    {
        account.probes = 0;
    }
    match &new.breaker.state {
        BreakerState::Closed => {}
        BreakerState::Open { .. } => {
            hold!(sent.is_empty(), "I7: {sent:?} passes an open breaker");
        }
        BreakerState::HalfOpen { probe, .. } => {
            let now_probe = probe.as_ref().map(|(id, _)| id);
            if let Some((was, _)) = old.breaker.probe()
                && now_probe != Some(was)
            {
                hold!(
                    may_release(was, input, step),
                    "I7: probe {was} released by {input:?}"
                );
                account.probes = 0;
            }
            hold!(
                sent.len() <= 1 && sent.iter().all(|id| Some(*id) == now_probe),
                "I7: {sent:?} pass a half-open breaker"
            );
            account.probes += u32::try_from(sent.len()).unwrap_or(9);
            hold!(account.probes <= 1, "I6: two dispatches in one cooldown");
        }
    }
    Ok(())
}

/// An end that says nothing about the rig: it cost nothing, or speaks against something shared.
fn is_no_proof(attempt: &Attempt) -> bool {
    match &attempt.outcome {
        Outcome::Refused { .. } | Outcome::NeverStarted => true,
        Outcome::Failed { failure, .. } => {
            !matches!(failure.class.reach(), Reach::Rig | Reach::Nobody)
        }
        Outcome::Completed { .. } => false,
    }
}

/// A probe makes room for another only if it proved nothing, or on a person's word.
fn may_release(probe: &DispatchId, input: &Input, step: &Step) -> bool {
    let by_hand = matches!(
        input,
        Input::ResetBreaker { .. } | Input::Configure(_) | Input::ContainerStarted { .. }
    );
    by_hand
        || step.changes.iter().any(|change| match change {
            Change::Bead(bead) if bead.id == probe.bead => {
                let last = bead.attempts.last();
                let proves_nothing = last.is_some_and(|a| a.no == probe.no && is_no_proof(a));
                proves_nothing || bead.run().is_none()
            }
            Change::BeadDeleted(id) => *id == probe.bead,
            _ => false,
        })
}

fn dispatches(old: &Rig, step: &Step) -> Result<(), String> {
    for id in step.dispatches() {
        let bead = step.changes.iter().find_map(|change| match change {
            Change::Bead(bead) if bead.id == id.bead => Some(bead),
            _ => None,
        });
        let Some(bead) = bead else {
            return Err(format!("{id} is dispatched and not written"));
        };
        hold!(bead.is_work(), "{id} is no work");
        let newest = old
            .bead(&id.bead)
            .map_or(0, |bead| bead.numbers.dispatch_no);
        hold!(id.no > newest, "I5: {id} is not above {newest}");
        hold!(
            bead.numbers.dispatch_no == id.no && bead.dispatch_id().as_ref() == Some(id),
            "I5: {id} is not the bead's own number"
        );
        if let Some(run) = old.bead(&id.bead).and_then(Bead::run) {
            let proven = bead.attempts.last().is_some_and(|a| a.no == run.no);
            hold!(proven, "I1: {id} before {} was proven over", run.no);
        }
    }
    Ok(())
}

/// A dispatch needs a place that is free.
fn places(old: &Rig, record: &RigRecord, step: &Step) -> Result<(), String> {
    if step.dispatches().next().is_none() {
        return Ok(());
    }
    let changed: BTreeMap<_, _> = step
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Bead(bead) => Some((&bead.id, Some(&**bead))),
            Change::BeadDeleted(id) => Some((id, None)),
            _ => None,
        })
        .collect();
    let left = old
        .unfinished()
        .filter(|bead| !changed.contains_key(&bead.id));
    let now = changed.values().flatten().copied();
    let live = left.chain(now).filter(|bead| bead.run().is_some()).count();
    let agents_max = usize::try_from(record.policy.agents_max).unwrap_or(usize::MAX);
    hold!(live <= agents_max, "{live} sessions, {agents_max} allowed");
    Ok(())
}

/// Nothing is dispatched while a person, a budget or the town holds it back.
fn gates(
    old: &RigRecord,
    record: &RigRecord,
    input: &Input,
    step: &Step,
    now: Timestamp,
) -> Result<(), String> {
    let sent: Vec<_> = step.dispatches().collect();
    if sent.is_empty() {
        return Ok(());
    }
    hold!(record.pause.is_none(), "{sent:?} while the rig is paused");
    hold!(record.deleted_at.is_none(), "{sent:?} of a deleted rig");
    let today = record.spent.on(now);
    hold!(
        !record.budget.day.is_reached(&today),
        "I13: {sent:?} with {today:?} spent today"
    );
    hold!(
        record.readiness == Readiness::Verified,
        "{sent:?} before the checks passed"
    );
    held_back(old, record, input, sent.len(), now)
}

/// Who was refused asks once more when its time has come, or when it is offered a place.
fn held_back(
    old: &RigRecord,
    new: &RigRecord,
    input: &Input,
    sent: usize,
    now: Timestamp,
) -> Result<(), String> {
    let Some(hold) = &new.hold else {
        return Ok(());
    };
    hold!(sent == 1, "{sent} dispatched to ask a town that refused");
    hold!(
        !hold.until.is_due(now),
        "the town is asked, and asked again at once"
    );
    let is_far = |hold: &Hold| !hold.until.rebased(now).is_due(now);
    let was_held = old.hold.as_ref().is_some_and(is_far);
    let is_offered = matches!(input, Input::Offered);
    hold!(
        !was_held || is_offered,
        "dispatched while the town holds it back"
    );
    Ok(())
}
