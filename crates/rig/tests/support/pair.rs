//! A rig and its town on one bench, with a container between them whose sessions all end alike.
//!
//! Owns the way of every message between the two. Knows no expectation; the tests do.

use wellhead_rig::{
    BeadType, Effect, Failure, Input, Outcome, Preflight, Report, Timestamp, Work,
    town::{Ask, Taken, TownEffect, TownInput, TownReply},
};

use super::{
    Bench,
    town::{TownBench, report, rig, scopes},
};

/// The rig's name in its town.
const NAME: &str = "rig";

/// See the file's head.
pub(crate) struct Pair {
    pub(crate) bench: Bench,
    pub(crate) town: TownBench,
    /// What every session ends with, and every check of ours finds.
    failure: Option<Failure>,
    /// Whether a check sees what is wrong.
    is_seen: bool,
    /// When each session began.
    pub(crate) began: Vec<Timestamp>,
    /// When each check of a scope was made.
    pub(crate) checked: Vec<Timestamp>,
}

impl Pair {
    pub(crate) fn new(bench: Bench, failure: Failure, is_seen: bool) -> Self {
        Self {
            bench,
            town: TownBench::new(),
            failure: Some(failure),
            is_seen,
            began: Vec::new(),
            checked: Vec::new(),
        }
    }

    /// Whatever was wrong is mended.
    pub(crate) fn mend(&mut self) {
        self.failure = None;
    }

    /// Runs until nothing happens any more, or until `end`.
    pub(crate) fn run(&mut self, end: Timestamp) {
        loop {
            self.deliver();
            let next = [self.bench.alarm, self.town.alarm];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= end) else {
                return;
            };
            self.bench.now = self.bench.now.max(next);
            self.town.now = self.bench.now;
            assert!(self.began.len() <= 200, "it goes on for ever");
            let now = self.bench.now;
            if self.bench.alarm.is_some_and(|at| at <= now) {
                self.bench.next_alarm(now);
            }
            if self.town.alarm.is_some_and(|at| at <= now) {
                self.town.next_alarm(now);
            }
        }
    }

    fn deliver(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "they talk for ever");
            let (ours, theirs) = (
                std::mem::take(&mut self.bench.effects),
                std::mem::take(&mut self.town.effects),
            );
            if ours.is_empty() && theirs.is_empty() {
                return;
            }
            for effect in ours {
                self.leaves_rig(effect);
            }
            for effect in theirs {
                self.leaves_town(effect);
            }
        }
    }

    fn leaves_rig(&mut self, effect: Effect) {
        match effect {
            Effect::Dispatch(order) => {
                let (dispatch, prompts) = (order.dispatch, order.prompts);
                let ask = Ask {
                    prompts,
                    ..super::town::ask()
                };
                if self.town.take_as(NAME, dispatch.clone(), ask) == Taken::Fresh {
                    self.live(dispatch);
                }
            }
            Effect::Preflight { no, .. } => {
                let (rig, scopes) = (rig(NAME), scopes());
                let held = self.town.step(TownInput::AskCheck { rig, scopes });
                let TownReply::Held(held) = held else {
                    panic!("no answer: {held:?}")
                };
                let result = match held {
                    Some((refusal, until)) => Preflight::Held { refusal, until },
                    None => Preflight::Passed,
                };
                self.bench.ok(Input::PreflightDone { no, result });
            }
            _ => {}
        }
    }

    /// A session as they all are: it starts, and fails a second later, or works for ever.
    fn live(&mut self, dispatch: wellhead_rig::DispatchId) {
        self.began.push(self.bench.now);
        self.bench.start(&dispatch);
        self.bench.pass(1_000);
        self.town.now = self.bench.now;
        let outcome = match self.failure.clone() {
            Some(failure) => {
                let work = Work::None;
                Outcome::Failed { failure, work }
            }
            None => super::completed(super::commit()),
        };
        let output = self.failure.is_none();
        let over = report(dispatch, outcome);
        self.town.finish_as(NAME, Report { output, ..over });
    }

    fn leaves_town(&mut self, effect: TownEffect) {
        match effect {
            TownEffect::Report { report, .. } => {
                let (rig, dispatch) = (rig(NAME), report.dispatch.clone());
                self.bench.ok(Input::AgentDone(*report));
                self.town.step(TownInput::Told { rig, dispatch });
            }
            TownEffect::Offer { .. } => drop(self.bench.ok(Input::Offered)),
            TownEffect::Notify { no, notice, .. } => {
                self.bench.ok(Input::Noticed { no, notice });
            }
            TownEffect::CheckScope { no, .. } => {
                self.checked.push(self.bench.now);
                let found = self.failure.clone().filter(|_| self.is_seen);
                self.town.checked(no, found);
            }
            TownEffect::AnswerOffline { .. } | TownEffect::EndSession { .. } => {}
        }
    }

    /// The one bead that is work.
    pub(crate) fn bead(&self) -> &wellhead_rig::Bead {
        let mut beads = self.bench.rig.beads();
        beads
            .find(|bead| bead.kind == BeadType::Issue)
            .expect("the bead")
    }
}
