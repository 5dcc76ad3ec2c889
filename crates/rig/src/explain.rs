//! Why a bead does not run, what happens next, and when: a prediction from the state.
//!
//! Owns the sentences. Decides nothing; it asks the same gate that decides.

use serde::Serialize;

use crate::{
    Bead, Cause, Hold, Live, Park, Phase, Refusal, Rig, Timestamp,
    step::{Outlook, outlook_of},
};

/// A prediction for one bead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Why it is as it is.
    pub cause: String,
    /// What happens next.
    pub next: String,
    /// When, if that is known.
    pub at: Option<Timestamp>,
}

impl Explanation {
    fn new(cause: impl Into<String>, next: impl Into<String>, at: Option<Timestamp>) -> Self {
        Self {
            cause: cause.into(),
            next: next.into(),
            at,
        }
    }
}

impl Rig {
    /// Why this bead does not run, or what it does, and what comes next.
    pub fn explain(&self, bead: &Bead, now: Timestamp) -> Explanation {
        if self.is_deleted() && bead.run().is_none() {
            return Explanation::new("its rig was deleted", "nothing", None);
        }
        match &bead.phase {
            Phase::Open => Explanation::new("not hooked", "hook it or sling it", None),
            Phase::Held => Explanation::new(
                "set in progress by hand",
                "nothing by itself: hook it, or set another status",
                None,
            ),
            Phase::Hooked { .. } => self.explain_ready(now, "on a hook, not dispatched yet"),
            Phase::Dispatched { start, .. } => Explanation::new(
                "the container starts its session",
                "the session reports its start, or the start is given up",
                Some(start.at),
            ),
            Phase::Working { live, .. } => explain_working(live),
            Phase::Ending { ending, .. } => explain_ending(&ending.cause, ending.over.is_some()),
            Phase::Waiting {
                park: Some(Park::Budget),
                ..
            } => Explanation::new(
                format!("its own budget is used up ({})", self.record().budget.bead),
                "nothing, until a person raises the budget for each bead, or cancels it",
                None,
            ),
            Phase::Waiting { until, .. }
                if !until.is_due(now) && !self.is_held_beyond(until.at, now) =>
            {
                let cause = bead.last_failure.as_ref().map_or_else(
                    || "waits for its next dispatch".to_owned(),
                    |last| format!("{}: {}", last.failure.class, last.failure.text),
                );
                Explanation::new(cause, "the next attempt", Some(until.at))
            }
            Phase::Waiting { .. } => self.explain_ready(now, "ready for its next attempt"),
            Phase::InReview { review } => {
                let branch = self.review(review).map_or("", |entry| &entry.branch);
                let cause = format!("its work on {branch} waits for a review");
                Explanation::new(cause, "a person reviews it", None)
            }
            Phase::Closed { .. } => Explanation::new("closed", "nothing", None),
            Phase::Failed { reason, .. } => {
                Explanation::new(reason.clone(), "nothing, until a person retries it", None)
            }
        }
    }

    fn explain_ready(&self, now: Timestamp, ready: &str) -> Explanation {
        let record = self.record();
        match outlook_of(record, now) {
            Outlook::Unconfigured => Explanation::new(
                "the rig has no town, git URL and default branch",
                "configure the rig; then it is dispatched at once",
                None,
            ),
            Outlook::Paused => self.explain_paused(),
            Outlook::Spent(until) => Explanation::new(
                format!(
                    "the rig's budget of the day is used up ({})",
                    record.budget.day
                ),
                "dispatched when the next UTC day begins, or when a person raises the budget",
                Some(until),
            ),
            Outlook::Held(until) => explain_held(record.hold.as_ref(), until),
            Outlook::Checking(by) => Explanation::new(
                "credentials, program, model and git are being checked",
                "dispatched when the checks pass",
                Some(by),
            ),
            Outlook::Shut(class, at) => {
                let text = record
                    .breaker
                    .failure()
                    .map_or("", |failure| failure.text.as_str());
                let next = format!("checked again; to mend it now: {}", class.fix());
                Explanation::new(format!("{class}: {text}"), next, Some(at))
            }
            Outlook::Probing => Explanation::new(
                "the breaker is half open and another bead is its probe",
                "dispatched when the probe's model answers",
                None,
            ),
            Outlook::NeedsCheck | Outlook::Open | Outlook::Probe | Outlook::Ask => {
                Explanation::new(
                    ready,
                    format!(
                        "dispatched when one of {} slots is free",
                        record.policy.agents_max
                    ),
                    None,
                )
            }
        }
    }
}

impl Rig {
    fn explain_paused(&self) -> Explanation {
        let Some(pause) = &self.record().pause else {
            return Explanation::new("not paused", "nothing", None);
        };
        let mode = pause.mode.as_str();
        let why = pause
            .reason
            .as_ref()
            .map_or_else(String::new, |why| format!(": {why}"));
        Explanation::new(
            format!("the rig was {mode} by {}{why}", pause.by),
            "dispatched when a person resumes the rig",
            None,
        )
    }
}

fn explain_held(hold: Option<&Hold>, until: Timestamp) -> Explanation {
    let refusal = hold.map(|hold| &hold.refusal);
    let cause = refusal.map(ToString::to_string).unwrap_or_default();
    if let Some(Refusal::Paused { .. }) = refusal {
        return Explanation::new(cause, "dispatched when a person resumes the town", None);
    }
    let next = "the town is asked again then; sooner when it has room";
    Explanation::new(cause, next, Some(until))
}

/// The next limit of a session that says nothing more.
fn explain_working(live: &Live) -> Explanation {
    let stops = [
        (Some(live.lease), "taken for lost, if no heartbeat comes"),
        (Some(live.progress), "ended as stalled, if nothing moves"),
        (
            Some(live.total),
            "ended: the longest that a session may run",
        ),
        (live.tool, "ended, if its tool runs on"),
        (live.nudge, "prompted once more, if nothing moves"),
    ];
    let next = stops
        .into_iter()
        .filter_map(|(deadline, what)| Some((deadline?.at, what)))
        .min_by_key(|(at, _)| *at);
    let (at, what) = next.unwrap_or((live.lease.at, "ended"));
    Explanation::new("an agent works on it", what, Some(at))
}

fn explain_ending(cause: &Cause, is_over: bool) -> Explanation {
    let why = match cause {
        Cause::SessionOver => "its session ended".to_owned(),
        Cause::Completed => "it was reported complete".to_owned(),
        Cause::Done(_) => "the agent said that it is done".to_owned(),
        Cause::Expired(failure) | Cause::Reported(failure) => failure.text.clone(),
        Cause::Ordered(_) => "it was given another end by hand".to_owned(),
    };
    let next = if is_over {
        "judged when the agent had its last word"
    } else {
        "judged when the session is proven over"
    };
    Explanation::new(why, next, None)
}
