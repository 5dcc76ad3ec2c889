//! A bead and its attempts on the wire.

use rig::{
    AgentId, Attempt, Bead, BeadId, BeadType, BreakerState, DispatchId, LastFailure, Outcome,
    Phase, Priority, Resolution, Rig, Status, Timestamp, Usage,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::time::text;

/// What of the rig shows in each of its beads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    attempts_max: u32,
    is_configured: bool,
    next_probe_at: Option<Timestamp>,
}

impl Frame {
    pub(crate) fn of(rig: &Rig) -> Self {
        let next_probe_at = match &rig.record().breaker.state {
            BreakerState::Open { next_probe, .. } => Some(next_probe.at),
            BreakerState::Closed | BreakerState::HalfOpen { .. } => None,
        };
        Self {
            attempts_max: rig.policy().attempts_max,
            is_configured: rig.record().config.is_some(),
            next_probe_at,
        }
    }

    /// When a bead without a session may be dispatched next, as far as a clock decides it.
    fn next_attempt_at(self, phase: &Phase) -> Option<Timestamp> {
        match phase {
            // No clock decides it: the rig has to be configured first.
            _ if !self.is_configured => None,
            Phase::Hooked { .. } => self.next_probe_at,
            Phase::Waiting { until, .. } => Some(
                self.next_probe_at
                    .map_or(until.at, |probe| probe.max(until.at)),
            ),
            _ => None,
        }
    }
}

/// A bead.
#[derive(Serialize)]
pub(crate) struct BeadView<'a> {
    id: &'a BeadId,
    #[serde(rename = "type")]
    kind: BeadType,
    status: Status,
    title: &'a str,
    body: Option<&'a str>,
    assignee_agent_id: Option<&'a AgentId>,
    convoy_id: Option<&'a str>,
    molecule_id: (),
    priority: Priority,
    labels: &'a [String],
    metadata: &'a Map<String, Value>,
    created_at: String,
    updated_at: String,
    closed_at: Option<String>,
    attempts: u32,
    attempts_max: u32,
    next_attempt_at: Option<String>,
    last_failure: Option<Value>,
    dispatch_id: Option<String>,
    session_id: Option<&'a str>,
    usage: Usage,
    dispatches: u64,
    prompts: u32,
    branch: Option<&'a str>,
    commit: Option<&'a str>,
    result: Option<Resolution>,
    reason: Option<&'a str>,
}

impl<'a> BeadView<'a> {
    pub(crate) fn of(bead: &'a Bead, frame: Frame) -> Self {
        let (closed_at, result, reason) = match &bead.phase {
            Phase::Closed { at, resolution } => (Some(text(*at)), Some(*resolution), None),
            Phase::Failed { reason, .. } => (None, None, Some(reason.as_str())),
            _ => (None, None, None),
        };
        Self {
            id: &bead.id,
            kind: bead.kind,
            status: bead.status(),
            title: &bead.title,
            body: bead.body.as_deref(),
            assignee_agent_id: bead.assignee.as_ref(),
            convoy_id: bead.convoy_id.as_deref(),
            molecule_id: (),
            priority: bead.priority,
            labels: &bead.labels,
            metadata: &bead.metadata,
            created_at: text(bead.created_at),
            updated_at: text(bead.updated_at),
            closed_at,
            attempts: bead.numbers.failures,
            attempts_max: frame.attempts_max,
            next_attempt_at: frame.next_attempt_at(&bead.phase).map(text),
            last_failure: bead.last_failure.as_ref().map(failure),
            dispatch_id: bead.dispatch_id().map(|id| id.to_string()),
            session_id: session(&bead.phase),
            usage: bead.usage,
            dispatches: bead.numbers.dispatches(),
            prompts: bead.numbers.prompts,
            branch: bead.branch.as_deref(),
            commit: bead.commit.as_deref(),
            result,
            reason,
        }
    }
}

/// The same as a value.
pub(crate) fn bead(bead: &Bead, frame: Frame) -> Value {
    json!(BeadView::of(bead, frame))
}

fn failure(last: &LastFailure) -> Value {
    json!({
        "class": last.failure.class,
        "phase": last.failure.stage,
        "text": last.failure.text,
        "at": text(last.at),
    })
}

/// The session that works on it, or is being ended.
fn session(phase: &Phase) -> Option<&str> {
    match phase {
        Phase::Working { live, .. } => Some(&live.session),
        Phase::Ending { ending, .. } => ending.session.as_deref(),
        _ => None,
    }
}

/// One line of a bead's attempt log.
pub(crate) fn attempt(bead: &Bead, attempt: &Attempt) -> Value {
    let dispatch = DispatchId {
        bead: bead.id.clone(),
        no: attempt.no,
    };
    json!({
        "no": attempt.no,
        "dispatch_id": dispatch.to_string(),
        "agent_id": attempt.agent,
        "session_id": attempt.session,
        "sent_at": text(attempt.sent_at),
        "ended_at": text(attempt.ended_at),
        "outcome": outcome(&attempt.outcome),
        "cause": attempt.cause,
        "usage": attempt.usage,
    })
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Completed { work, text } => {
            json!({ "kind": "completed", "commit": work.sha(), "text": text })
        }
        Outcome::Failed { failure, work } => json!({
            "kind": "failed",
            "class": failure.class,
            "phase": failure.stage,
            "text": failure.text,
            "commit": work.sha(),
        }),
        Outcome::Refused { refusal, until } => json!({
            "kind": "refused",
            "refusal": refusal,
            "text": refusal.to_string(),
            "until": text(*until),
        }),
        Outcome::NeverStarted => json!({ "kind": "never_started" }),
    }
}
