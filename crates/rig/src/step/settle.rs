//! What an ended session means for its bead: closed, in review, waiting for the next attempt, or
//! failed.
//!
//! Owns the judgement and the two limits. The only place that charges an attempt. Decides no
//! dispatch.

use serde_json::json;

use super::{
    alert,
    draft::{Draft, NewEvent},
    orders, reports, review, town, trip,
};
use crate::{
    Attempt, Bead, BeadId, Cause, Class, Deadline, DispatchId, DoneReport, Ending, EventType,
    Failure, LastFailure, Numbers, Order, Outcome, Phase, Policy, Reach, Refusal, Refused,
    Resolution, ReviewMode, Run, Status, TextOnly, Timestamp, Work,
};

/// The verdict on an ended session, once both of its halves are weighed.
enum Verdict {
    Completed { work: Work },
    Failed { failure: Failure, work: Work },
    Refused { refusal: Refusal, until: Timestamp },
    NeverStarted,
    Ordered(Order),
}

/// Settles the bead if its session is proven over and nothing more is waited for.
pub(super) fn try_settle(draft: &mut Draft<'_>, id: &BeadId) -> Result<(), Refused> {
    let now = draft.now();
    let Some(bead) = draft.bead(id) else {
        return Ok(());
    };
    let Phase::Ending { run, ending } = &bead.phase else {
        return Ok(());
    };
    let Some(outcome) = &ending.over else {
        return Ok(());
    };
    if waits_for_word(&ending.cause, outcome) && !ending.grace.is_due(now) {
        return Ok(());
    }
    let (run, ending, outcome) = (run.clone(), ending.clone(), outcome.clone());
    let verdict = weigh(&ending.cause, &outcome);
    record_attempt(draft, id, &run, &ending, outcome)?;
    carry_out(draft, id, &run, &ending, verdict)
}

/// Only an end that came by itself waits for the agent's own word, and only if the agent had a
/// chance to send one.
fn waits_for_word(cause: &Cause, outcome: &Outcome) -> bool {
    let spoke = match outcome {
        Outcome::Completed { .. } => true,
        Outcome::Failed { failure, .. } => failure.class.is_charged(),
        Outcome::Refused { .. } | Outcome::NeverStarted => false,
    };
    spoke && matches!(cause, Cause::SessionOver | Cause::Completed)
}

/// Weighs why the session was ended against how it ended. Work that is there wins over a deadline.
fn weigh(cause: &Cause, outcome: &Outcome) -> Verdict {
    let work = reports::work_of(outcome).cloned().unwrap_or(Work::None);
    match (cause, outcome) {
        (Cause::Ordered(order), _) => Verdict::Ordered(*order),
        (Cause::Reported(failure), _) | (Cause::SessionOver, Outcome::Failed { failure, .. }) => {
            Verdict::Failed {
                failure: failure.clone(),
                work,
            }
        }
        (_, Outcome::Refused { refusal, until }) => Verdict::Refused {
            refusal: refusal.clone(),
            until: *until,
        },
        (_, Outcome::NeverStarted) => Verdict::NeverStarted,
        (_, Outcome::Completed { .. }) => Verdict::Completed { work },
        (Cause::Done(_) | Cause::Completed, Outcome::Failed { failure, .. }) => {
            // It was called done and was ended for it: judged by what it left.
            let ended_for_it = failure.class == Class::Interrupted;
            if ended_for_it || work.sha().is_some() {
                Verdict::Completed { work }
            } else {
                Verdict::Failed {
                    failure: failure.clone(),
                    work,
                }
            }
        }
        (Cause::Expired(expiry), Outcome::Failed { failure, .. }) => {
            // Ending it is what interrupted it; the deadline is the reason.
            let by_us = failure.class.continues_session();
            let failure = if by_us { expiry } else { failure };
            Verdict::Failed {
                failure: failure.clone(),
                work,
            }
        }
    }
}

fn record_attempt(
    draft: &mut Draft<'_>,
    id: &BeadId,
    run: &Run,
    ending: &Ending,
    outcome: Outcome,
) -> Result<(), Refused> {
    let now = draft.now();
    let sha = reports::work_of(&outcome).and_then(|work| work.sha().map(str::to_owned));
    let unspent = matches!(outcome, Outcome::Refused { .. } | Outcome::NeverStarted);
    let bead = draft.bead_mut(id)?;
    // Proven to have cost nothing, whatever becomes of the bead now.
    bead.numbers.prompts = bead.numbers.prompts.saturating_sub(u32::from(unspent));
    if sha.is_some() {
        bead.commit = sha;
    }
    bead.usage = bead.usage.plus(run.usage);
    bead.log_attempt(Attempt {
        no: run.no,
        agent: run.agent.clone(),
        sent_at: run.sent_at,
        session: ending.session.clone(),
        ended_at: now,
        outcome,
        cause: ending.cause.clone(),
        usage: run.usage,
        phases: ending.phases.clone(),
        last_output: ending.last_output.clone(),
    });
    Ok(())
}

fn carry_out(
    draft: &mut Draft<'_>,
    id: &BeadId,
    run: &Run,
    ending: &Ending,
    verdict: Verdict,
) -> Result<(), Refused> {
    let dispatch = DispatchId {
        bead: id.clone(),
        no: run.no,
    };
    match verdict {
        Verdict::Completed { work } => {
            trip::probe_ended(draft, run, &dispatch);
            complete(draft, id, run, ending, &work)
        }
        Verdict::Failed { failure, work } => fail_attempt(draft, id, run, ending, failure, &work),
        Verdict::Refused { refusal, until } => {
            town::held(draft, refusal, until);
            give_back(draft, id, run, 0)
        }
        Verdict::NeverStarted => give_back(draft, id, run, 1_000),
        Verdict::Ordered(order) => {
            trip::release_probe(draft, &dispatch);
            orders::carry_out(draft, id, order, None)
        }
    }
}

fn complete(
    draft: &mut Draft<'_>,
    id: &BeadId,
    run: &Run,
    ending: &Ending,
    work: &Work,
) -> Result<(), Refused> {
    let worked = work.sha().is_some();
    let policy = draft.record().policy.text_only;
    let review = draft.record().config.as_ref().map(|config| config.review);
    let expects_text = draft.bead(id).is_some_and(Bead::expects_text);
    if !worked && !expects_text && policy == TextOnly::Fail {
        return fail_bead(draft, id, "the agent only answered in text");
    }
    if worked && review == Some(ReviewMode::Manual) {
        let report = report_of(draft, id, ending)?;
        return review::submit_bead(draft, id, Some(&run.agent), report);
    }
    let resolution = match (worked, expects_text) {
        (true, _) => Resolution::Worked,
        (false, true) => Resolution::Answered,
        (false, false) => Resolution::TextOnly,
    };
    let at = draft.now();
    let bead = draft.bead_mut(id)?;
    bead.phase = Phase::Closed { at, resolution };
    bead.resume = None;
    let how = match resolution {
        Resolution::Worked => "worked",
        Resolution::Answered => "answered",
        Resolution::TextOnly => "text_only",
        Resolution::ByHand | Resolution::Healed => "by_hand",
    };
    orders::closed_event(draft, id, Some(&run.agent), how);
    Ok(())
}

/// What goes to review: the agent's own word, on the branch that holds the work.
fn report_of(draft: &Draft<'_>, id: &BeadId, ending: &Ending) -> Result<DoneReport, Refused> {
    let bead = draft.bead(id).ok_or_else(|| Refused::NoBead(id.clone()))?;
    let said = match &ending.cause {
        Cause::Done(report) => report.clone(),
        _ => DoneReport::default(),
    };
    Ok(DoneReport {
        branch: bead.branch.clone().unwrap_or(said.branch),
        ..said
    })
}

fn fail_attempt(
    draft: &mut Draft<'_>,
    id: &BeadId,
    run: &Run,
    ending: &Ending,
    failure: Failure,
    work: &Work,
) -> Result<(), Refused> {
    let now = draft.now();
    let dispatch = DispatchId {
        bead: id.clone(),
        no: run.no,
    };
    trip::failed(draft, &failure, run, &dispatch);
    let class = failure.class;
    let text = failure.text.clone();
    let bead = draft.bead_mut(id)?;
    if matches!(work, Work::Commit { .. }) {
        // Verified progress: a new commit of this dispatch on its branch, and nothing less.
        bead.numbers.failures = 0;
    }
    if class.is_charged() {
        bead.numbers.failures = bead.numbers.failures.saturating_add(1);
    }
    bead.resume = ending.session.clone().filter(|_| class.continues_session());
    bead.last_failure = Some(LastFailure { failure, at: now });
    let numbers = bead.numbers;
    attempt_failed_event(draft, id, run, class, &text, numbers);
    let policy = draft.record().policy.clone();
    if let Some(limit) = limit_reached(&policy, &numbers) {
        return fail_bead(
            draft,
            id,
            &format!("{limit}; the last attempt: {class}: {text}"),
        );
    }
    let wait_ms = wait_after(draft, class, numbers.failures);
    wait(draft, id, run, wait_ms)
}

/// The bead waits on its agent's hook; where that agent is gone it is open again.
fn wait(draft: &mut Draft<'_>, id: &BeadId, run: &Run, wait_ms: i64) -> Result<(), Refused> {
    if draft.agent(&run.agent).is_none() {
        return orders::carry_out(draft, id, Order::Unhook, None);
    }
    let until = Deadline::after(draft.now(), wait_ms);
    let agent = run.agent.clone();
    draft.bead_mut(id)?.phase = Phase::Waiting {
        agent,
        until,
        park: None,
    };
    Ok(())
}

fn attempt_failed_event(
    draft: &mut Draft<'_>,
    id: &BeadId,
    run: &Run,
    class: Class,
    text: &str,
    numbers: Numbers,
) {
    let mut event = NewEvent::of(EventType::AttemptFailed, id);
    event.agent = Some(&run.agent);
    event.new = Some(class.as_str().to_owned());
    event.metadata = json!({
        "dispatch_no": run.no, "class": class, "text": text, "failures": numbers.failures,
    });
    draft.event(event);
}

/// The gap before the next attempt; a shut breaker adds its own wait at the gate.
fn wait_after(draft: &mut Draft<'_>, class: Class, failures: u32) -> i64 {
    let random = draft.random();
    let record = draft.record();
    match (class, class.reach()) {
        // The gate holds back what may not go on yet.
        (Class::Lost | Class::Interrupted | Class::BudgetStop, _) => 0,
        _ if class.is_charged() => record.policy.backoff(failures, random),
        // The breaker may not be shut yet: the first step keeps the attempts apart.
        (Class::Gateway, _) => record.policy.backoff(1, random),
        (_, Reach::Rig | Reach::Nobody) if record.breaker.is_closed() => {
            record.policy.backoff(1, random)
        }
        _ => 0,
    }
}

/// How many prompts a bead may cost: each recorded retry grants as many more.
pub(crate) fn prompts_limit(policy: &Policy, numbers: &Numbers) -> u32 {
    policy
        .prompts_max
        .saturating_mul(numbers.retries.saturating_add(1))
}

/// The limit that a bead has reached, in words.
pub(crate) fn limit_reached(policy: &Policy, numbers: &Numbers) -> Option<String> {
    if numbers.failures >= policy.attempts_max {
        return Some(format!("failed {} times in a row", numbers.failures));
    }
    let limit = prompts_limit(policy, numbers);
    (numbers.prompts >= limit).then(|| format!("used all of its {limit} prompts"))
}

/// A dispatch that proved nothing: it is tried again, under a new number.
fn give_back(draft: &mut Draft<'_>, id: &BeadId, run: &Run, wait_ms: i64) -> Result<(), Refused> {
    trip::release_probe(
        draft,
        &DispatchId {
            bead: id.clone(),
            no: run.no,
        },
    );
    wait(draft, id, run, wait_ms)
}

/// Gives a bead up: terminal, its hook released, one escalation.
pub(super) fn fail_bead(draft: &mut Draft<'_>, id: &BeadId, reason: &str) -> Result<(), Refused> {
    let at = draft.now();
    let bead = draft.bead_mut(id)?;
    let (old, agent) = (bead.status(), bead.hooked_to().cloned());
    bead.phase = Phase::Failed {
        at,
        reason: reason.to_owned(),
    };
    bead.resume = None;
    let mut event = NewEvent::of(EventType::StatusChanged, id);
    event.agent = agent.as_ref();
    event.old = Some(old.as_str().to_owned());
    event.new = Some(Status::Failed.as_str().to_owned());
    event.metadata = json!({ "reason": reason });
    draft.event(event);
    alert::escalate_bead(draft, id, reason);
    Ok(())
}
