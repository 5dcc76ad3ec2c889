//! Everything that a rig can be told, everything that it can ask for, and how it answers.
//!
//! Owns the vocabulary of `Rig::step`. Knows no transport: the runtime maps its messages to it.

use crate::{
    Agent, AgentEvent, AgentId, Bead, BeadEvent, BeadId, BeadType, Budget, DispatchId, DoneReport,
    Effect, Failure, Incarnation, Mail, MailId, NewMail, Notice, PauseMode, Policy, Priority,
    Refusal, Report, ReviewEntry, ReviewId, ReviewVerdict, Rig, RigConfig, RigRecord, Role, Status,
    Timestamp, TurnReport, TurnVerdict, Usage, Who,
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
    /// Since when the oldest of the tools runs that run right now: the progress clock stands still.
    pub tool_since: Option<Timestamp>,
    /// How often the newest tool call was made in a row, word by word the same.
    pub repeats: u32,
    /// Whether the model has written anything since the start.
    pub output: bool,
    /// Usage of the dispatch so far.
    pub usage: Usage,
}

/// The result of checks that need no session.
#[derive(Clone, Debug, PartialEq)]
pub enum Preflight {
    /// Credentials, program, model and git are there.
    Passed,
    /// One of them is not.
    Failed(Failure),
    /// A scope that is shared with other rigs is shut; the town says when to ask again.
    Held {
        /// Which, and why.
        refusal: Refusal,
        /// When to ask again, at the latest.
        until: Timestamp,
    },
}

/// Everything that a rig can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Its configuration, new or changed. Its town is the first one for ever.
    Configure(RigConfig),
    /// Its policy.
    SetPolicy(Policy),
    /// What its work may cost.
    SetBudget {
        /// The new budget.
        budget: Budget,
        /// Who sets it.
        by: Who,
    },
    /// Hold dispatch back until a resume.
    Pause {
        /// How much is held back.
        mode: PauseMode,
        /// Who asks.
        by: Who,
        /// Why.
        reason: Option<String>,
    },
    /// Let dispatch go on.
    Resume {
        /// Who asks.
        by: Who,
    },
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
    /// Find the agent for a role, or make one: witness and refinery are singletons, of the others
    /// it is one without a bead on its hook.
    GetOrCreateAgent {
        /// What it is for.
        role: Role,
    },
    /// Remove an agent; its bead is unhooked, a terminal one stays as it is.
    DeleteAgent {
        /// Which agent.
        agent: AgentId,
    },
    /// What an agent saves for itself; it replaces what was saved before.
    Checkpoint {
        /// Whose.
        agent: AgentId,
        /// Any data; `None` forgets it.
        data: Option<serde_json::Value>,
    },
    /// A mail to an agent of this rig.
    SendMail(NewMail),
    /// The agent reads its undelivered mail, which is delivered by that.
    ReadMail {
        /// Whose mail.
        agent: AgentId,
    },
    /// A line for an agent's own event log.
    AppendAgentEvent {
        /// Whose log.
        agent: AgentId,
        /// What happened, in the agent's word.
        event_type: String,
        /// Details.
        data: serde_json::Map<String, serde_json::Value>,
    },
    /// Submit a branch to review; the bead stays where it is.
    SubmitReview {
        /// Who submits.
        agent: AgentId,
        /// The bead that the branch belongs to.
        bead: BeadId,
        /// What is submitted.
        report: DoneReport,
    },
    /// A review came to its end.
    CompleteReview {
        /// Which one.
        review: ReviewId,
        /// How.
        verdict: ReviewVerdict,
        /// A word on it.
        message: String,
        /// The commit that it was merged as.
        commit: Option<String>,
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
    /// The rig itself is deleted: what runs is stopped, and nothing is begun any more. Its records
    /// stay, and so does its clone: work is never thrown away.
    DeleteRig,
    /// Start an agent: what is on its hook, or else a new bead that is hooked to it. Whether it is
    /// dispatched is the gate's business, as always.
    StartAgent {
        /// Which agent.
        agent: AgentId,
        /// What to do where nothing is on its hook.
        new: Box<NewBead>,
    },
    /// A person's word for the agent's live session: it is prompted with it after its turn.
    Message {
        /// Which agent.
        agent: AgentId,
        /// The word.
        prompt: String,
    },
    /// Give up a bead on a person's word.
    Cancel {
        /// Which bead.
        bead: BeadId,
        /// Who asks.
        by: Who,
    },
    /// Try a failed bead again on a person's word.
    Retry {
        /// Which bead.
        bead: BeadId,
        /// Who asks.
        by: Who,
    },
    /// A person resets the rig's breaker, and those of the shared scopes that it uses.
    ResetBreaker {
        /// Who asks.
        by: Who,
    },
    /// A person has seen an escalation: it is silent from now on.
    Acknowledge {
        /// Which escalation.
        bead: BeadId,
        /// Who has seen it.
        by: Who,
    },
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
    },
    /// The town has room for this rig: it may ask again.
    Offered,
    /// The town tells about something that is none of this rig's dispatches.
    Noticed {
        /// The notice's number; a repeated one changes nothing.
        no: u64,
        /// What it is about.
        notice: Notice,
    },
    /// A message of this rig could not be delivered, however often it was tried.
    Undeliverable {
        /// What kind of message.
        what: &'static str,
        /// Why.
        reason: String,
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
    /// Mail as it was before its delivery, oldest first.
    Mail(Vec<Mail>),
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
    /// No such review entry.
    #[error("no review {0}")]
    NoReview(ReviewId),
    /// The report is of a dispatch that is not current.
    #[error("dispatch {0} is not current")]
    Stale(DispatchId),
    /// While the agent has a live dispatch, the report has to name it.
    #[error("agent {0} has a live dispatch: name it in dispatch_id")]
    DispatchRequired(AgentId),
    /// The state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// The rig was deleted; only its tombstone is left.
    #[error("Rig not found")]
    Deleted,
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
    /// An agent is gone.
    AgentDeleted(AgentId),
    /// A review entry, new or changed.
    Review(Box<ReviewEntry>),
    /// A mail, new or delivered.
    Mail(Box<Mail>),
    /// A mail that nobody is there to read is gone.
    MailDeleted {
        /// Whose mail.
        to: AgentId,
        /// Which one.
        id: MailId,
    },
    /// An event to append.
    Event(Box<BeadEvent>),
    /// A line to append to an agent's own log.
    AgentEvent(Box<AgentEvent>),
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

impl Step {
    /// The dispatches that leave with this step.
    pub fn dispatches(&self) -> impl Iterator<Item = &DispatchId> {
        self.effects.iter().filter_map(|effect| match effect {
            Effect::Dispatch(order) => Some(&order.dispatch),
            _ => None,
        })
    }

    /// The rig's own record as this step leaves it.
    pub fn record<'s>(&'s self, before: &'s Rig) -> &'s RigRecord {
        let changed = self.changes.iter().find_map(|change| match change {
            Change::Rig(record) => Some(&**record),
            _ => None,
        });
        changed.unwrap_or_else(|| before.record())
    }
}
