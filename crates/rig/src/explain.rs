//! Why a bead does not run, what happens next, and when: a prediction from the state.
//!
//! Owns the sentences. Decides nothing; it asks the same gate that decides. A time is named only for
//! what happens then if nobody says anything more: run forward alone, the rig does it.

use serde::Serialize;

use crate::{
    Bead, Cause, Deadline, Live, Outcome, Park, Phase, Readiness, Rig, Run, Timestamp, Trip, Usage,
    step::{Outlook, limit_reached, outlook_of, prompts_limit},
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
            Phase::Dispatched { start, .. } => Explanation::new(
                "the container starts its session",
                "the session reports its start, or the start is given up",
                Some(start.rebased(now).at),
            ),
            Phase::Working { run, live } => self.explain_working(bead, run, live, now),
            Phase::Ending { ending, .. } => {
                let over = ending.over.as_ref().map(|_| ending.grace.rebased(now).at);
                explain_ending(&ending.cause, over)
            }
            Phase::Waiting {
                park: Some(Park::Budget),
                ..
            } => Explanation::new(
                format!("its own budget is used up ({})", self.record().budget.bead),
                "nothing, until a person raises the budget for each bead, or cancels it",
                None,
            ),
            Phase::Hooked { .. } => self.explain_ready(bead, now, now),
            Phase::Waiting { until, .. } => {
                let ready_at = until.rebased(now).at.max(now);
                self.explain_ready(bead, ready_at, now)
            }
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

    /// A bead on a hook: what the gate says, now or when its wait is over.
    fn explain_ready(&self, bead: &Bead, ready_at: Timestamp, now: Timestamp) -> Explanation {
        if let Some(held_back) = self.explain_rig(now) {
            return held_back;
        }
        // The rig's own checks, asks and probes follow whichever bead is ready first.
        let first = self.first_ready(now).unwrap_or(ready_at);
        let (gate_at, why) = self.gate_opens(first);
        let gate = outlook_of(self.record(), gate_at);
        let has_slot = self.slots_free() > 0;
        if !has_slot && gate != Outlook::NeedsCheck && ready_at <= gate_at {
            return self.explain_full();
        }
        let waits = ready_at > gate_at;
        let cause = match why {
            Some(outlook) if !waits => self.words_of(&outlook),
            _ => cause_of_wait(bead, ready_at > now),
        };
        let at = Some(gate_at).filter(|_| !self.is_unsettled());
        match gate {
            _ if waits && !(has_slot && gate == Outlook::Open) => {
                Explanation::new(cause, WAIT_OVER, Some(ready_at))
            }
            Outlook::NeedsCheck => {
                let fix = self
                    .record()
                    .breaker
                    .class()
                    .map_or_else(String::new, |class| {
                        format!("; to mend it now: {}", class.fix())
                    });
                Explanation::new(cause, format!("{CHECKED}{fix}"), at)
            }
            Outlook::Ask => Explanation::new(cause, ASKED, at),
            Outlook::Probe => Explanation::new(cause, PROBED, at),
            _ => self.explain_turn(bead, ready_at, now, cause),
        }
    }

    /// What holds every bead back, whatever it waits for itself.
    fn explain_rig(&self, now: Timestamp) -> Option<Explanation> {
        let record = self.record();
        if record.config.is_none() {
            return Some(Explanation::new(
                "the rig has no town, git URL and default branch",
                "configure the rig; then it is dispatched at once",
                None,
            ));
        }
        if record.pause.is_some() {
            return Some(self.explain_paused());
        }
        // The judgement of another session may move the breaker before.
        let is_unsettled = self.is_unsettled();
        let timed = |by: &Deadline| Some(by.rebased(now).at).filter(|_| !is_unsettled);
        if let Readiness::Checking { deadline, .. } = &record.readiness {
            return Some(Explanation::new(
                "credentials, program, model and git are being checked",
                "dispatched when the checks pass; they are given up then",
                timed(deadline),
            ));
        }
        if let Some((_, by)) = record.breaker.probe() {
            return Some(Explanation::new(
                "the breaker is half open and another bead is its probe",
                "dispatched when the probe's model answers; the probe is given up then",
                timed(by),
            ));
        }
        if record.budget.day.is_reached(&Usage::default()) {
            return Some(Explanation::new(
                self.words_of(&Outlook::Spent(now)),
                "dispatched when a person raises the budget",
                None,
            ));
        }
        None
    }

    /// From that time on the gate is shut until then, if nothing but time opens it; and for what.
    fn gate_opens(&self, from: Timestamp) -> (Timestamp, Option<Outlook>) {
        let (mut at, mut why) = (from, None);
        loop {
            let outlook = outlook_of(self.record(), at);
            let (Outlook::Spent(until) | Outlook::Held(until) | Outlook::Shut(_, until)) = outlook
            else {
                return (at, why);
            };
            if until <= at {
                return (at, why);
            }
            (at, why) = (until, Some(outlook));
        }
    }

    fn words_of(&self, outlook: &Outlook) -> String {
        let record = self.record();
        match outlook {
            Outlook::Spent(_) => {
                let limit = record.budget.day;
                format!("the rig's budget of the day is used up ({limit})")
            }
            Outlook::Held(_) => {
                let hold = record.hold.as_ref();
                hold.map(|hold| hold.refusal.to_string())
                    .unwrap_or_default()
            }
            Outlook::Shut(class, _) => {
                let failure = record.breaker.failure();
                format!("{class}: {}", failure.map_or("", |f| &f.text))
            }
            _ => String::new(),
        }
    }

    /// When the first bead of the rig is ready, whichever it is.
    fn first_ready(&self, now: Timestamp) -> Option<Timestamp> {
        let views = self.views();
        let is_ready = views.hooked().next().is_some() || views.waited(now).next().is_some();
        if is_ready {
            Some(now)
        } else {
            views.next_waited(now)
        }
    }

    fn slots_free(&self) -> usize {
        let slots = usize::try_from(self.record().policy.agents_max).unwrap_or(usize::MAX);
        slots.saturating_sub(self.views().running().len())
    }

    fn explain_full(&self) -> Explanation {
        let slots = self.record().policy.agents_max;
        let cause = format!("all {slots} slots of the rig are taken");
        Explanation::new(cause, "dispatched when one of them is free", None)
    }

    /// Whether a session is over whose judgement may trip the breaker.
    fn is_unsettled(&self) -> bool {
        let speaks = |outcome: &Outcome| match outcome {
            Outcome::Failed { failure, .. } => failure.class.trip() != Trip::Never,
            _ => false,
        };
        self.running().any(|bead| match &bead.phase {
            Phase::Ending { run, ending } => ending
                .over
                .as_ref()
                .is_some_and(|over| run.probe || speaks(over)),
            _ => false,
        })
    }

    /// The gate is open when the bead is ready: only its turn is left.
    fn explain_turn(
        &self,
        bead: &Bead,
        ready_at: Timestamp,
        now: Timestamp,
        cause: String,
    ) -> Explanation {
        let (at, why) = self.gate_opens(ready_at);
        let cause = why.as_ref().map_or(cause, |outlook| self.words_of(outlook));
        if self.is_unsettled() {
            let at = Some(ready_at).filter(|at| *at > now && why.is_none());
            return Explanation::new(cause, WAIT_OVER, at);
        }
        let slots = self.slots_free();
        let views = self.views();
        let hooked = views.hooked().map(|(_, id)| id);
        let others = hooked.chain(views.waited(at)).filter(|id| **id != bead.id);
        if others.take(slots).count() < slots {
            return Explanation::new(cause, self.words_of_turn(bead), Some(at));
        }
        match why {
            // Nobody was let pass before, so that somebody is.
            Some(_) => Explanation::new(cause, GOES_ON, Some(at)),
            None if ready_at > now => Explanation::new(cause, WAIT_OVER, Some(ready_at)),
            None => Explanation::new(cause, "dispatched when its turn comes", None),
        }
    }

    /// What the gate does with this bead, once nothing holds it back.
    fn words_of_turn(&self, bead: &Bead) -> &'static str {
        let record = self.record();
        if limit_reached(&record.policy, &bead.numbers).is_some() {
            GIVEN_UP
        } else if record.budget.bead.is_reached(&bead.usage) {
            PARKED
        } else {
            DISPATCHED
        }
    }

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

    /// The next limit of a session that says nothing more, in the order in which they count.
    fn explain_working(&self, bead: &Bead, run: &Run, live: &Live, now: Timestamp) -> Explanation {
        let limit = prompts_limit(&self.record().policy, &bead.numbers);
        let is_nudged = bead.numbers.prompts < limit && !run.is_over;
        let stops = [
            (Some(live.lease), "taken for lost, if no heartbeat comes"),
            (live.tool, "ended, if its tool runs on"),
            (Some(live.progress), "ended as stalled, if nothing moves"),
            (
                Some(live.total),
                "ended: the longest that a session may run",
            ),
            (
                live.nudge.filter(|_| is_nudged),
                "prompted once more, if nothing moves",
            ),
        ];
        let next = stops
            .into_iter()
            .filter_map(|(deadline, what)| Some((deadline?.rebased(now).at, what)))
            .min_by_key(|(at, _)| *at);
        let (at, what) = next.unwrap_or((live.lease.at, "ended"));
        Explanation::new("an agent works on it", what, Some(at))
    }
}

const DISPATCHED: &str = "the next attempt";
const GOES_ON: &str = "dispatching goes on then, the most urgent first";
const CHECKED: &str = "checked then, and dispatched when that passes";
const ASKED: &str = "the town is asked again then, with one bead; sooner when it has room";
const PROBED: &str = "one bead is dispatched then, as the breaker's probe";
const WAIT_OVER: &str = "its wait is over, and it is dispatched when the rig may";
const GIVEN_UP: &str = "given up: it has reached its limit";
const PARKED: &str = "nothing: its own budget is used up, and a person has to raise it";

/// Why a bead is on its hook and not dispatched, if nothing else holds it back.
fn cause_of_wait(bead: &Bead, waits: bool) -> String {
    match (&bead.phase, &bead.last_failure) {
        (Phase::Hooked { .. }, _) => "on a hook, not dispatched yet".to_owned(),
        _ if !waits => "ready for its next attempt".to_owned(),
        (_, None) => "waits for its next dispatch".to_owned(),
        (_, Some(last)) => format!("{}: {}", last.failure.class, last.failure.text),
    }
}

fn explain_ending(cause: &Cause, over: Option<Timestamp>) -> Explanation {
    let why = match cause {
        Cause::SessionOver => "its session ended".to_owned(),
        Cause::Completed => "it was reported complete".to_owned(),
        Cause::Done(_) => "the agent said that it is done".to_owned(),
        Cause::Expired(failure) | Cause::Reported(failure) => failure.text.clone(),
        Cause::Ordered(_) => "it was given another end by hand".to_owned(),
    };
    let next = if over.is_some() {
        "judged when the agent had its last word"
    } else {
        "judged when the session is proven over"
    };
    Explanation::new(why, next, over)
}
