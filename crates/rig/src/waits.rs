//! What a bead that is on a hook and does not run waits for, in one word.
//!
//! Owns the words. Decides nothing; it asks the same gate that decides. The sentences and the times
//! are in `explain`.

use serde::Serialize;

use crate::{
    Bead, Park, Phase, Refusal, Rig, Timestamp,
    step::{Outlook, outlook_of},
};

/// What keeps a bead from its dispatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsOn {
    /// Its rig has no town, git URL and default branch.
    Configuration,
    /// Its rig or its town was paused or stopped by a person.
    Paused,
    /// Its own budget, its rig's or its town's is used up.
    Budget,
    /// A breaker is open: its rig's, or one of a scope that is shared.
    Breaker,
    /// A breaker is half open, and another dispatch is its probe.
    Probing,
    /// Every slot is taken: those of its rig, or of its town.
    Full,
    /// What a dispatch needs is checked first.
    Check,
    /// Time alone, after an attempt that failed.
    Backoff,
    /// Nothing more: its turn comes with the next step.
    Turn,
}

impl Rig {
    /// What a bead on a hook waits for; none for a bead that runs, is over, or is on no hook.
    pub fn waits_on(&self, bead: &Bead, now: Timestamp) -> Option<WaitsOn> {
        if self.is_deleted() {
            return None;
        }
        match &bead.phase {
            Phase::Waiting {
                park: Some(Park::Budget),
                ..
            } => Some(WaitsOn::Budget),
            Phase::Waiting { until, .. }
                if !until.is_due(now) && !self.is_held_beyond(until.rebased(now).at, now) =>
            {
                Some(WaitsOn::Backoff)
            }
            Phase::Hooked { .. } | Phase::Waiting { .. } => Some(self.gate_waits_on(now).0),
            Phase::Open
            | Phase::Held
            | Phase::Dispatched { .. }
            | Phase::Working { .. }
            | Phase::Ending { .. }
            | Phase::InReview { .. }
            | Phase::Closed { .. }
            | Phase::Failed { .. } => None,
        }
    }

    /// Whether a bead that may run from `at` on is held back for longer by something else.
    fn is_held_beyond(&self, at: Timestamp, now: Timestamp) -> bool {
        match self.gate_waits_on(now) {
            (WaitsOn::Configuration | WaitsOn::Paused, _) => true,
            // A check takes until its deadline at the longest, as a rule far less.
            (WaitsOn::Check, _) => false,
            (_, until) => until.is_some_and(|until| until > at),
        }
    }

    fn gate_waits_on(&self, now: Timestamp) -> (WaitsOn, Option<Timestamp>) {
        let record = self.record();
        match outlook_of(record, now) {
            Outlook::Unconfigured => (WaitsOn::Configuration, None),
            Outlook::Paused => (WaitsOn::Paused, None),
            Outlook::Spent(until) => (WaitsOn::Budget, Some(until)),
            Outlook::Held(until) => match record.hold.as_ref().map(|hold| &hold.refusal) {
                // It is asked again now and then; a person alone changes the answer.
                Some(Refusal::Paused { .. }) => (WaitsOn::Paused, None),
                Some(Refusal::Budget { .. }) => (WaitsOn::Budget, Some(until)),
                Some(Refusal::Probing { .. }) => (WaitsOn::Probing, Some(until)),
                Some(Refusal::Full { .. }) => (WaitsOn::Full, Some(until)),
                Some(Refusal::Breaker { .. }) | None => (WaitsOn::Breaker, Some(until)),
            },
            Outlook::Checking(by) => (WaitsOn::Check, Some(by)),
            Outlook::NeedsCheck => (WaitsOn::Check, None),
            Outlook::Shut(_, at) => (WaitsOn::Breaker, Some(at)),
            Outlook::Probing => (WaitsOn::Probing, None),
            Outlook::Open | Outlook::Probe | Outlook::Ask => {
                let agents_max = usize::try_from(record.policy.agents_max).unwrap_or(usize::MAX);
                if self.running().count() >= agents_max {
                    (WaitsOn::Full, None)
                } else {
                    (WaitsOn::Turn, None)
                }
            }
        }
    }
}
