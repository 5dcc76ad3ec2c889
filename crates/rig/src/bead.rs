//! A bead: one piece of work, in exactly one state.
//!
//! Owns the state's shape; illegal combinations (a closed bead with a hook, an idle agent with a
//! live session) cannot be written down. Status, hook and assignee of the API are views of it.
//! Knows no rule of movement: those are in `step`.

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, Alert, BeadId, Deadline, DispatchId, DoneReport, Failure, Incarnation, LastFailure,
    Outcome, PhaseAt, ReviewId, Timestamp, Usage,
};

/// What kind of record a bead is. Only `Issue` and `MergeRequest` are ever dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BeadType {
    /// A piece of work.
    Issue,
    /// A message that is kept as a bead.
    Message,
    /// Something that needs a person.
    Escalation,
    /// Work on a merge.
    MergeRequest,
}

/// How urgent a bead is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// When nothing else waits.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Before medium.
    High,
    /// Before everything.
    Critical,
}

/// The API's view of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not begun.
    Open,
    /// Hooked, running, waiting to run again, or held by hand.
    InProgress,
    /// Waiting for a review.
    InReview,
    /// Completed.
    Closed,
    /// Given up.
    Failed,
}

impl Status {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::InProgress => "in_progress",
            Status::InReview => "in_review",
            Status::Closed => "closed",
            Status::Failed => "failed",
        }
    }
}

/// Why a bead is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// The agent worked; a commit stands on the branch.
    Worked,
    /// The agent answered in text, as the bead expected.
    Answered,
    /// The agent only ever answered in text although work was expected.
    TextOnly,
    /// A person or an agent closed it by hand.
    ByHand,
    /// An escalation whose cause is gone.
    Healed,
}

/// One dispatch under way: what every phase with a session has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Who works.
    pub agent: AgentId,
    /// The dispatch's number; together with the bead it fences every report.
    pub no: u64,
    /// When the dispatch was sent.
    pub sent_at: Timestamp,
    /// Whether it is the breaker's probe.
    #[serde(default)]
    pub probe: bool,
    /// The turn after which it was nudged, if it was; one nudge per dispatch.
    #[serde(default)]
    pub nudged_after: Option<u32>,
    /// The turn after which the bead's first message was handed out, until it was read.
    #[serde(default)]
    pub told_after: Option<u32>,
    /// The session was told to end: it reads no further message.
    #[serde(default)]
    pub is_over: bool,
    /// Whether the model has written anything yet.
    #[serde(default)]
    pub output: bool,
    /// Usage of this dispatch so far.
    #[serde(default)]
    pub usage: Usage,
}

/// The clocks of a live session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// The session's id in its server.
    pub session: String,
    /// Which life of the container runs it.
    pub incarnation: Incarnation,
    /// When it reported its start.
    pub started_at: Timestamp,
    /// The process lives: renewed by each heartbeat.
    pub lease: Deadline,
    /// The work moves: renewed by model and tool events, never by a heartbeat alone.
    pub progress: Deadline,
    /// When it is nudged if nothing moves; none once that was done, until something moves again.
    #[serde(default)]
    pub nudge: Option<Deadline>,
    /// While a tool runs: how long that may go on. The progress clock stands still meanwhile.
    #[serde(default)]
    pub tool: Option<Deadline>,
    /// The longest that it may run.
    pub total: Deadline,
}

/// What made a session end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself.
    SessionOver,
    /// An external caller reported it complete; it is ended for that and judged by what it left.
    Completed,
    /// The agent said that it is done.
    Done(DoneReport),
    /// A deadline passed. A completion that arrives all the same wins.
    Expired(Failure),
    /// It was reported as failed; nothing outweighs that.
    Reported(Failure),
    /// A person or an agent gave the bead another end.
    Ordered(Order),
}

/// An end that a bead is given by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Close it.
    Close,
    /// Fail it as cancelled.
    Cancel,
    /// Take it off its hook; it is open again.
    Unhook,
    /// Remove it.
    Delete,
}

/// The end of a session: the agent's word and the proof that it is over meet here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// What made it end.
    pub cause: Cause,
    /// The session's id, where it had begun.
    pub session: Option<String>,
    /// How it ended, once it is proven over.
    pub over: Option<Outcome>,
    /// How long the other half is waited for.
    pub grace: Deadline,
    /// When the dispatch entered each phase of its life, for the attempt log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseAt>,
    /// The end of what it last wrote, for the attempt log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output: Option<String>,
}

impl Ending {
    pub(crate) fn of(cause: Cause, session: Option<String>, grace: Deadline) -> Self {
        Self {
            cause,
            session,
            over: None,
            grace,
            phases: Vec::new(),
            last_output: None,
        }
    }
}

/// A wait that time does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Park {
    /// The bead has used up its own budget.
    Budget,
}

/// The one state of a bead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Phase {
    /// Not begun, not hooked.
    Open,
    /// Set in progress by hand; never dispatched.
    Held,
    /// On an agent's hook, not dispatched yet.
    Hooked {
        /// Whose hook.
        agent: AgentId,
    },
    /// Sent to the container; no word of a session yet.
    Dispatched {
        /// The dispatch.
        run: Run,
        /// When the start is given up.
        start: Deadline,
    },
    /// A session works on it.
    Working {
        /// The dispatch.
        run: Run,
        /// The session and its clocks.
        live: Live,
    },
    /// The session is being ended.
    Ending {
        /// The dispatch.
        run: Run,
        /// Both halves of the end.
        ending: Ending,
    },
    /// Between two dispatches.
    Waiting {
        /// Whose hook.
        agent: AgentId,
        /// Not before this.
        until: Deadline,
        /// What only a person ends; without it time alone does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        park: Option<Park>,
    },
    /// Its work waits for a review.
    InReview {
        /// Its entry in the review queue, which holds everything else about it.
        review: ReviewId,
    },
    /// Completed. Terminal.
    Closed {
        /// When.
        at: Timestamp,
        /// Why.
        resolution: Resolution,
    },
    /// Given up. Terminal but for a person's retry.
    Failed {
        /// When.
        at: Timestamp,
        /// One clear sentence.
        reason: String,
    },
}

/// The three numbers of a bead. They survive re-hooks, other agents and restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    /// The number of the newest dispatch; only grows.
    pub dispatch_no: u64,
    /// Numbers up to that one that were left out, because they may have been given out before a
    /// backup was restored.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: u64,
    /// Charged failures in a row; the API's `attempts`.
    pub failures: u32,
    /// Prompts paid for, nudges included.
    pub prompts: u32,
    /// Recorded retries by a person; each grants `prompts_max` more prompts.
    pub retries: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(number: &u64) -> bool {
    *number == 0
}

impl Numbers {
    /// Dispatches so far.
    pub fn dispatches(&self) -> u64 {
        self.dispatch_no.saturating_sub(self.left_out)
    }

    pub(crate) fn next_no(&self, numbers_from: u64) -> u64 {
        self.dispatch_no.saturating_add(1).max(numbers_from)
    }

    pub(crate) fn take_no(&mut self, no: u64) {
        let left_out = no.saturating_sub(self.dispatch_no).saturating_sub(1);
        self.left_out = self.left_out.saturating_add(left_out);
        self.dispatch_no = no;
    }
}

/// One line of a bead's attempt log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The dispatch's number.
    pub no: u64,
    /// Who worked.
    pub agent: AgentId,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// The session, where one began.
    pub session: Option<String>,
    /// When its outcome was settled.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// What made it end, so that the same word again gets the same answer.
    pub cause: Cause,
    /// What it cost.
    pub usage: Usage,
    /// When it entered each phase of its life.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseAt>,
    /// The end of what it last wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_output: Option<String>,
}

/// How many attempts a bead keeps; older ones are dropped from the log, never from the numbers.
const ATTEMPTS_KEPT: usize = 50;

/// One piece of work. What it has nothing of is not stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bead {
    /// Its id.
    pub id: BeadId,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: BeadType,
    /// One line.
    pub title: String,
    /// The text of the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// How urgent.
    pub priority: Priority,
    /// Free labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Free data; `expects: "text"` makes an answer a full result.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Who it was last given to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<AgentId>,
    /// Its convoy, kept for clients that group beads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub convoy_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Its one state.
    pub phase: Phase,
    /// Its three numbers.
    pub numbers: Numbers,
    /// Why its last failed attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// The branch that holds its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The newest commit with its work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The session to continue at the next dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// What people told its agent and no turn has read yet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
    /// For an escalation: whether it was seen, and when people are told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// All usage so far.
    #[serde(default, skip_serializing_if = "Usage::is_none")]
    pub usage: Usage,
    /// The latest attempts, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
}

impl Bead {
    /// The API's view of the phase.
    pub fn status(&self) -> Status {
        match self.phase {
            Phase::Open => Status::Open,
            Phase::Held
            | Phase::Hooked { .. }
            | Phase::Dispatched { .. }
            | Phase::Working { .. }
            | Phase::Ending { .. }
            | Phase::Waiting { .. } => Status::InProgress,
            Phase::InReview { .. } => Status::InReview,
            Phase::Closed { .. } => Status::Closed,
            Phase::Failed { .. } => Status::Failed,
        }
    }

    /// Whose hook it is on, if it is on one.
    pub fn hooked_to(&self) -> Option<&AgentId> {
        match &self.phase {
            Phase::Hooked { agent } | Phase::Waiting { agent, .. } => Some(agent),
            Phase::Dispatched { run, .. }
            | Phase::Working { run, .. }
            | Phase::Ending { run, .. } => Some(&run.agent),
            Phase::Open
            | Phase::Held
            | Phase::InReview { .. }
            | Phase::Closed { .. }
            | Phase::Failed { .. } => None,
        }
    }

    /// The dispatch under way, if there is one.
    pub fn run(&self) -> Option<&Run> {
        match &self.phase {
            Phase::Dispatched { run, .. }
            | Phase::Working { run, .. }
            | Phase::Ending { run, .. } => Some(run),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn run_mut(&mut self) -> Option<&mut Run> {
        match &mut self.phase {
            Phase::Dispatched { run, .. }
            | Phase::Working { run, .. }
            | Phase::Ending { run, .. } => Some(run),
            _ => None,
        }
    }

    /// The id of the dispatch under way.
    pub fn dispatch_id(&self) -> Option<DispatchId> {
        self.run().map(|run| DispatchId {
            bead: self.id.clone(),
            no: run.no,
        })
    }

    /// Closed or failed: only a recorded human command changes it again.
    pub fn is_terminal(&self) -> bool {
        matches!(self.phase, Phase::Closed { .. } | Phase::Failed { .. })
    }

    /// Whether the gate has to be asked for it.
    pub fn is_ready(&self, now: Timestamp) -> bool {
        match &self.phase {
            Phase::Hooked { .. } => true,
            Phase::Waiting {
                until, park: None, ..
            } => until.is_due(now),
            _ => false,
        }
    }

    /// Whether records of its kind are work at all.
    pub fn is_work(&self) -> bool {
        matches!(self.kind, BeadType::Issue | BeadType::MergeRequest)
    }

    /// Whether an answer in text is all that is asked for.
    pub fn expects_text(&self) -> bool {
        self.metadata
            .get("expects")
            .and_then(serde_json::Value::as_str)
            == Some("text")
    }

    /// Adds to the bounded attempt log.
    pub(crate) fn log_attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        let surplus = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        self.attempts.drain(..surplus);
    }
}
