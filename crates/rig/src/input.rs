//! Everything that a rig can be told, everything that it can ask for, and how it answers.
//!
//! Owns the vocabulary of `Rig::step`. Knows no transport: the runtime maps its messages to it.

use serde::{Deserialize, Serialize};

use crate::{
    Agent, AgentId, Bead, BeadEvent, BeadId, BeadType, DispatchId, DoneReport, Failure,
    Incarnation, Outcome, Policy, Priority, RigConfig, Role, Status, Timestamp, TurnReport,
    TurnVerdict, Usage,
};

/// What a step needs from outside: the time, and randomness for ids and jitter.
#[derive(Clone, Copy, Debug)]
pub struct Env {
    /// Now.
    pub now: Timestamp,
    /// Fresh random bits for this step alone.
    pub nonce: u128,
}

/// A bead to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBead {
    /// Its kind.
    pub kind: BeadType,
    /// One line.
    pub title: String,
    /// The text of the work.
    pub body: Option<String>,
    /// How urgent.
    pub priority: Priority,
    /// Free labels.
    pub labels: Vec<String>,
    /// Free data.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Who it is given to.
    pub assignee: Option<AgentId>,
    /// Its convoy.
    pub convoy_id: Option<String>,
}

impl NewBead {
    /// An issue with a title and nothing else.
    pub fn issue(title: impl Into<String>) -> Self {
        Self {
            kind: BeadType::Issue,
            title: title.into(),
            body: None,
            priority: Priority::Medium,
            labels: Vec::new(),
            metadata: serde_json::Map::new(),
            assignee: None,
            convoy_id: None,
        }
    }
}

/// How an external caller says that a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It completed; what it left is judged.
    Completed,
    /// It failed.
    Failed {
        /// Why, for people.
        reason: Option<String>,
    },
}

/// Life signs of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// Which life of the container.
    pub incarnation: Incarnation,
    /// The newest model or tool event since the start, if any; a beat alone is no progress.
    pub progress_at: Option<Timestamp>,
    /// Whether a tool runs right now: the progress clock stands still.
    pub in_tool: bool,
    /// Whether the model has written anything since the start.
    pub output: bool,
    /// Usage of the dispatch so far.
    pub usage: Usage,
}

/// How a dispatch ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// How it ended.
    pub outcome: Outcome,
    /// The session, where one began.
    pub session: Option<String>,
    /// Whether the model has written anything.
    pub output: bool,
    /// Usage of the dispatch.
    pub usage: Usage,
}

/// The result of checks that need no session.
#[derive(Clone, Debug, PartialEq)]
pub enum Preflight {
    /// Credentials, program, model and git are there.
    Passed,
    /// One of them is not.
    Failed(Failure),
}

/// Everything that a rig can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Its configuration, new or changed.
    Configure(RigConfig),
    /// Its policy.
    SetPolicy(Policy),
    /// Make a bead.
    CreateBead(NewBead),
    /// Make a bead, find or make an idle polecat, and hook it: one step.
    Sling(NewBead),
    /// Register an agent.
    RegisterAgent {
        /// What it is for.
        role: Role,
        /// Its name.
        name: String,
        /// Unique in the rig.
        identity: String,
    },
    /// Put a bead onto an agent's hook.
    Hook {
        /// Whose hook.
        agent: AgentId,
        /// Which bead.
        bead: BeadId,
    },
    /// Take whatever is on the agent's hook off it.
    Unhook {
        /// Whose hook.
        agent: AgentId,
    },
    /// Set a status by hand.
    SetStatus {
        /// Which bead.
        bead: BeadId,
        /// The wanted status.
        status: Status,
        /// Who asks, if an agent does.
        by: Option<AgentId>,
    },
    /// Close a bead by hand.
    Close {
        /// Which bead.
        bead: BeadId,
        /// Who asks, if an agent does.
        by: Option<AgentId>,
    },
    /// Remove a bead.
    DeleteBead {
        /// Which bead.
        bead: BeadId,
    },
    /// Give up a bead on a person's word.
    Cancel {
        /// Which bead.
        bead: BeadId,
    },
    /// Try a failed bead again on a person's word.
    Retry {
        /// Which bead.
        bead: BeadId,
    },
    /// A person resets the breaker.
    ResetBreaker,
    /// An agent's life sign through the API.
    Touch {
        /// Which agent; an unknown one has no effect.
        agent: AgentId,
    },
    /// The agent says that it is done.
    Done {
        /// Which agent.
        agent: AgentId,
        /// Which dispatch, where the caller knows one.
        dispatch: Option<DispatchId>,
        /// What it says.
        report: DoneReport,
    },
    /// An external caller says that the agent's session ended.
    Completed {
        /// Which agent.
        agent: AgentId,
        /// Which dispatch, where the caller knows one.
        dispatch: Option<DispatchId>,
        /// How.
        completion: Completion,
    },
    /// Something needs a person.
    Escalate(NewBead),
    /// The container began the session.
    AgentStarted {
        /// Which dispatch.
        dispatch: DispatchId,
        /// Which life of the container.
        incarnation: Incarnation,
        /// The session's id.
        session: String,
    },
    /// Life signs of a session.
    Heartbeat(Beat),
    /// A turn completed and stayed quiet; may the session end?
    TurnEnded {
        /// Which dispatch.
        dispatch: DispatchId,
        /// What the turn left.
        report: TurnReport,
    },
    /// A dispatch ended; its session is proven over.
    AgentDone(Report),
    /// A container began a life: what it still runs, and what it has yet to report.
    ContainerStarted {
        /// The new life.
        incarnation: Incarnation,
        /// Dispatches whose sessions it runs.
        live: Vec<DispatchId>,
        /// Dispatches whose outcomes it will repeat.
        unreported: Vec<DispatchId>,
        /// The id of the credentials in its environment, if there are any; no secret.
        credential: Option<String>,
    },
    /// Checks that need no session are through.
    PreflightDone {
        /// The check's number; another one is out of date.
        no: u64,
        /// The result.
        result: Preflight,
    },
    /// The rig's alarm.
    Alarm,
    /// The clock jumped, or the machine slept: leases start again once.
    ClockJumped,
}

/// What a container needs to run one dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DispatchOrder {
    /// The fence.
    pub dispatch: DispatchId,
    /// Who works.
    pub agent: AgentId,
    /// Its name.
    pub agent_name: String,
    /// Its identity.
    pub identity: String,
    /// Its role.
    pub role: Role,
    /// The bead's title.
    pub title: String,
    /// The bead's text.
    pub body: Option<String>,
    /// The branch to work on.
    pub branch: String,
    /// The branch that it starts from when it does not exist yet, if not the default one.
    pub base_branch: Option<String>,
    /// The session to continue, where the last dispatch was lost.
    pub resume: Option<String>,
    /// Which try this is, for the prompt: charged failures so far.
    pub failures: u32,
    /// The rig's configuration.
    pub config: RigConfig,
    /// How long a turn has to be quiet before it is judged, in milliseconds.
    pub idle_grace_ms: i64,
    /// How long the start may take, in milliseconds.
    pub start_deadline_ms: i64,
    /// How far heartbeats may be apart, in milliseconds.
    pub heartbeat_ms: i64,
}

/// Everything that a rig can ask for. Each is kept until its receiver has taken it durably.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Run an agent.
    Dispatch(Box<DispatchOrder>),
    /// Make this dispatch be over, prove it, and report it; a dispatch never seen is refused for
    /// good. Also the way to ask what became of one.
    StopAgent {
        /// The fence.
        dispatch: DispatchId,
        /// Whose container.
        town: crate::TownId,
        /// How long a running turn may go on, in milliseconds.
        grace_ms: i64,
        /// Why, for the log.
        reason: String,
    },
    /// Check credentials, program, model and git without a session.
    Preflight {
        /// The check's number, to be repeated in the answer.
        no: u64,
        /// What to check.
        config: RigConfig,
    },
    /// The breaker opened: tell the container and subscribers.
    BreakerTripped {
        /// Whose container.
        town: crate::TownId,
        /// Why.
        failure: Failure,
        /// When the next probe may be made.
        next_probe_at: Timestamp,
    },
    /// The breaker closed.
    BreakerClosed {
        /// Whose container.
        town: crate::TownId,
    },
}

/// How a rig answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Accepted; nothing to tell.
    Accepted,
    /// The bead as it is now.
    Bead(Box<Bead>),
    /// The bead and the agent it was slung to.
    Slung {
        /// The bead.
        bead: Box<Bead>,
        /// The agent.
        agent: Box<Agent>,
    },
    /// The agent.
    Agent(Box<Agent>),
    /// The same report of the same dispatch came before; nothing changed.
    Repeated,
    /// What to do after the turn.
    Turn(TurnVerdict),
}

/// Why a rig refused an input. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No such bead.
    #[error("no bead {0}")]
    NoBead(BeadId),
    /// No such agent.
    #[error("no agent {0}")]
    NoAgent(AgentId),
    /// The report is of a dispatch that is not current.
    #[error("dispatch {0} is not current")]
    Stale(DispatchId),
    /// While the agent has a live dispatch, the report has to name it.
    #[error("agent {0} has a live dispatch: name it in dispatch_id")]
    DispatchRequired(AgentId),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// An identity that another agent has.
    #[error("identity {0} is taken in this rig")]
    IdentityTaken(String),
}

/// One changed record.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The rig's own record.
    Rig(Box<crate::RigRecord>),
    /// A bead, new or changed.
    Bead(Box<Bead>),
    /// A bead is gone.
    BeadDeleted(BeadId),
    /// An agent, new or changed.
    Agent(Box<Agent>),
    /// An event to append.
    Event(Box<BeadEvent>),
}

/// What a step wants: one atomic batch, and the answer that may leave after it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Records to write; `Rig::apply` puts them into memory.
    pub changes: Vec<Change>,
    /// Messages to send once the changes are durable.
    pub effects: Vec<Effect>,
    /// The answer.
    pub reply: Reply,
}
