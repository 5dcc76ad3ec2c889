//! What always holds for a rig, checked around every step.
//!
//! Owns the rules in words of its own, and none of their consequences: it compares the state
//! before, the decision and the state after.

use rig::{
    Attempt, Bead, BeadId, BreakerState, Cause, Change, DispatchId, Effect, Input, Order, Outcome,
    Phase, Readiness, Reply, Rig, RigRecord, Step, Timestamp, TurnVerdict, Work, utc_day,
};

use crate::{plan::TURN_TOKENS_MAX, rig_account::RigAccount};

macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

/// The dispatch that a report names, if it is a report.
pub(crate) fn dispatch_of(input: &Input) -> Option<&DispatchId> {
    match input {
        Input::AgentStarted { dispatch, .. } | Input::TurnEnded { dispatch, .. } => Some(dispatch),
        Input::Heartbeat(beat) => Some(&beat.dispatch),
        Input::AgentDone(report) => Some(&report.dispatch),
        Input::Done { dispatch, .. } | Input::Completed { dispatch, .. } => dispatch.as_ref(),
        _ => None,
    }
}

pub(crate) fn dispatch_sent(effect: &Effect) -> Option<&DispatchId> {
    match effect {
        Effect::Dispatch(order) => Some(&order.dispatch),
        _ => None,
    }
}

/// The record as the step leaves it.
fn record_of<'s>(old: &'s Rig, step: &'s Step) -> &'s RigRecord {
    let changed = step.changes.iter().find_map(|change| match change {
        Change::Rig(record) => Some(&**record),
        _ => None,
    });
    changed.unwrap_or_else(|| old.record())
}

/// The decision against the state that it was made on.
pub(crate) fn decision(
    old: &Rig,
    input: &Input,
    step: &Step,
    now: Timestamp,
    account: &mut RigAccount,
) -> Result<(), String> {
    let record = record_of(old, step);
    account.attempts_max = account.attempts_max.max(record.policy.attempts_max);
    if let (Some(was), Some(is)) = (&old.record().config, &record.config) {
        let (from, to) = (&was.town_id, &is.town_id);
        hold!(from == to, "I1: a rig moves from {from} to {to}");
    }
    for change in &step.changes {
        match change {
            Change::Bead(new) => match old.bead(&new.id) {
                Some(was) => bead(was, new, input, step, (record, account))?,
                None => hold!(
                    new.numbers.prompts <= 1,
                    "I6: {} is born with prompts",
                    new.id
                ),
            },
            Change::BeadDeleted(id) => deleted(old.bead(id), id, input)?,
            _ => {}
        }
    }
    fence(old, input, step, now)?;
    breaker(old.record(), record, input, step, account)?;
    dispatches(old, step)?;
    gates(record, step, now)?;
    notices(input, step, account)?;
    account_spending(old, record, step, now, account)
}

/// B6: a report whose answer was lost comes again, and is answered like the first time.
pub(crate) fn refusal(rig: &Rig, input: &Input) -> Result<(), String> {
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

fn bead(
    old: &Bead,
    new: &Bead,
    input: &Input,
    step: &Step,
    (record, account): (&RigRecord, &RigAccount),
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
    failures(old, new, retried, ended, account.attempts_max)?;
    prompts(old, new, step, ended, record)?;
    if matches!(new.phase, Phase::Failed { .. } | Phase::Closed { .. }) {
        hold!(new.hooked_to().is_none(), "{id} is terminal on a hook");
    }
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
    use rig::Resolution::{Answered, TextOnly, Worked};
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

fn deleted(old: Option<&Bead>, id: &BeadId, input: &Input) -> Result<(), String> {
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
    let sent: Vec<_> = step.effects.iter().filter_map(dispatch_sent).collect();
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
                last.is_some_and(|a| a.no == probe.no) || bead.run().is_none()
            }
            Change::BeadDeleted(id) => *id == probe.bead,
            _ => false,
        })
}

fn dispatches(old: &Rig, step: &Step) -> Result<(), String> {
    for id in step.effects.iter().filter_map(dispatch_sent) {
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

/// Nothing is dispatched while a person, a budget or the town holds it back.
fn gates(record: &RigRecord, step: &Step, now: Timestamp) -> Result<(), String> {
    let sent: Vec<_> = step.effects.iter().filter_map(dispatch_sent).collect();
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
    hold!(
        record.hold.is_none() || sent.len() == 1,
        "{sent:?} while the town holds the rig back"
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

/// I13: once a budget is used up, each session that ran costs one turn more at most.
fn account_spending(
    old: &Rig,
    record: &RigRecord,
    step: &Step,
    now: Timestamp,
    account: &mut RigAccount,
) -> Result<(), String> {
    let day_is_full = record.budget.day.is_reached(&record.spent.on(now));
    let is_same_day = utc_day(now) == old.record().spent.day;
    if !day_is_full || !is_same_day || record.budget != old.record().budget {
        account.over.clear();
    }
    for change in &step.changes {
        let Change::Bead(bead) = change else { continue };
        let Some(run) = bead.run() else { continue };
        let (id, tokens) = (bead.dispatch_id(), run.usage.tokens());
        if day_is_full && let Some(id) = id {
            let at_stop = *account.over.entry(id.clone()).or_insert(tokens);
            hold!(
                tokens.saturating_sub(at_stop) <= TURN_TOKENS_MAX,
                "I13: {id} went on from {at_stop} to {tokens} tokens with the day's budget used up"
            );
        }
        bead_spending(bead, run.no, tokens, record, account)?;
    }
    Ok(())
}

fn bead_spending(
    bead: &Bead,
    no: u64,
    tokens: u64,
    record: &RigRecord,
    account: &mut RigAccount,
) -> Result<(), String> {
    let all = bead
        .usage
        .plus(bead.run().map(|run| run.usage).unwrap_or_default());
    if !record.budget.bead.is_reached(&all) {
        account.bead_over.remove(&bead.id);
        return Ok(());
    }
    let known = account
        .bead_over
        .entry(bead.id.clone())
        .or_insert((no, tokens));
    if known.0 != no {
        *known = (no, tokens);
    }
    let at_stop = known.1;
    hold!(
        tokens.saturating_sub(at_stop) <= TURN_TOKENS_MAX,
        "I13: {} went on from {at_stop} to {tokens} tokens with its budget used up",
        bead.id
    );
    Ok(())
}
