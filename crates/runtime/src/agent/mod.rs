//! One dispatch from its order to its report: the pipeline of an agent.
//!
//! Owns the phases and their order: worktree → server → session → prompt → first event → turns →
//! end. Whatever happens in between, exactly one [`Report`] comes out, and by then the session is
//! proven over and its work is saved. Decides nothing about the bead.
//!
//! ```text
//! run ─► start (start.rs) ─► watch (watch.rs) ─► finish (finish.rs) ─► Report
//!           └─ failed ───────────────────────────────▲
//! ```

mod finish;
mod outcome;
mod prompt;
mod start;
mod watch;

use std::{sync::Arc, time::Duration};

use durable::Stub;
use rig::{
    Class, DispatchId, DispatchOrder, Failure, Incarnation, Outcome, Report, RigId, Stage, Usage,
    Work,
};
use tokio::sync::mpsc;

use crate::{
    container::{Finish, Kit, Ledger, ServerLease, Sight},
    messages::RigPort,
    workspace::Worktree,
};

/// An order to end a session.
#[derive(Clone, Debug)]
pub(crate) struct StopOrder {
    /// How long a running turn may go on, in milliseconds.
    pub(crate) grace_ms: i64,
    /// Why, for the log and the report.
    pub(crate) reason: String,
    /// Wellhead itself ends: what is not finished by work is continued at the next start.
    pub(crate) is_drain: bool,
}

/// One dispatch under way: what stays the same from its order to its report.
pub(crate) struct Agent {
    pub(crate) kit: Arc<Kit>,
    pub(crate) ledger: Stub<Ledger>,
    pub(crate) rigs: RigPort,
    pub(crate) incarnation: Incarnation,
    pub(crate) rig: RigId,
    pub(crate) order: Box<DispatchOrder>,
    pub(crate) sight: Sight,
}

/// What a start has reached so far; the end gives back whatever is there.
#[derive(Default)]
pub(crate) struct Gear {
    pub(crate) worktree: Option<Worktree>,
    pub(crate) lease: Option<ServerLease>,
    pub(crate) session: Option<kilo::Session>,
    /// For prompts of later turns.
    pub(crate) model: String,
}

/// How the session came to its end, before its work is looked at.
pub(crate) struct Leave {
    pub(crate) how: How,
    pub(crate) output: bool,
    pub(crate) usage: Usage,
}

/// See [`Leave`].
pub(crate) enum How {
    /// The last turn completed usefully; the end of its text.
    Completed(Option<String>),
    /// It failed, was stopped or lost.
    Failed(Failure),
}

impl Leave {
    pub(crate) fn failed(failure: Failure) -> Self {
        Self {
            how: How::Failed(failure),
            output: false,
            usage: Usage::default(),
        }
    }
}

impl Agent {
    /// Runs the dispatch to its end, or until an order to stop.
    pub(crate) async fn run(self, mut stops: mpsc::Receiver<StopOrder>) -> Report {
        let mut gear = Gear::default();
        let started = tokio::select! {
            biased;
            Some(order) = stops.recv() => {
                Err(Failure::new(Class::Interrupted, Stage::Session, order.reason))
            }
            started = Box::pin(self.start(&mut gear)) => started,
        };
        let leave = match started {
            Ok(()) => Box::pin(self.watch(&mut gear, &mut stops)).await,
            Err(failure) => Leave::failed(failure),
        };
        Box::pin(self.finish(gear, leave)).await
    }

    fn dispatch(&self) -> &DispatchId {
        &self.order.dispatch
    }
}

/// The report of a dispatch whose task broke: nothing is known but that it is over.
pub(crate) fn broken(dispatch: DispatchId, error: &str) -> Report {
    let text = format!("the agent's own task ended unexpectedly: {error}");
    let failure = Failure::new(Class::Crash, Stage::Turn, text);
    let outcome = Outcome::Failed {
        failure,
        work: Work::None,
    };
    Report {
        dispatch,
        outcome,
        session: None,
        output: false,
        usage: Usage::default(),
    }
}

/// Stores the report; a full queue is waited for, a stopped store ends the try: the next life of
/// the container finds the dispatch taken and not over, and reports it as lost.
pub(crate) async fn repeat_until_stored(ledger: &Stub<Ledger>, finish: Finish) {
    let Finish { rig, report } = finish;
    loop {
        let finish = Finish {
            rig: rig.clone(),
            report: report.clone(),
        };
        match ledger.send(finish).await {
            Ok(()) => return,
            Err(durable::Error::Overloaded) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => {
                tracing::error!(dispatch = %report.dispatch, %error, "a report was not stored");
                return;
            }
        }
    }
}
