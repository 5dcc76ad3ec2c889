//! The one gate: every dispatch of every bead is decided here, whatever woke the rig.
//!
//! Owns the order of the questions. There is no second path: nothing else writes
//! `Phase::Dispatched` or sends `Effect::Dispatch`.

use super::{
    control,
    draft::{Draft, NewEvent},
    settle, trip,
};
use crate::{
    Bead, BeadId, BreakerState, Class, Deadline, DispatchId, DispatchOrder, Effect, EventType,
    Phase, Priority, Readiness, Rig, RigRecord, Run, Timestamp, Usage, hold::HOLD_MS,
};

/// More dispatches than this in one step wait for the next one, a second later.
const PER_STEP_MAX: u32 = 32;

/// So many of the beads on a hook are looked at in one step: more than are dispatched, because
/// some may be at a limit.
const LOOK_MAX: usize = 64;

/// What the gate says for the rig as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outlook {
    /// Beads may be dispatched while slots are free.
    Open,
    /// One bead may be dispatched: the town had refused, and is asked again.
    Ask,
    /// One bead may be dispatched as the breaker's probe.
    Probe,
    /// The checks have to be made first.
    NeedsCheck,
    /// The checks are under way until then.
    Checking(Timestamp),
    /// There is no configuration.
    Unconfigured,
    /// A person holds it back.
    Paused,
    /// The rig's budget of the day is used up until then.
    Spent(Timestamp),
    /// The town has refused until then.
    Held(Timestamp),
    /// The breaker is open for this class until then.
    Shut(Class, Timestamp),
    /// The breaker's probe is under way.
    Probing,
}

/// The gate's answer as a function of the rig's record.
pub(crate) fn outlook_of(record: &RigRecord, now: Timestamp) -> Outlook {
    if record.config.is_none() {
        return Outlook::Unconfigured;
    }
    if record.pause.is_some() {
        return Outlook::Paused;
    }
    if record.budget.day.is_reached(&record.spent.on(now)) {
        return Outlook::Spent(record.spent.day_ends(now));
    }
    if let Some(hold) = record.hold.as_ref().filter(|hold| !hold.until.is_due(now)) {
        return Outlook::Held(hold.until.at);
    }
    if let Readiness::Checking { deadline, .. } = &record.readiness {
        return Outlook::Checking(deadline.at);
    }
    let verified = record.readiness == Readiness::Verified;
    match &record.breaker.state {
        BreakerState::Open {
            failure,
            next_probe,
            ..
        } if !next_probe.is_due(now) => Outlook::Shut(failure.class, next_probe.at),
        BreakerState::HalfOpen { probe: Some(_), .. } => Outlook::Probing,
        BreakerState::Open { .. } => Outlook::NeedsCheck,
        _ if !verified => Outlook::NeedsCheck,
        BreakerState::HalfOpen { probe: None, .. } => Outlook::Probe,
        BreakerState::Closed if record.hold.is_some() => Outlook::Ask,
        BreakerState::Closed => Outlook::Open,
    }
}

/// Asks the gate for every ready bead. Called at the end of each accepted step, nowhere else.
pub(super) fn schedule(draft: &mut Draft<'_>) {
    if draft.record().config.is_none() {
        return;
    }
    control::note_day(draft);
    match outlook_of(draft.record(), draft.now()) {
        Outlook::NeedsCheck => {
            if draft.ready(1).next().is_some() {
                trip::request_check(draft);
            }
        }
        Outlook::Open => {
            let free = free(draft).min(PER_STEP_MAX);
            if free > 0 {
                let mut ready = ready(draft, LOOK_MAX);
                ready.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.id.cmp(&b.id)));
                dispatch_while_free(draft, &ready, free, false);
            }
        }
        Outlook::Probe | Outlook::Ask => {
            let probe = !draft.record().breaker.is_closed();
            let free = free(draft).min(1);
            if free > 0 {
                // The probe costs least where least was spent.
                let mut ready = ready(draft, usize::MAX);
                ready.sort_by(|a, b| a.prompts.cmp(&b.prompts).then_with(|| a.id.cmp(&b.id)));
                dispatch_while_free(draft, &ready, free, probe);
            }
        }
        Outlook::Checking(_)
        | Outlook::Unconfigured
        | Outlook::Paused
        | Outlook::Spent(_)
        | Outlook::Held(_)
        | Outlook::Shut(..)
        | Outlook::Probing => {}
    }
}

fn ready(draft: &Draft<'_>, max: usize) -> Vec<Ready> {
    draft.ready(max).map(Ready::of).collect()
}

/// How many more agents may run.
fn free(draft: &Draft<'_>) -> u32 {
    let running = u32::try_from(draft.running()).unwrap_or(u32::MAX);
    draft.record().policy.agents_max.saturating_sub(running)
}

/// What the order of dispatch depends on.
struct Ready {
    id: BeadId,
    priority: Priority,
    prompts: u32,
}

impl Ready {
    fn of(bead: &Bead) -> Self {
        let (id, priority) = (bead.id.clone(), bead.priority);
        Self {
            id,
            priority,
            prompts: bead.numbers.prompts,
        }
    }
}

fn dispatch_while_free(draft: &mut Draft<'_>, ready: &[Ready], mut free: u32, probe: bool) {
    for bead in ready {
        if free == 0 {
            return;
        }
        if dispatch(draft, &bead.id, probe) {
            free -= 1;
        }
    }
}

/// Dispatches one bead; `false` when it had reached a limit and was given up instead.
fn dispatch(draft: &mut Draft<'_>, id: &BeadId, probe: bool) -> bool {
    let now = draft.now();
    let policy = draft.record().policy.clone();
    let Some(bead) = draft.bead(id) else {
        return false;
    };
    if let Some(limit) = settle::limit_reached(&policy, &bead.numbers) {
        // The bead exists, so this is never refused.
        let _ = settle::fail_bead(draft, id, &limit);
        return false;
    }
    if control::park_if_spent(draft, id) {
        return false;
    }
    let Some(order) = order_for(draft, id) else {
        return false;
    };
    let (no, agent, branch) = (order.dispatch.no, order.agent.clone(), order.branch.clone());
    let Ok(bead) = draft.bead_mut(id) else {
        return false;
    };
    bead.numbers.take_no(no);
    bead.numbers.prompts = bead.numbers.prompts.saturating_add(1);
    bead.branch = Some(branch);
    let run = Run {
        agent: agent.clone(),
        no,
        sent_at: now,
        probe,
        nudged_after: None,
        told_after: None,
        is_over: false,
        output: false,
        usage: Usage::default(),
    };
    bead.phase = Phase::Dispatched {
        run,
        start: Deadline::after(now, policy.start_deadline_ms),
    };
    // Until a session starts, one dispatch at a time asks a town that has refused.
    if draft.record().hold.is_some()
        && let Some(hold) = &mut draft.record_mut().hold
    {
        hold.until = Deadline::after(now, HOLD_MS);
    }
    if probe {
        let dispatch = DispatchId {
            bead: id.clone(),
            no,
        };
        draft
            .record_mut()
            .breaker
            .begin_probe(dispatch, now, &policy.pace());
    }
    let mut event = NewEvent::of(EventType::Dispatched, id);
    event.agent = Some(&agent);
    event.new = Some(no.to_string());
    draft.event(event);
    draft.effect(Effect::Dispatch(Box::new(order)));
    true
}

fn order_for(draft: &Draft<'_>, id: &BeadId) -> Option<DispatchOrder> {
    let record = draft.record();
    let bead = draft.bead(id)?;
    let agent = draft.agent(bead.hooked_to()?)?;
    let branch = format!(
        "gt/{}/{}",
        branch_part(&agent.name, agent.id.as_str()),
        bead.id
    );
    let base_branch = bead.branch.clone().filter(|last| *last != branch);
    Some(DispatchOrder {
        dispatch: DispatchId {
            bead: bead.id.clone(),
            no: bead.numbers.next_no(draft.numbers_from()),
        },
        agent: agent.id.clone(),
        agent_name: agent.name.clone(),
        identity: agent.identity.clone(),
        role: agent.role,
        title: bead.title.clone(),
        body: bead.body.clone(),
        branch,
        base_branch,
        resume: bead.resume.clone(),
        failures: bead.numbers.failures,
        prompts: bead.numbers.prompts.saturating_add(1),
        repeats_max: record.policy.repeats_max,
        config: record.config.clone()?,
        idle_grace_ms: record.policy.idle_grace_ms,
        start_deadline_ms: record.policy.start_deadline_ms,
        heartbeat_ms: record.policy.heartbeat_ms(),
    })
}

/// An agent's name as a part of a branch: letters, digits and dashes; its id where nothing is left.
fn branch_part(name: &str, id: &str) -> String {
    let kept: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    let kept = kept.trim_matches('-');
    if kept.is_empty() {
        id.to_owned()
    } else {
        kept.to_owned()
    }
}

impl Rig {
    /// The class of what shuts this rig: its own breaker, or the town's word.
    pub fn shut_by(&self) -> Option<Class> {
        let held = self.record().hold.as_ref();
        let of_town = held.and_then(|hold| hold.refusal.class());
        self.record().breaker.class().or(of_town)
    }

    /// Whether the gate would let a ready bead of this rig pass right now; for views.
    pub fn is_dispatching(&self, now: Timestamp) -> bool {
        matches!(
            outlook_of(self.record(), now),
            Outlook::Open | Outlook::Probe | Outlook::Ask
        )
    }
}
