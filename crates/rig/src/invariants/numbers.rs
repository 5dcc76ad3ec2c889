//! One bead before and after a step: its numbers, its ends.
//!
//! Owns how failures, prompts and dispatch numbers may move, and by whom a bead may be closed.

use super::alerts;
use crate::{
    Attempt, Bead, BeadId, Cause, Effect, Input, Order, Outcome, Phase, Reply, RigRecord, Step,
    TurnVerdict, Work,
};

pub(super) fn bead(
    old: &Bead,
    new: &Bead,
    input: &Input,
    step: &Step,
    (record, attempts_max): (&RigRecord, u32),
) -> Result<(), String> {
    let id = &new.id;
    let retried = matches!(input, Input::Retry { bead, .. } if bead == id);
    if old.is_terminal() && new.phase != old.phase {
        let failed = matches!(old.phase, Phase::Failed { .. });
        hold!(retried && failed, "I8: terminal {id} changed by {input:?}");
    }
    let (was, is) = (old.numbers, new.numbers);
    hold!(
        is.dispatch_no >= was.dispatch_no,
        "I6: the numbers of {id} go back"
    );
    hold!(
        is.retries == was.retries + u32::from(retried),
        "I6: {id} has retries that no person asked for"
    );
    let ended = ended(old, new)?;
    failures(old, new, retried, ended, attempts_max)?;
    prompts(old, new, step, ended, record)?;
    if let Some(ended) = ended {
        refused_costs_nothing(old, new, ended)?;
    }
    if matches!(new.phase, Phase::Failed { .. } | Phase::Closed { .. }) {
        hold!(new.hooked_to().is_none(), "{id} is terminal on a hook");
    }
    alerts::stay_seen(old, new)?;
    // A merged review closes a bead without a session.
    let is_review = matches!(input, Input::CompleteReview { .. });
    if is_review {
        Ok(())
    } else {
        completed(old, new, ended)
    }
}

/// Failures grow by one with a charged attempt, do not grow without, and fall only for a reason.
fn failures(
    old: &Bead,
    new: &Bead,
    retried: bool,
    ended: Option<&Attempt>,
    attempts_max: u32,
) -> Result<(), String> {
    let (id, was, is) = (&new.id, old.numbers.failures, new.numbers.failures);
    let work = ended.map(|a| &a.outcome);
    let committed = matches!(
        work,
        Some(Outcome::Failed {
            work: Work::Commit { .. },
            ..
        })
    );
    if is < was {
        hold!(
            retried || committed,
            "I6: the failures of {id}, {was}, became {is}"
        );
    }
    if is > was {
        hold!(ended.is_some(), "I6: {id} is charged without an attempt");
        hold!(
            is == was + 1,
            "I6: the failures of {id}, {was}, became {is}"
        );
    }
    if let Some(attempt) = ended
        && matches!(attempt.cause, Cause::SessionOver)
        && let Outcome::Failed { failure, .. } = &attempt.outcome
    {
        let due = u32::from(failure.class.is_charged()) + if committed { 0 } else { was };
        hold!(
            is == due,
            "I6: {id} failed with {} and has {is} failures, not {due}",
            failure.class
        );
    }
    hold!(
        is <= attempts_max,
        "I6: {id} has {is} failures, the limit is {attempts_max}"
    );
    Ok(())
}

/// A bead is closed as done only by a session that left work or words, or by a person's hand.
fn completed(old: &Bead, new: &Bead, ended: Option<&Attempt>) -> Result<(), String> {
    use crate::Resolution::{Answered, TextOnly, Worked};
    let Phase::Closed { resolution, .. } = &new.phase else {
        return Ok(());
    };
    if old.is_terminal() || !matches!(resolution, Worked | Answered | TextOnly) {
        return Ok(());
    }
    let work = ended.map(|attempt| match &attempt.outcome {
        Outcome::Completed { work, .. } | Outcome::Failed { work, .. } => work.sha().is_some(),
        Outcome::Refused { .. } | Outcome::NeverStarted => false,
    });
    let claimed = *resolution == Worked;
    hold!(
        work.is_some_and(|work| work == claimed),
        "{} is closed as {resolution:?}; its session left work: {work:?}",
        new.id
    );
    Ok(())
}

/// The attempt that this step settled; there is never more than one.
fn ended<'b>(old: &Bead, new: &'b Bead) -> Result<Option<&'b Attempt>, String> {
    let last = |bead: &Bead| bead.attempts.last().map(|a| a.no);
    if last(old) == last(new) {
        return Ok(None);
    }
    let attempt = new.attempts.last();
    let no = attempt.map(|a| a.no);
    hold!(
        no > last(old) && no == old.run().map(|run| run.no),
        "I5: {} settled {no:?}, {:?} ran",
        new.id,
        old.run().map(|run| run.no)
    );
    Ok(attempt)
}

/// Every prompt is accounted for: one for a dispatch, one for a nudge, one back if proven unspent.
fn prompts(
    old: &Bead,
    new: &Bead,
    step: &Step,
    ended: Option<&Attempt>,
    record: &RigRecord,
) -> Result<(), String> {
    let id = &new.id;
    let ours = |effect: &&Effect| match effect {
        Effect::Dispatch(order) => order.dispatch.bead == *id,
        Effect::Nudge { dispatch, .. } => dispatch.bead == *id,
        _ => false,
    };
    let sent = u32::try_from(step.effects.iter().filter(ours).count()).unwrap_or(9);
    let mark = |bead: &Bead| bead.run().map(|run| (run.nudged_after, run.told_after));
    let is_nudge = matches!(step.reply, Reply::Turn(TurnVerdict::Nudge(_)));
    let nudged = is_nudge && sent == 0 && mark(old) != mark(new);
    let unspent =
        ended.is_some_and(|a| matches!(a.outcome, Outcome::Refused { .. } | Outcome::NeverStarted));
    let (was, is) = (old.numbers.prompts, new.numbers.prompts);
    let due = was + sent + u32::from(nudged);
    hold!(
        is + u32::from(unspent) == due,
        "I6: the prompts of {id}, {was}, became {is}; {sent} sent, unspent: {unspent}"
    );
    if is > was {
        let limit = record.policy.prompts_max * (1 + new.numbers.retries);
        hold!(
            is <= limit,
            "I6: {id} has {is} prompts, the limit is {limit}"
        );
    }
    Ok(())
}

/// A refusal costs nothing but its number.
fn refused_costs_nothing(old: &Bead, new: &Bead, ended: &Attempt) -> Result<(), String> {
    if !matches!(
        ended.outcome,
        Outcome::Refused { .. } | Outcome::NeverStarted
    ) {
        return Ok(());
    }
    let id = &new.id;
    hold!(
        new.numbers.failures == old.numbers.failures,
        "I6: {id} is charged for a refusal"
    );
    hold!(
        new.last_failure == old.last_failure,
        "{id} failed by a refusal"
    );
    Ok(())
}

pub(super) fn deleted(old: Option<&Bead>, id: &BeadId, input: &Input) -> Result<(), String> {
    // With its rig goes a bead whose session is proven over already.
    let ends = old.is_some_and(|bead| matches!(bead.phase, Phase::Ending { .. }));
    let asked_now = match input {
        Input::DeleteBead { bead } => bead == id,
        Input::DeleteRig => ends,
        _ => false,
    };
    let asked_before = old.is_some_and(|bead| {
        matches!(&bead.phase, Phase::Ending { ending, .. }
            if ending.cause == Cause::Ordered(Order::Delete))
    });
    hold!(
        asked_now || asked_before,
        "I8: {id} is gone and nobody asked"
    );
    Ok(())
}
