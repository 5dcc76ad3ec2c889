//! The circuit breaker in front of a rig's dispatches: Closed, Open and
//! half-open in the field's sense.
//!
//! Owns when it opens, how long it cools down, who may probe it and what closes it. Persisted with
//! the rig, so a restart changes nothing. Knows no bead; `step::gate` asks it.

use serde::{Deserialize, Serialize};

use crate::{Class, Deadline, DispatchId, Failure, Timestamp, class::Trip, policy::jittered};

/// Outcomes in this window count towards the breaker's rate.
const WINDOW_MS: i64 = 10 * 60 * 1_000;
/// That many outcomes are the least that make a rate.
const WINDOW_MIN: usize = 5;
/// The window is bounded: older outcomes leave first.
const WINDOW_MAX: usize = 50;
/// Failures in a row that open it.
const CONSECUTIVE_MAX: u32 = 3;

/// How long a breaker waits, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first cooldown; it doubles with each trip.
    pub cooldown_ms: i64,
    /// The longest.
    pub cooldown_max_ms: i64,
    /// How long a probe may take before it counts as failed.
    pub probe_ms: i64,
}

impl Pace {
    /// The cooldown after `trips` trips in a row, with up to 25 % jitter from `random`.
    pub fn cooldown(&self, trips: u32, random: u64) -> i64 {
        let doubled = self
            .cooldown_ms
            .saturating_mul(1_i64 << trips.saturating_sub(1).min(30));
        jittered(doubled.min(self.cooldown_max_ms), random).min(self.cooldown_max_ms)
    }
}

/// Where the breaker stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum BreakerState<P = DispatchId> {
    /// Everything passes.
    #[default]
    Closed,
    /// Nothing passes.
    Open {
        /// What opened it.
        failure: Failure,
        /// When.
        opened_at: Timestamp,
        /// When the next probe may be made.
        next_probe: Deadline,
    },
    /// One probe passes.
    HalfOpen {
        /// What had opened it.
        failure: Failure,
        /// When it had opened.
        opened_at: Timestamp,
        /// The probe under way, and when it counts as failed.
        probe: Option<(P, Deadline)>,
    },
}

/// One outcome in the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sample {
    at: Timestamp,
    failed: bool,
}

/// The breaker of one scope; `P` names a probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breaker<P = DispatchId> {
    /// Where it stands.
    pub state: BreakerState<P>,
    /// Trips since it last closed; doubles the cooldown.
    pub trips: u32,
    consecutive: u32,
    window: Vec<Sample>,
    /// The probe whose deadline shut it again: what it writes after all is still a proof.
    late: Option<P>,
}

impl<P> Default for Breaker<P> {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed,
            trips: 0,
            consecutive: 0,
            window: Vec::new(),
            late: None,
        }
    }
}

/// What a report did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Nothing.
    No,
    /// It opened from Closed.
    Tripped,
    /// It was open or probing and stays shut for another cooldown.
    Reopened,
    /// It closed.
    Closed,
}

impl<P: Clone + PartialEq> Breaker<P> {
    /// Whether everything passes.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, BreakerState::Closed)
    }

    /// Whether nothing passes.
    pub fn is_open(&self) -> bool {
        matches!(self.state, BreakerState::Open { .. })
    }

    /// The class that shut it, unless it is closed.
    pub fn class(&self) -> Option<Class> {
        self.failure().map(|failure| failure.class)
    }

    /// Whether forgetting it would change nothing: closed, and no outcome in its window.
    pub(crate) fn is_as_new(&self, now: Timestamp) -> bool {
        let counts = |sample: &Sample| (0..=WINDOW_MS).contains(&now.since_ms(sample.at));
        self.is_closed() && self.consecutive == 0 && !self.window.iter().any(counts)
    }

    /// The probe under way and its deadline, if there is one.
    pub fn probe(&self) -> Option<&(P, Deadline)> {
        match &self.state {
            BreakerState::HalfOpen { probe, .. } => probe.as_ref(),
            BreakerState::Closed | BreakerState::Open { .. } => None,
        }
    }

    /// After a jump of the clock back no deadline is further away than its own length.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        match &mut self.state {
            BreakerState::Open { next_probe, .. } => *next_probe = next_probe.rebased(now),
            BreakerState::HalfOpen {
                probe: Some((_, by)),
                ..
            } => *by = by.rebased(now),
            BreakerState::HalfOpen { probe: None, .. } | BreakerState::Closed => {}
        }
    }

    /// After any jump of the clock a probe has its whole time again.
    pub(crate) fn renew_probe(&mut self, now: Timestamp) {
        if let BreakerState::HalfOpen {
            probe: Some((_, by)),
            ..
        } = &mut self.state
        {
            *by = by.renewed(now);
        }
    }

    /// The failure that shut it, unless it is closed.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            BreakerState::Closed => None,
            BreakerState::Open { failure, .. } | BreakerState::HalfOpen { failure, .. } => {
                Some(failure)
            }
        }
    }

    /// Records a failed dispatch or preflight; a preflight of an open breaker counts as a probe.
    ///
    /// Sessions that were running when it opened may fail as well: they do not lengthen the wait.
    pub(crate) fn failed(
        &mut self,
        failure: &Failure,
        was_probe: bool,
        now: Timestamp,
        pace: &Pace,
        random: u64,
    ) -> Moved {
        let trips = match failure.class.trip() {
            Trip::Never => was_probe,
            Trip::AtOnce | Trip::Pause => true,
            Trip::Counted => {
                self.count(now, true);
                failure.offline || was_probe || self.is_over_threshold(now)
            }
        };
        let is_open = matches!(self.state, BreakerState::Open { .. });
        if trips && (was_probe || !is_open) {
            // A probe that failed for a reason of its bead's keeps the scope's own reason.
            let cause = match (failure.class.trip(), self.failure()) {
                (Trip::Never, Some(own)) => own.clone(),
                _ => failure.clone(),
            };
            self.open(cause, now, pace, random)
        } else {
            Moved::No
        }
    }

    /// Records model output of a dispatch. It alone closes a half-open breaker, and one that only
    /// the slowness of that dispatch keeps open: else a model that is slow to begin would never
    /// close it.
    pub(crate) fn output(&mut self, dispatch: &P, now: Timestamp) -> Moved {
        self.consecutive = 0;
        let is_late = self.late.as_ref() == Some(dispatch);
        if is_late || matches!(self.state, BreakerState::HalfOpen { .. }) {
            *self = Self::default();
            return Moved::Closed;
        }
        self.count(now, false);
        Moved::No
    }

    /// The probe's deadline passed without any output: the same wait, doubled.
    pub(crate) fn probe_expired(&mut self, now: Timestamp, pace: &Pace, random: u64) -> Moved {
        let late = self.probe().map(|(dispatch, _)| dispatch.clone());
        let moved = self.probe_failed(now, pace, random);
        self.late = late;
        moved
    }

    /// The probe ended without any output: the same wait, doubled.
    pub(crate) fn probe_failed(&mut self, now: Timestamp, pace: &Pace, random: u64) -> Moved {
        match self.failure().cloned() {
            Some(failure) => self.open(failure, now, pace, random),
            None => Moved::No,
        }
    }

    /// Opens it, or keeps it open for another, longer cooldown.
    fn open(&mut self, failure: Failure, now: Timestamp, pace: &Pace, random: u64) -> Moved {
        let (opened_at, moved) = match &self.state {
            BreakerState::Closed => (now, Moved::Tripped),
            BreakerState::Open { opened_at, .. } | BreakerState::HalfOpen { opened_at, .. } => {
                (*opened_at, Moved::Reopened)
            }
        };
        self.trips = self.trips.saturating_add(1);
        self.late = None;
        let cooldown = pace.cooldown(self.trips, random);
        let asked = failure.retry_after_ms.unwrap_or(cooldown).max(0);
        let wait = asked.max(1_000).min(pace.cooldown_max_ms.max(cooldown));
        let next_probe = Deadline::after(now, wait);
        self.state = BreakerState::Open {
            failure,
            opened_at,
            next_probe,
        };
        moved
    }

    /// A passing check of our own makes it half-open, never closed.
    pub(crate) fn check_passed(&mut self) {
        if let BreakerState::Open {
            failure, opened_at, ..
        } = &self.state
        {
            self.state = BreakerState::HalfOpen {
                failure: failure.clone(),
                opened_at: *opened_at,
                probe: None,
            };
        }
    }

    /// A dispatch passes as the one probe.
    pub(crate) fn begin_probe(&mut self, dispatch: P, now: Timestamp, pace: &Pace) {
        if let BreakerState::HalfOpen { probe, .. } = &mut self.state {
            *probe = Some((dispatch, Deadline::after(now, pace.probe_ms)));
        }
    }

    /// A probe that proved nothing (refused, never started, ended by hand): another may be made.
    pub(crate) fn release_probe(&mut self, dispatch: &P) {
        if let BreakerState::HalfOpen { probe, .. } = &mut self.state
            && probe.as_ref().is_some_and(|(id, _)| id == dispatch)
        {
            *probe = None;
        }
    }

    /// A person's reset, or fresh credentials: probe at once.
    pub(crate) fn probe_now(&mut self, now: Timestamp) {
        self.trips = 0;
        match &mut self.state {
            BreakerState::Open { next_probe, .. } => *next_probe = Deadline::after(now, 0),
            BreakerState::HalfOpen { probe, .. } => *probe = None,
            BreakerState::Closed => {}
        }
    }

    fn count(&mut self, now: Timestamp, failed: bool) {
        if failed {
            self.consecutive = self.consecutive.saturating_add(1);
        }
        self.window.push(Sample { at: now, failed });
        self.window.retain(|sample| {
            let age = now.since_ms(sample.at);
            (0..=WINDOW_MS).contains(&age)
        });
        let surplus = self.window.len().saturating_sub(WINDOW_MAX);
        self.window.drain(..surplus);
    }

    fn is_over_threshold(&self, now: Timestamp) -> bool {
        let recent = self
            .window
            .iter()
            .filter(|s| now.since_ms(s.at) <= WINDOW_MS);
        let (total, failed) = recent.fold((0, 0), |(n, f), s| (n + 1, f + usize::from(s.failed)));
        self.consecutive >= CONSECUTIVE_MAX || (total >= WINDOW_MIN && failed * 2 >= total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BeadId, Policy, Stage};

    fn pace() -> Pace {
        Policy::default().pace()
    }

    fn failure(class: Class) -> Failure {
        Failure::new(class, Stage::Turn, "x")
    }

    fn dispatch() -> DispatchId {
        DispatchId {
            bead: BeadId::new("b").unwrap(),
            no: 1,
        }
    }

    fn fail(breaker: &mut Breaker, class: Class, at: i64) -> Moved {
        breaker.failed(&failure(class), false, Timestamp(at), &pace(), 0)
    }

    #[test]
    fn three_in_a_row_open_it_and_an_output_in_between_does_not() {
        let mut breaker: Breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, Class::Crash, 1), Moved::No);
        assert_eq!(fail(&mut breaker, Class::Crash, 2), Moved::No);
        for _ in 0..4 {
            breaker.output(&dispatch(), Timestamp(3));
        }
        assert_eq!(fail(&mut breaker, Class::Crash, 4), Moved::No);
        assert_eq!(
            fail(&mut breaker, Class::Crash, 5),
            Moved::Tripped,
            "half of eight failed"
        );
    }

    #[test]
    fn the_cooldown_doubles_until_model_output_closes_it() {
        let mut breaker: Breaker = Breaker::default();
        assert_eq!(fail(&mut breaker, Class::Credentials, 0), Moved::Tripped);
        let wait = |b: &Breaker| match &b.state {
            BreakerState::Open { next_probe, .. } => next_probe.duration_ms,
            _ => panic!("not open"),
        };
        assert_eq!(wait(&breaker), 60_000);
        breaker.check_passed();
        breaker.begin_probe(dispatch(), Timestamp(0), &pace());
        assert_eq!(
            breaker.failed(&failure(Class::Credentials), true, Timestamp(0), &pace(), 0),
            Moved::Reopened
        );
        assert_eq!(wait(&breaker), 120_000);
        breaker.check_passed();
        assert_eq!(breaker.output(&dispatch(), Timestamp(9)), Moved::Closed);
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn retry_after_is_kept_and_bounded() {
        let mut breaker: Breaker = Breaker::default();
        let mut limited = failure(Class::RateLimited);
        limited.retry_after_ms = Some(i64::MAX);
        breaker.failed(&limited, false, Timestamp(0), &pace(), 0);
        assert!(
            matches!(&breaker.state, BreakerState::Open { next_probe, .. }
            if next_probe.duration_ms == pace().cooldown_max_ms)
        );
    }
}
