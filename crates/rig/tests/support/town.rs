//! A bench for one town: it steps, applies, keeps the alarm and collects effects, as a shell does,
//! without faults and with a clock that the test moves.
//!
//! Owns the driving, and that every step of it keeps the invariants. Knows no rig, and no other
//! expectation; the tests do.

use wellhead_rig::{
    BeadId, DispatchId, Env, Failure, Limit, Notice, Outcome, Refusal, Report, RigId, Scope,
    Scopes, Timestamp, Usage,
    invariants::{self, Look, TownAccount},
    town::{
        Ask, Berth, Entry, EntryState, Guard, Taken, Town, TownEffect, TownInput, TownPolicy,
        TownReply, TownStep,
    },
};

use super::{EPOCH_MS, config};

pub(crate) const GATEWAY: &str = "https://gateway.example";

/// One town on a bench.
#[derive(Clone)]
pub(crate) struct TownBench {
    pub(crate) town: Town,
    pub(crate) now: Timestamp,
    pub(crate) alarm: Option<Timestamp>,
    /// Effects that the test has not looked at yet.
    pub(crate) effects: Vec<TownEffect>,
    /// When each alarm fired.
    pub(crate) alarms: Vec<Timestamp>,
    account: TownAccount,
    drawn: u128,
}

pub(crate) fn rig(name: &str) -> RigId {
    RigId::new(name).expect("a valid id")
}

/// The `no`-th dispatch of a bead of that name.
pub(crate) fn dispatch(bead: &str, no: u64) -> DispatchId {
    let bead = BeadId::new(bead).expect("a valid id");
    DispatchId { bead, no }
}

/// What all rigs of these tests share, unless a test says otherwise.
pub(crate) fn scopes() -> Scopes {
    Scopes {
        credential: "environment".to_owned(),
        gateway: GATEWAY.to_owned(),
        model: None,
    }
}

pub(crate) fn ask() -> Ask {
    Ask {
        scopes: scopes(),
        config: config(),
        prompts: 1,
    }
}

pub(crate) fn used(tokens: u64) -> Usage {
    Usage {
        input_tokens: tokens,
        ..Usage::default()
    }
}

pub(crate) fn tokens(tokens: u64) -> Limit {
    Limit {
        tokens: Some(tokens),
        usd: None,
    }
}

impl TownBench {
    pub(crate) fn new() -> Self {
        Self {
            town: Town::new(),
            now: Timestamp(EPOCH_MS),
            alarm: None,
            effects: Vec::new(),
            alarms: Vec::new(),
            account: TownAccount::default(),
            drawn: 0,
        }
    }

    pub(crate) fn with_policy(policy: TownPolicy) -> Self {
        let mut bench = Self::new();
        bench.step(TownInput::SetPolicy {
            policy,
            by: wellhead_rig::Who::named("somebody"),
        });
        bench
    }

    /// A town with so many slots.
    pub(crate) fn with_slots(slots_max: u32) -> Self {
        Self::with_policy(TownPolicy {
            slots_max,
            ..TownPolicy::default()
        })
    }

    pub(crate) fn step(&mut self, input: TownInput) -> TownReply {
        self.drawn = self
            .drawn
            .wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let env = Env {
            now: self.now,
            nonce: self.drawn,
        };
        let given = input.clone();
        let step = self.town.step(input, env);
        self.judge(&given, &step);
        self.effects.extend(step.effects);
        step.reply
    }

    /// Applies a step, which keeps every invariant.
    fn judge(&mut self, input: &TownInput, step: &TownStep) {
        let (town, now) = (&mut self.town, self.now);
        let mut judged = invariants::town_step(town, input, step, now, u64::MAX, &mut self.account);
        town.apply(step.changes.iter().cloned());
        self.alarm = town.next_alarm(now);
        let look = Look {
            alarm: self.alarm,
            now,
            was_alarm: *input == TownInput::Alarm,
        };
        judged = judged.and_then(|()| invariants::town_state(town, look, &self.account));
        assert_eq!(judged, Ok(()), "{input:?}");
    }

    /// Memory as it would be after a restart, by way of the stored form.
    pub(crate) fn restarted(&self) -> Town {
        let text = serde_json::to_string(self.town.record()).expect("written");
        let record = serde_json::from_str(&text).expect("read");
        let entries = self.town.entries().map(|entry| {
            let text = serde_json::to_string(entry).expect("written");
            serde_json::from_str::<Entry>(&text).expect("read")
        });
        Town::from_records(record, entries)
    }

    pub(crate) fn pass(&mut self, ms: i64) {
        self.now = self.now.plus_ms(ms);
    }

    /// Moves to the next alarm and fires it; `false` where none is due until `end`.
    pub(crate) fn next_alarm(&mut self, end: Timestamp) -> bool {
        match self.alarm {
            Some(at) if at <= end => {
                self.now = self.now.max(at);
                self.alarms.push(self.now);
                self.step(TownInput::Alarm);
                true
            }
            _ => false,
        }
    }

    /// Fires every alarm of that time and ends at its end.
    pub(crate) fn run_for(&mut self, ms: i64) {
        let end = self.now.plus_ms(ms);
        while self.next_alarm(end) {}
        self.now = end;
    }

    /// The first dispatch of that rig's bead `bead`.
    pub(crate) fn take(&mut self, rig_name: &str, bead: &str) -> Taken {
        self.take_as(rig_name, dispatch(bead, 1), ask())
    }

    pub(crate) fn take_as(&mut self, rig_name: &str, dispatch: DispatchId, ask: Ask) -> Taken {
        let rig = rig(rig_name);
        match self.step(TownInput::Take { rig, dispatch, ask }) {
            TownReply::Taken(taken) => taken,
            other => panic!("not taken: {other:?}"),
        }
    }

    /// Why a dispatch was refused, and until when.
    #[track_caller]
    pub(crate) fn refusal(&self, rig_name: &str, bead: &str) -> (Refusal, Timestamp) {
        let entry = self.town.entry(&rig(rig_name), &dispatch(bead, 1));
        match &entry.expect("an entry").state {
            EntryState::Over { report, .. } => match &report.outcome {
                Outcome::Refused { refusal, until } => (refusal.clone(), *until),
                other => panic!("not refused: {other:?}"),
            },
            EntryState::Taken(_) => panic!("it runs"),
        }
    }

    pub(crate) fn output(&mut self, rig_name: &str, bead: &str) {
        let (rig, dispatch) = (rig(rig_name), dispatch(bead, 1));
        self.step(TownInput::Output { rig, dispatch });
    }

    pub(crate) fn offline(&mut self, rig_name: &str, bead: &str) {
        self.step(TownInput::Offline {
            rig: rig(rig_name),
            dispatch: dispatch(bead, 1),
            text: "no route".to_owned(),
        });
    }

    pub(crate) fn used(&mut self, rig_name: &str, bead: &str, tokens: u64) {
        self.step(TownInput::Used {
            rig: rig(rig_name),
            dispatch: dispatch(bead, 1),
            usage: used(tokens),
        });
    }

    pub(crate) fn finish(&mut self, rig_name: &str, bead: &str, outcome: Outcome) {
        self.finish_as(rig_name, report(dispatch(bead, 1), outcome));
    }

    pub(crate) fn finish_as(&mut self, rig_name: &str, report: Report) {
        let rig = rig(rig_name);
        self.step(TownInput::Finish { rig, report });
    }

    pub(crate) fn checked(&mut self, no: u64, failure: Option<Failure>) {
        self.step(TownInput::ScopeChecked { no, failure });
    }

    #[track_caller]
    pub(crate) fn guard(&self, scope: &Scope) -> &Guard {
        self.town.record().guard(scope).expect("a breaker")
    }

    #[track_caller]
    pub(crate) fn berth(&self, rig_name: &str, bead: &str) -> &Berth {
        let entry = self.town.entry(&rig(rig_name), &dispatch(bead, 1));
        entry.and_then(Entry::berth).expect("it runs")
    }

    /// Closed, or as new and forgotten.
    pub(crate) fn is_closed(&self, scope: &Scope) -> bool {
        let guard = self.town.record().guard(scope);
        guard.is_none_or(|guard| guard.breaker.is_closed())
    }

    fn drain<T>(&mut self, pick: impl Fn(&TownEffect) -> Option<T>) -> Vec<T> {
        let picked = self.effects.iter().filter_map(&pick).collect();
        self.effects.retain(|effect| pick(effect).is_none());
        picked
    }

    /// Rigs that were offered room since the last look.
    pub(crate) fn offers(&mut self) -> Vec<String> {
        self.drain(|effect| match effect {
            TownEffect::Offer { rig } => Some(rig.to_string()),
            _ => None,
        })
    }

    /// Checks that were asked for since the last look.
    pub(crate) fn checks(&mut self) -> Vec<(u64, Scope)> {
        self.drain(|effect| match effect {
            TownEffect::CheckScope { no, scope, .. } => Some((*no, scope.clone())),
            _ => None,
        })
    }

    /// Sessions that the town ended since the last look, and why.
    pub(crate) fn ended(&mut self) -> Vec<(String, Failure)> {
        self.drain(|effect| match effect {
            TownEffect::EndSession { rig, failure, .. } => Some((rig.to_string(), failure.clone())),
            _ => None,
        })
    }

    /// Offline waits that were answered since the last look.
    pub(crate) fn answered(&mut self) -> Vec<String> {
        self.drain(|effect| match effect {
            TownEffect::AnswerOffline { rig, .. } => Some(rig.to_string()),
            _ => None,
        })
    }

    /// Notices since the last look.
    pub(crate) fn notices(&mut self) -> Vec<(String, Notice)> {
        self.drain(|effect| match effect {
            TownEffect::Notify { rig, notice, .. } => Some((rig.to_string(), notice.clone())),
            _ => None,
        })
    }

    /// Outcomes that were reported since the last look.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        self.drain(|effect| match effect {
            TownEffect::Report { report, .. } => Some((**report).clone()),
            _ => None,
        })
    }
}

/// A report with nothing but its outcome.
pub(crate) fn report(dispatch: DispatchId, outcome: Outcome) -> Report {
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
