//! Everything that a town can be told, everything that it can ask for, and how it answers.
//!
//! Owns the vocabulary of `Town::step`. Knows no transport: the runtime maps its messages to it.

use serde::{Deserialize, Serialize};

use super::{Entry, Place, Town, TownPolicy, TownRecord};
use crate::{
    DispatchId, Failure, Notice, PauseMode, Refusal, Report, RigConfig, RigId, Scope, Scopes,
    Timestamp, Usage, Who,
};

/// What a rig that wants something of its town depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// The scopes that it shares with others.
    pub scopes: Scopes,
    /// With which they can be checked again.
    pub config: RigConfig,
    /// The prompts that the bead has cost: a probe is made where least was spent.
    pub prompts: u32,
}

/// Everything that a town can be told.
#[derive(Clone, Debug, PartialEq)]
pub enum TownInput {
    /// A dispatch arrived: may it be run?
    Take {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
        /// What it depends on.
        ask: Ask,
    },
    /// The session of a dispatch is known, and where it runs.
    NoteSession {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
        /// The session.
        session: String,
        /// Its place, once that is known.
        place: Option<Place>,
    },
    /// A dispatch is over: its session is proven over and its work saved.
    Finish {
        /// Whose bead.
        rig: RigId,
        /// How it ended.
        report: Report,
    },
    /// The rig wants a dispatch to be over.
    AskStop {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
    },
    /// The rig has taken the report of a dispatch.
    Told {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
    },
    /// What does a new life find? Asked before [`TownInput::Boot`], because the rigs have to know
    /// of the new life before the first report.
    Survey,
    /// A new life of the container begins: whatever was taken and is not over is lost.
    Boot,
    /// May a rig be checked now?
    AskCheck {
        /// Which rig.
        rig: RigId,
        /// What it depends on.
        scopes: Scopes,
    },
    /// A rig was checked.
    Checked {
        /// Which rig.
        rig: RigId,
        /// What it depends on.
        ask: Ask,
        /// What was found to be wrong.
        failure: Option<Failure>,
    },
    /// A scope was checked.
    ScopeChecked {
        /// The check's number; another one is out of date.
        no: u64,
        /// What was found to be wrong.
        failure: Option<Failure>,
    },
    /// The model of a dispatch has written for the first time, or again after an offline wait.
    Output {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
    },
    /// A session can not reach its gateway and waits for it.
    Offline {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
        /// The program's words.
        text: String,
    },
    /// What a dispatch has cost so far.
    Used {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
        /// The sum of the dispatch.
        usage: Usage,
    },
    /// A person resets breakers: those of these scopes, or all.
    Reset {
        /// Which; none means all.
        scopes: Option<Scopes>,
        /// Who asks.
        by: Who,
    },
    /// The town's policy.
    SetPolicy {
        /// The new policy.
        policy: TownPolicy,
        /// Who sets it.
        by: Who,
    },
    /// Hold every dispatch of the town back until a resume.
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
    /// The town's alarm.
    Alarm,
    /// The clock jumped, or the machine slept.
    ClockJumped,
}

/// Whether a dispatch is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Run it; it is recorded.
    Fresh,
    /// It runs, or is over and will be reported: nothing to do.
    Known,
    /// It is refused; the report is on its way.
    Refused,
}

/// What asking for a stop found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It is taken: end it.
    Runs,
    /// It is over, or refused for good just now; the report is on its way.
    Over,
}

/// What a new life finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Dispatches that are taken or over, and not yet told to their rigs.
    pub unreported: Vec<(RigId, DispatchId)>,
    /// Where the taken ones ran.
    pub places: Vec<Place>,
}

/// How a town answers.
#[derive(Clone, Debug, PartialEq)]
pub enum TownReply {
    /// Accepted; nothing to tell.
    Accepted,
    /// To [`TownInput::Take`].
    Taken(Taken),
    /// To [`TownInput::AskStop`].
    Stopping(Stopping),
    /// To [`TownInput::Survey`].
    Found(Found),
    /// To [`TownInput::AskCheck`] and [`TownInput::Checked`]: go on, or ask again then.
    Held(Option<(Refusal, Timestamp)>),
}

/// Everything that a town can ask for. Each is kept until its receiver has taken it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TownEffect {
    /// To the rig: a dispatch is over.
    Report {
        /// Whose bead.
        rig: RigId,
        /// How it ended.
        report: Box<Report>,
    },
    /// To the rig: there is room for it, it may ask again.
    Offer {
        /// Which rig.
        rig: RigId,
    },
    /// To the rig: something that is none of its dispatches.
    Notify {
        /// Which rig.
        rig: RigId,
        /// The notice's number.
        no: u64,
        /// What it is about.
        notice: Notice,
    },
    /// To the container: check this scope; a [`TownInput::ScopeChecked`] follows, or the check's
    /// deadline passes.
    CheckScope {
        /// The check's number.
        no: u64,
        /// Which scope.
        scope: Scope,
        /// With which configuration.
        config: RigConfig,
    },
    /// To the container: let the offline wait of this session try again.
    AnswerOffline {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
    },
    /// To the container: end this session; the failure is the reason of its end.
    EndSession {
        /// Whose bead.
        rig: RigId,
        /// Which dispatch.
        dispatch: DispatchId,
        /// Why.
        failure: Failure,
    },
}

/// One changed record.
#[derive(Clone, Debug, PartialEq)]
pub enum TownChange {
    /// The town's own record.
    Record(Box<TownRecord>),
    /// An entry, new or changed.
    Entry(Box<Entry>),
}

/// What a step wants: one atomic batch, and the answer that may leave after it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct TownStep {
    /// Records to write; `Town::apply` puts them into memory.
    pub changes: Vec<TownChange>,
    /// Messages to send once the changes are durable.
    pub effects: Vec<TownEffect>,
    /// The answer.
    pub reply: TownReply,
}

impl TownStep {
    /// The entries that this step writes.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.changes.iter().filter_map(|change| match change {
            TownChange::Entry(entry) => Some(&**entry),
            TownChange::Record(_) => None,
        })
    }

    /// The town's own record as this step leaves it.
    pub fn record<'s>(&'s self, before: &'s Town) -> &'s TownRecord {
        let changed = self.changes.iter().find_map(|change| match change {
            TownChange::Record(record) => Some(&**record),
            TownChange::Entry(_) => None,
        });
        changed.unwrap_or_else(|| before.record())
    }
}
