//! The end of an agent: the session proven over, its processes ended, its work saved, its place
//! given back.
//!
//! Owns the order of these steps: nobody may start on the worktree again before the report leaves,
//! and the report does not leave before all of it is done.

use std::time::Duration;

use kilo::SessionEnded;
use rig::{Class, Failure, Outcome, Report, Stage, Work};

use super::{Agent, Gear, How, Leave};
use crate::workspace::{Worktree, saved_ref};

/// A session's tools get this long between TERM and KILL.
const TOOL_GRACE: Duration = Duration::from_secs(2);

impl Agent {
    /// Ends what is left of the session and reports.
    pub(super) async fn finish(&self, mut gear: Gear, leave: Leave) -> Report {
        let session = gear.session.as_ref().map(|session| session.id().to_owned());
        gear.enter(Stage::End);
        self.prove_over(&mut gear).await;
        // The place on the server is free before the report is out: a waiting bead may take it.
        gear.session = None;
        gear.lease = None;
        let outcome = match leave.how {
            How::Completed(text) => self.completed(gear.worktree.as_ref(), text).await,
            How::Failed(failure) => self.failed(gear.worktree.as_ref(), failure).await,
        };
        let dispatch = self.dispatch().clone();
        tracing::info!(%dispatch, rig = %self.rig, outcome = kind(&outcome), "agent is done");
        Report {
            dispatch,
            outcome,
            session,
            output: leave.output,
            usage: leave.usage,
            phases: gear.phases,
            last_output: leave.last_output,
        }
    }

    /// The session is absent from its server and its processes are gone, or the server is ended.
    async fn prove_over(&self, gear: &mut Gear) {
        let Some(session) = &mut gear.session else {
            return;
        };
        let swept = match session.end(TOOL_GRACE).await {
            SessionEnded::Proven(swept) => swept,
            SessionEnded::StillBusy(swept) => {
                tracing::warn!(dispatch = %self.dispatch(), "the session does not end; ending kilo");
                if let Some(lease) = &gear.lease {
                    lease.end_server().await;
                }
                swept
            }
        };
        if !swept.survivors.is_empty() || !swept.foreign.is_empty() {
            tracing::warn!(survivors = ?swept.survivors, foreign = ?swept.foreign,
                "processes are left in the worktree");
        }
    }

    async fn completed(&self, worktree: Option<&Worktree>, text: Option<String>) -> Outcome {
        let Some(worktree) = worktree else {
            return Outcome::Completed {
                work: Work::None,
                text,
            };
        };
        match worktree.outcome_work(true).await {
            Ok(work) => Outcome::Completed { work, text },
            Err(failure) => Outcome::Failed {
                failure,
                work: Work::None,
            },
        }
    }

    /// A charged failure saves the tree to a ref and resets it; an interrupted session's tree is
    /// saved and left, any other is left, to be gone on with.
    async fn failed(&self, worktree: Option<&Worktree>, failure: Failure) -> Outcome {
        let Some(worktree) = worktree else {
            let work = Work::None;
            return Outcome::Failed { failure, work };
        };
        let name = saved_ref(self.dispatch());
        let saved = match failure.class {
            class if class.is_charged() => worktree.save_and_reset(&name).await,
            Class::Interrupted | Class::BudgetStop => worktree.save_aside(&name).await,
            _ => Ok(None),
        };
        if let Err(error) = saved {
            let dispatch = self.dispatch();
            tracing::warn!(%dispatch, error = error.text, "the tree was not saved; it is left");
        }
        let work = match worktree.outcome_work(false).await {
            Ok(work) => work,
            Err(error) => {
                tracing::warn!(dispatch = %self.dispatch(), error = error.text, "no look at git");
                Work::None
            }
        };
        Outcome::Failed { failure, work }
    }
}

fn kind(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed { .. } => "completed",
        Outcome::Failed { failure, .. } => failure.class.as_str(),
        Outcome::Refused { .. } => "refused",
        Outcome::NeverStarted => "never_started",
    }
}
