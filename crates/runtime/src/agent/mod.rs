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
mod known;
mod outcome;
mod prompt;
mod start;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use durable::Stub;
use rig::{
    Class, DispatchId, DispatchOrder, Failure, Incarnation, Outcome, PhaseAt, Report, RigId, Stage,
    Timestamp, Usage, Work, town::TownInput,
};
use tokio::sync::mpsc;

use crate::{
    container::{Kit, ServerLease, Sight},
    messages::RigPort,
    preflight::Price,
    town_actor::{TellTown, TownActor},
    workspace::Worktree,
};

/// A full queue is asked again after this long.
const SOON: Duration = Duration::from_millis(100);
/// A store that fails, after this long: its disk may be full for a while.
const LATER: Duration = Duration::from_secs(2);

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

/// What the container wants of a session.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// End it.
    Stop(StopOrder),
    /// End it for that reason.
    End(Failure),
    /// Stop the turn that stands still and prompt it once more; each number once.
    Nudge {
        /// The prompt's number within its bead.
        no: u32,
        /// What it is told.
        text: String,
    },
    /// Let it try its gateway again.
    RetryOffline,
}

/// One dispatch under way: what stays the same from its order to its report.
pub(crate) struct Agent {
    pub(crate) kit: Arc<Kit>,
    pub(crate) town: Stub<TownActor>,
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
    /// What is known of that model's costs.
    pub(crate) price: Price,
    /// When it entered each phase of its life.
    pub(crate) phases: Vec<PhaseAt>,
}

impl Gear {
    /// Enters a phase of its life.
    pub(crate) fn enter(&mut self, stage: Stage) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let ms = since.map_or(0, |since| since.as_millis());
        let at = Timestamp(i64::try_from(ms).unwrap_or(i64::MAX));
        self.phases.push(PhaseAt { stage, at });
    }
}

/// How the session came to its end, before its work is looked at.
pub(crate) struct Leave {
    pub(crate) how: How,
    pub(crate) output: bool,
    pub(crate) usage: Usage,
    /// The end of what it last wrote.
    pub(crate) last_output: Option<String>,
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
            last_output: None,
        }
    }
}

impl Agent {
    /// Runs the dispatch to its end, or until an order to stop.
    pub(crate) async fn run(self, mut orders: mpsc::Receiver<Order>) -> Report {
        let mut gear = Gear::default();
        let started = tokio::select! {
            biased;
            failure = ended_early(&mut orders) => Err(failure),
            started = Box::pin(self.start(&mut gear)) => started,
        };
        let leave = match started {
            Ok(()) => Box::pin(self.watch(&mut gear, &mut orders)).await,
            Err(failure) => Leave::failed(failure),
        };
        Box::pin(self.finish(gear, leave)).await
    }

    fn dispatch(&self) -> &DispatchId {
        &self.order.dispatch
    }

    /// Tells the town something of this dispatch; what gets lost is told again with the next word,
    /// or with the report.
    async fn tell_town(&self, input: TownInput) {
        if let Err(error) = self.town.send(TellTown(input)).await {
            tracing::warn!(dispatch = %self.dispatch(), %error, "the town was not told");
        }
    }
}

/// The first order that ends a session which has not begun. Others are about its turns.
async fn ended_early(orders: &mut mpsc::Receiver<Order>) -> Failure {
    loop {
        match orders.recv().await {
            Some(Order::Stop(order)) => {
                return Failure::new(Class::Interrupted, Stage::Session, order.reason);
            }
            Some(Order::End(failure)) => return failure,
            Some(Order::Nudge { .. } | Order::RetryOffline) => {}
            // Nobody is left to give orders: the start goes on.
            None => std::future::pending().await,
        }
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
        phases: Vec::new(),
        last_output: None,
    }
}

/// Stores the report, however long the store can not: without it the slot would stay taken and the
/// bead would wait for its end. A stopped store ends the try: the next life of the container finds
/// the dispatch taken and not over, and reports it as lost.
pub(crate) async fn repeat_until_stored(town: &Stub<TownActor>, rig: RigId, report: Report) {
    loop {
        let finish = TownInput::Finish {
            rig: rig.clone(),
            report: report.clone(),
        };
        match town.send(TellTown(finish)).await {
            Ok(_) | Err(durable::Error::Stopped) => return,
            Err(durable::Error::Overloaded) => tokio::time::sleep(SOON).await,
            Err(error) => {
                tracing::error!(dispatch = %report.dispatch, %error, "a report is not stored yet");
                tokio::time::sleep(LATER).await;
            }
        }
    }
}
