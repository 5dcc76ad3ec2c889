//! The invariants, checked around every step.
//!
//! Owns an account of its own (dispatches seen, probes per cooldown) and compares it with what the
//! rig writes. `before_commit` sees the old state and the step, `after_commit` the new state.

use std::collections::BTreeSet;

use wellhead_rig::{
    Attempt, Bead, BeadId, BreakerState, Cause, Change, DispatchId, Effect, Input, Order, Outcome,
    Phase, Reach, Reply, Rig, RigRecord, Step, Timestamp, TurnVerdict, Work,
};

use super::{due, limits, views};

const HOUR_MS: i64 = 3_600_000;

macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}
pub(super) use hold;

#[derive(Default)]
pub(crate) struct Checks {
    dispatched: BTreeSet<DispatchId>,
    probes_since_open: u32,
    attempts_max: u32,
    /// A bead that is gone takes its share of the spend with it.
    deleted: bool,
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

impl Checks {
    pub(crate) fn before_commit(
        &mut self,
        old: &Rig,
        input: &Input,
        step: &Step,
        now: Timestamp,
    ) -> Result<(), String> {
        let record = step.changes.iter().find_map(|change| match change {
            Change::Rig(record) => Some(&**record),
            _ => None,
        });
        let record = record.unwrap_or_else(|| old.record());
        self.attempts_max = self.attempts_max.max(record.policy.attempts_max);
        for change in &step.changes {
            match change {
                Change::Bead(bead) => {
                    self.bead(old.bead(&bead.id), bead, input, step, record)?;
                }
                Change::BeadDeleted(id) => {
                    self.deleted = true;
                    deleted(old.bead(id), id, input)?;
                }
                _ => {}
            }
        }
        limits::held_back(old.record(), record, input, step, now)?;
        fence(old, input, step, now)?;
        self.breaker(old.record(), record, input, step)?;
        self.dispatches(old, step)
    }

    /// B6: a report whose answer was lost comes again, and is answered like the first time.
    pub(crate) fn after_refusal(rig: &Rig, input: &Input) -> Result<(), String> {
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
        &self,
        old: Option<&Bead>,
        new: &Bead,
        input: &Input,
        step: &Step,
        record: &RigRecord,
    ) -> Result<(), String> {
        let id = &new.id;
        let Some(old) = old else {
            hold!(new.numbers.prompts <= 1, "I6: {id} is born with prompts");
            return Ok(());
        };
        let retried = matches!(input, Input::Retry { bead, .. } if bead == id);
        if old.is_terminal() && new.phase != old.phase {
            let failed = matches!(old.phase, Phase::Failed { .. });
            hold!(retried && failed, "I8: terminal {id} changed by {input:?}");
        }
        let (was, is) = (old.numbers, new.numbers);
        hold!(
            is.dispatch_no >= was.dispatch_no,
            "I6: {id} numbers go back"
        );
        hold!(
            is.retries == was.retries + u32::from(retried),
            "I6: {id} has retries that no person asked for"
        );
        let ended = ended(old, new)?;
        self.failures(old, new, retried, ended)?;
        prompts(old, new, step, ended, record)?;
        limits::seen_stays_seen(old, new)?;
        if let Some(ended) = ended {
            limits::refused_costs_nothing(old, new, ended)?;
        }
        if matches!(new.phase, Phase::Failed { .. } | Phase::Closed { .. }) {
            hold!(new.hooked_to().is_none(), "{id} is terminal on a hook");
        }
        Ok(())
    }

    /// Failures grow by one, with a charged attempt, and fall only for a reason.
    fn failures(
        &self,
        old: &Bead,
        new: &Bead,
        retried: bool,
        ended: Option<&Attempt>,
    ) -> Result<(), String> {
        let (id, was, is) = (&new.id, old.numbers.failures, new.numbers.failures);
        let committed = ended.is_some_and(|a| {
            matches!(
                &a.outcome,
                Outcome::Failed {
                    work: Work::Commit { .. },
                    ..
                }
            )
        });
        if is < was {
            hold!(retried || committed, "I6: {id} failures {was} became {is}");
        }
        if is > was {
            hold!(ended.is_some(), "I6: {id} charged without an attempt");
            hold!(is == was + 1, "I6: {id} failures {was} became {is}");
        }
        hold!(
            is <= self.attempts_max,
            "I6: {id} has {is} failures, the limit is {}",
            self.attempts_max
        );
        Ok(())
    }

    fn breaker(
        &mut self,
        old: &RigRecord,
        new: &RigRecord,
        input: &Input,
        step: &Step,
    ) -> Result<(), String> {
        let sent: Vec<_> = step.effects.iter().filter_map(dispatch_sent).collect();
        if !matches!(new.breaker.state, BreakerState::HalfOpen { .. })
            || new.breaker.trips != old.breaker.trips
        {
            self.probes_since_open = 0;
        }
        match &new.breaker.state {
            BreakerState::Closed => {}
            BreakerState::Open { .. } => {
                hold!(sent.is_empty(), "I7: {sent:?} passes an open breaker");
            }
            BreakerState::HalfOpen { probe, .. } => {
                let now_probe = probe.as_ref().map(|(id, _)| id);
                if let BreakerState::HalfOpen {
                    probe: Some((was, _)),
                    ..
                } = &old.breaker.state
                    && now_probe != Some(was)
                {
                    hold!(
                        may_release(was, input, step),
                        "I7: probe {was} released by {input:?}"
                    );
                    self.probes_since_open = 0;
                }
                hold!(
                    sent.len() <= 1 && sent.iter().all(|id| Some(*id) == now_probe),
                    "I7: {sent:?} pass a half-open breaker"
                );
                self.probes_since_open += u32::try_from(sent.len()).unwrap_or(9);
                hold!(
                    self.probes_since_open <= 1,
                    "I6: two dispatches in one cooldown"
                );
            }
        }
        Ok(())
    }

    fn dispatches(&mut self, old: &Rig, step: &Step) -> Result<(), String> {
        for id in step.effects.iter().filter_map(dispatch_sent) {
            hold!(
                self.dispatched.insert(id.clone()),
                "I5: {id} is dispatched twice"
            );
            let bead = step.changes.iter().find_map(|change| match change {
                Change::Bead(bead) if bead.id == id.bead => Some(bead),
                _ => None,
            });
            let Some(bead) = bead else {
                return Err(format!("{id} is dispatched and not written"));
            };
            hold!(bead.is_work(), "{id} is no work");
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

    /// The alarm and the views, on the state as it is now.
    pub(crate) fn after_commit(
        &self,
        rig: &Rig,
        step: &Step,
        alarm: Option<Timestamp>,
        now: Timestamp,
        was_alarm: bool,
    ) -> Result<(), String> {
        limits::ended_what_runs(rig, now)?;
        limits::alerts(rig, alarm, now, was_alarm)?;
        if !self.deleted {
            limits::spend_adds_up(rig)?;
        }
        let unfinished = rig.unfinished().next().is_some();
        hold!(
            alarm.is_some() || !unfinished,
            "I3: unfinished work and no alarm"
        );
        let Some(at) = alarm else {
            return Ok(());
        };
        let mut untold = rig.open_escalations();
        let tells = untold.any(|bead| bead.alert.as_ref().is_some_and(|a| a.again.is_some()));
        hold!(
            unfinished || tells || due::has_probe(rig),
            "I3: an alarm for nothing"
        );
        hold!(
            !unfinished || at <= now.plus_ms(HOUR_MS),
            "I3: the patrol is more than an hour away"
        );
        if was_alarm {
            hold!(at >= now.plus_ms(1_000), "I4: the next alarm is too close");
            due::used_up(rig, now)?;
        }
        for bead in rig.unfinished() {
            for deadline in due::deadlines(bead, rig, now) {
                let due = deadline.rebased(now).at.max(now.plus_ms(1_000));
                hold!(at <= due, "I3: {} is due at {due:?}, {at:?}", bead.id);
            }
        }
        let sent = step.effects.iter().filter_map(dispatch_sent).count();
        let live = rig.unfinished().filter(|b| b.run().is_some()).count();
        let agents_max = usize::try_from(rig.policy().agents_max).unwrap_or(0);
        hold!(
            sent == 0 || live <= agents_max,
            "{live} sessions, {agents_max} allowed"
        );
        views::views(rig)
    }
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
    let ours = step.effects.iter().filter_map(dispatch_sent);
    let ours = ours.filter(|dispatch| dispatch.bead == *id);
    let sent = u32::try_from(ours.count()).unwrap_or(9);
    let mark = |bead: &Bead| bead.run().map(|run| (run.nudged_after, run.told_after));
    let is_nudge = matches!(step.reply, Reply::Turn(TurnVerdict::Nudge(_)));
    let nudged = is_nudge && sent == 0 && mark(old) != mark(new);
    let unspent =
        ended.is_some_and(|a| matches!(a.outcome, Outcome::Refused { .. } | Outcome::NeverStarted));
    let (was, is) = (old.numbers.prompts, new.numbers.prompts);
    let due = was + sent + u32::from(nudged) + limits::nudges_of(step, new);
    hold!(
        is + u32::from(unspent) == due,
        "I6: {id} prompts {was} became {is}, {sent} sent"
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
    let asked_now = matches!(input, Input::DeleteBead { bead } if bead == id);
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

pub(crate) fn dispatch_sent(effect: &Effect) -> Option<&DispatchId> {
    match effect {
        Effect::Dispatch(order) => Some(&order.dispatch),
        _ => None,
    }
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
