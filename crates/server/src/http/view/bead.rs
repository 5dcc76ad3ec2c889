//! A bead and its attempts on the wire.

use rig::{
    AgentId, Attempt, Bead, BeadId, BeadType, DispatchId, LastFailure, Outcome, Phase, PhaseAt,
    Priority, Resolution, Rig, Status, Timestamp, WaitsOn,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{budget::UsageView, time::text};

/// What of the rig shows in each of its beads, as of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'r> {
    rig: &'r Rig,
    now: Timestamp,
}

impl<'r> Frame<'r> {
    pub(crate) fn of(rig: &'r Rig, now: Timestamp) -> Self {
        Self { rig, now }
    }

    /// The time that `explain` names, where a clock and no person ends the wait. A town that is
    /// paused is asked again now and then, and its answer is known.
    fn next_attempt_at(self, bead: &Bead, waiting_on: Option<WaitsOn>) -> Option<Timestamp> {
        match waiting_on {
            None | Some(WaitsOn::Paused) => None,
            Some(_) => self.rig.explain(bead, self.now).at,
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
    waiting_on: Option<WaitsOn>,
    last_failure: Option<Value>,
    dispatch_id: Option<String>,
    session_id: Option<&'a str>,
    usage: UsageView,
    dispatches: u64,
    prompts: u32,
    branch: Option<&'a str>,
    commit: Option<&'a str>,
    result: Option<Resolution>,
    reason: Option<&'a str>,
}

impl<'a> BeadView<'a> {
    pub(crate) fn of(bead: &'a Bead, frame: Frame<'_>) -> Self {
        let waiting_on = frame.rig.waits_on(bead, frame.now);
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
            attempts_max: frame.rig.policy().attempts_max,
            next_attempt_at: frame.next_attempt_at(bead, waiting_on).map(text),
            waiting_on,
            last_failure: bead.last_failure.as_ref().map(failure),
            dispatch_id: bead.dispatch_id().map(|id| id.to_string()),
            session_id: session(&bead.phase),
            usage: bead.usage.into(),
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
pub(crate) fn bead(bead: &Bead, frame: Frame<'_>) -> Value {
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
        "usage": UsageView::from(attempt.usage),
        "phases": attempt.phases.iter().map(phase).collect::<Vec<_>>(),
        "last_output": attempt.last_output,
    })
}

fn phase(entered: &PhaseAt) -> Value {
    json!({ "phase": entered.stage, "at": text(entered.at) })
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
