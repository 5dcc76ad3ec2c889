//! The whole protocol between rigs and containers, on one page.
//!
//! Owns the messages: who sends each, who handles it, and what it promises. Rig and container know
//! this page and not each other; a [`actix::Recipient`] is the port between them.
//!
//! | message | from → to | promise |
//! |---|---|---|
//! | [`Dispatch`] | rig → container | granted or refused durably; a number not above the highest seen is answered from the record; an [`AgentDone`] follows, always |
//! | [`StopAgent`] | rig → container | the dispatch will be over, proven, and reported; one never seen is refused for good |
//! | [`CheckRig`] | rig → container | a [`RigChecked`] follows, or the rig's deadline passes |
//! | [`NudgeAgent`] | rig → container | a session that still runs is stopped in its turn and prompted once more; each number once |
//! | [`ResetScopes`] | rig → container | the shared breakers of that configuration are looked at again at once |
//! | [`BreakerTripped`], [`BreakerClosed`] | rig → container | noted and shown; nothing is stopped by it |
//! | [`AgentStarted`] | container → rig | the session's prompt was accepted and its turn has begun |
//! | [`Heartbeat`] | container → rig | the session lives; progress is told apart from life |
//! | [`TurnEnded`] | container → rig | answered with what to do: end, or prompt once more |
//! | [`AgentDone`] | container → rig | the session is proven over and its work saved; repeated until answered |
//! | [`ContainerStarted`] | container → rig | sent at each start, before anything may be declared lost |
//! | [`RigChecked`] | container → rig | the answer to [`CheckRig`] |
//! | [`SlotOffered`] | town → rig | there is room: ask again |
//! | [`Noticed`] | town → rig | a shared breaker or the town's budget: this rig tells the people |
//! | `CheckScope` | town → its container | the scope is checked and the result told to the town, or its deadline passes |
//! | `OrderAgent` | town → its container | a session that still runs tries its gateway again, or ends |
//! | [`Alarm`] | clock → rig | at least once, never early |
//!
//! A report of a dispatch that is not current is answered [`Unheard::Stale`]: stop that session.

use actix::prelude::*;
use rig::{
    Beat, DispatchId, DispatchOrder, Failure, Incarnation, Notice, Preflight, Report, RigConfig,
    RigId, Scope, Timestamp, TurnReport, TurnVerdict, Who,
};

pub use durable::Alarm;

/// Why a container did not take a message; it is sent again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// It can not now.
    #[error("the container can not take it now: {0}")]
    Later(String),
    /// The message breaks whoever handles it: tried a few times, then it is a dead letter.
    #[error("the container broke on it: {0}")]
    Broken(String),
}

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// The dispatch is not current: nothing has changed; the session has to end.
    #[error("the dispatch is not current")]
    Stale,
    /// The rig could not be asked, or could not store it; ask again.
    #[error("the rig can not take it now: {0}")]
    Later(String),
    /// The report breaks the rig: tried a few times, then it is a dead letter.
    #[error("the rig broke on it: {0}")]
    Broken(String),
}

/// Whether the object broke on the message itself, and would again.
fn is_broken(error: &durable::Error) -> bool {
    matches!(
        error,
        durable::Error::Panicked { .. } | durable::Error::Encode { .. }
    )
}

impl From<durable::Error> for NotTaken {
    fn from(error: durable::Error) -> Self {
        if is_broken(&error) {
            Self::Broken(error.to_string())
        } else {
            Self::Later(error.to_string())
        }
    }
}

impl From<durable::Error> for Unheard {
    fn from(error: durable::Error) -> Self {
        if is_broken(&error) {
            Self::Broken(error.to_string())
        } else {
            Self::Later(error.to_string())
        }
    }
}

/// Run an agent.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct Dispatch {
    /// Whose bead.
    pub rig: RigId,
    /// Everything that the container needs.
    pub order: Box<DispatchOrder>,
}

/// Make a dispatch be over, prove it, and report it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct StopAgent {
    /// Whose bead.
    pub rig: RigId,
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// How long a running turn may go on, in milliseconds.
    pub grace_ms: i64,
    /// Why, for the log.
    pub reason: String,
}

/// Check credentials, program, model and git; needs no session.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct CheckRig {
    /// Which rig.
    pub rig: RigId,
    /// The check's number.
    pub no: u64,
    /// What to check.
    pub config: RigConfig,
}

/// Stop the turn that stands still and prompt the session once more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct NudgeAgent {
    /// Whose bead.
    pub rig: RigId,
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// The prompt's number within its bead; a session heeds each once.
    pub no: u32,
    /// What it is told.
    pub text: String,
}

/// Look at the shared scopes of a configuration again, at once.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub struct ResetScopes {
    /// Whose scopes.
    pub config: RigConfig,
    /// Who asks.
    pub by: Who,
}

/// Check a shared scope; needs no session.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub(crate) struct CheckScope {
    /// The check's number.
    pub(crate) no: u64,
    /// Which scope.
    pub(crate) scope: Scope,
    /// With which configuration.
    pub(crate) config: RigConfig,
}

/// What a town wants of a session that still runs; of another one it wants nothing any more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), NotTaken>")]
pub(crate) struct OrderAgent {
    /// Whose bead.
    pub(crate) rig: RigId,
    /// Which dispatch.
    pub(crate) dispatch: DispatchId,
    /// The reason of its end; without one it tries its gateway again.
    pub(crate) end: Option<Failure>,
}

/// A rig's breaker opened.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct BreakerTripped {
    /// Which rig.
    pub rig: RigId,
    /// Why.
    pub failure: Failure,
    /// When the next probe may be made.
    pub next_probe_at: Timestamp,
}

/// A rig's breaker closed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct BreakerClosed {
    /// Which rig.
    pub rig: RigId,
}

/// The session's prompt was accepted and its turn has begun.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct AgentStarted {
    /// Whose bead.
    pub rig: RigId,
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// Which life of the container.
    pub incarnation: Incarnation,
    /// The session's id.
    pub session: String,
}

/// Life signs. Times are ages, so that the two clocks need not agree.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct Heartbeat {
    /// Whose bead.
    pub rig: RigId,
    /// The signs; its times are left empty here.
    pub beat: Beat,
    /// How long ago the newest model or tool event was, in milliseconds.
    pub progress_age_ms: Option<i64>,
    /// For how long the oldest of the tools runs that run right now, in milliseconds.
    pub tool_age_ms: Option<i64>,
}

/// A turn completed and stayed quiet; may the session end?
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<TurnVerdict, Unheard>")]
pub struct TurnEnded {
    /// Whose bead.
    pub rig: RigId,
    /// Which dispatch.
    pub dispatch: DispatchId,
    /// What the turn left.
    pub report: TurnReport,
}

/// A dispatch is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct AgentDone {
    /// Whose bead.
    pub rig: RigId,
    /// How it ended.
    pub report: Report,
}

/// A container began a life.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct ContainerStarted {
    /// Which rig is told.
    pub rig: RigId,
    /// The new life.
    pub incarnation: Incarnation,
    /// Dispatches whose sessions it runs.
    pub live: Vec<DispatchId>,
    /// Dispatches whose outcomes it will repeat.
    pub unreported: Vec<DispatchId>,
}

/// The town has room for this rig.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct SlotOffered {
    /// Which rig.
    pub rig: RigId,
}

/// Something that is none of the rig's dispatches.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct Noticed {
    /// Which rig.
    pub rig: RigId,
    /// The notice's number; a repeated one changes nothing.
    pub no: u64,
    /// What it is about.
    pub notice: Notice,
}

/// The checks of a rig are through.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Unheard>")]
pub struct RigChecked {
    /// Which rig.
    pub rig: RigId,
    /// The check's number.
    pub no: u64,
    /// The result.
    pub result: Preflight,
}

/// What a rig needs of a container: ports, not its type.
#[derive(Clone)]
pub struct ContainerPort {
    /// See [`Dispatch`].
    pub dispatch: Recipient<Dispatch>,
    /// See [`StopAgent`].
    pub stop: Recipient<StopAgent>,
    /// See [`CheckRig`].
    pub check: Recipient<CheckRig>,
    /// See [`NudgeAgent`].
    pub nudge: Recipient<NudgeAgent>,
    /// See [`ResetScopes`].
    pub reset: Recipient<ResetScopes>,
    /// See [`BreakerTripped`].
    pub tripped: Recipient<BreakerTripped>,
    /// See [`BreakerClosed`].
    pub closed: Recipient<BreakerClosed>,
}

/// What a container needs of rigs: ports, not their type.
#[derive(Clone)]
pub struct RigPort {
    /// See [`AgentStarted`].
    pub started: Recipient<AgentStarted>,
    /// See [`Heartbeat`].
    pub heartbeat: Recipient<Heartbeat>,
    /// See [`TurnEnded`].
    pub turn: Recipient<TurnEnded>,
    /// See [`AgentDone`].
    pub done: Recipient<AgentDone>,
    /// See [`ContainerStarted`].
    pub container: Recipient<ContainerStarted>,
    /// See [`RigChecked`].
    pub checked: Recipient<RigChecked>,
    /// See [`SlotOffered`].
    pub offered: Recipient<SlotOffered>,
    /// See [`Noticed`].
    pub noticed: Recipient<Noticed>,
}

impl std::fmt::Debug for ContainerPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContainerPort")
    }
}

impl std::fmt::Debug for RigPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RigPort")
    }
}
