//! A bench for one rig: it steps, applies, keeps the alarm and collects effects, as a shell does,
//! without faults and with a clock that the test moves.
//!
//! Owns the driving, and that every step of it keeps the invariants. Knows no other expectation;
//! the tests do.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod pair;
pub(crate) mod town;

use std::collections::BTreeSet;

use wellhead_rig::{
    AgentId, Bead, BeadId, Beat, Change, Class, CredentialSource, DispatchId, DispatchOrder,
    DoneReport, Effect, Env, EventType, Failure, Incarnation, Input, NewBead, Outcome, Policy,
    Preflight, Records, Refusal, Refused, Reply, Report, ReviewMode, Rig, RigConfig, Scope, Stage,
    Step, Timestamp, TownId, TurnReport, TurnVerdict, Usage, Who, Work,
    invariants::{self, Look, RigAccount},
};

pub(crate) const MINUTE_MS: i64 = 60_000;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;
/// Where the bench's clock begins.
pub(crate) const EPOCH_MS: i64 = 1_750_000_000_000;

/// One rig on a bench.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) rig: Rig,
    pub(crate) now: Timestamp,
    pub(crate) alarm: Option<Timestamp>,
    /// Effects that the test has not looked at yet.
    pub(crate) effects: Vec<Effect>,
    /// Every event so far.
    pub(crate) events: Vec<EventType>,
    /// When each alarm fired.
    pub(crate) alarms: Vec<Timestamp>,
    account: RigAccount,
    drawn: u128,
}

/// A configuration that works.
pub(crate) fn config() -> RigConfig {
    RigConfig {
        town_id: TownId::new("town").expect("a valid id"),
        name: "rig".to_owned(),
        git_url: "https://git.example/it".to_owned(),
        default_branch: "main".to_owned(),
        model: None,
        review: ReviewMode::Off,
        credentials: CredentialSource::Environment,
    }
}

pub(crate) fn failure(class: Class) -> Failure {
    Failure::new(class, Stage::Turn, format!("{class} for ever"))
}

pub(crate) fn commit() -> Work {
    let sha = "c0ffee".to_owned();
    Work::Commit { sha }
}

pub(crate) fn completed(work: Work) -> Outcome {
    let text = None;
    Outcome::Completed { work, text }
}

pub(crate) fn failed(class: Class) -> Outcome {
    Outcome::Failed {
        failure: failure(class),
        work: Work::None,
    }
}

/// Whoever gives commands in these tests.
pub(crate) fn person() -> Who {
    Who::named("ada")
}

/// The gateway of these tests.
pub(crate) fn gateway() -> Scope {
    let origin = "https://gateway.example".to_owned();
    Scope::Gateway { origin }
}

/// A town that has no slot until then.
pub(crate) fn full(until: Timestamp) -> Outcome {
    let refusal = Refusal::Full { slots: 8 };
    Outcome::Refused { refusal, until }
}

/// Life signs at `now`, with nothing else in them.
pub(crate) fn beat_of(dispatch: &DispatchId) -> Beat {
    Beat {
        dispatch: dispatch.clone(),
        incarnation: Incarnation::new("life-1").expect("a valid id"),
        progress_at: None,
        tool_since: None,
        repeats: 0,
        output: false,
        usage: Usage::default(),
    }
}

pub(crate) fn done_report() -> DoneReport {
    DoneReport {
        branch: "gt/amber/it".to_owned(),
        pr_url: Some("https://git.example/pr/1".to_owned()),
        summary: Some("all of it".to_owned()),
    }
}

impl Bench {
    /// An unconfigured rig.
    pub(crate) fn new() -> Self {
        Self {
            rig: Rig::new(),
            now: Timestamp(EPOCH_MS),
            alarm: None,
            effects: Vec::new(),
            events: Vec::new(),
            alarms: Vec::new(),
            account: RigAccount::default(),
            drawn: 0,
        }
    }

    /// A configured rig whose checks have passed, with one slung bead that is dispatched.
    pub(crate) fn dispatched() -> (Self, DispatchOrder) {
        Self::dispatched_with(config(), Policy::default(), NewBead::issue("the task"))
    }

    pub(crate) fn dispatched_with(
        config: RigConfig,
        policy: Policy,
        new: NewBead,
    ) -> (Self, DispatchOrder) {
        let mut bench = Self::new();
        bench.ok(Input::SetPolicy(policy));
        bench.ok(Input::Configure(config));
        bench.ok(Input::Sling(new));
        bench.answer_checks(&Preflight::Passed);
        let order = bench.dispatch().expect("a dispatch");
        (bench, order)
    }

    /// The same, and its session has begun.
    pub(crate) fn working() -> (Self, DispatchOrder) {
        let (mut bench, order) = Self::dispatched();
        bench.start(&order.dispatch);
        (bench, order)
    }

    pub(crate) fn step(&mut self, input: Input) -> Result<Reply, Refused> {
        self.drawn = self
            .drawn
            .wrapping_add(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let env = Env {
            now: self.now,
            nonce: self.drawn,
        };
        let given = input.clone();
        let step = self.rig.step(input, env)?;
        self.judge(&given, &step);
        self.effects.extend(step.effects);
        for change in step.changes {
            if let Change::Event(event) = change {
                self.events.push(event.event_type);
            }
        }
        Ok(step.reply)
    }

    /// Applies a step, which keeps every invariant.
    fn judge(&mut self, input: &Input, step: &Step) {
        let (rig, now) = (&mut self.rig, self.now);
        let mut judged = invariants::rig_step(rig, input, step, now, u64::MAX, &mut self.account);
        rig.apply(step.changes.iter().cloned());
        self.alarm = rig.next_alarm(now);
        let look = Look {
            alarm: self.alarm,
            now,
            was_alarm: *input == Input::Alarm,
        };
        judged = judged.and_then(|()| invariants::rig_state(rig, look, &self.account));
        assert_eq!(judged, Ok(()), "{input:?}");
    }

    #[track_caller]
    pub(crate) fn ok(&mut self, input: Input) -> Reply {
        self.step(input).expect("accepted")
    }

    /// Refused, and nothing at all has changed.
    #[track_caller]
    pub(crate) fn refused(&mut self, input: Input) -> Refused {
        let before = self.rig.clone();
        let refused = self.step(input).expect_err("refused");
        assert_eq!(self.rig, before);
        refused
    }

    /// Memory as it would be after a restart, by way of the stored form.
    pub(crate) fn restart(&mut self) {
        fn again<T: serde::Serialize + serde::de::DeserializeOwned>(it: &T) -> T {
            let text = serde_json::to_string(it).expect("written");
            serde_json::from_str(&text).expect("read")
        }
        let rig = Rig::from_records(Records {
            record: again(self.rig.record()),
            beads: self.rig.beads().map(again).collect(),
            agents: self.rig.agents().map(again).collect(),
            reviews: self.rig.reviews().map(again).collect(),
            mail: Vec::new(),
        });
        assert_eq!(rig, self.rig, "what is stored is what there is");
        self.rig = rig;
        self.alarm = self.rig.next_alarm(self.now);
    }

    /// A second dispatch beside the first, of a bead of its own.
    pub(crate) fn another(&mut self, title: &str) -> DispatchOrder {
        self.ok(Input::Sling(NewBead::issue(title)));
        self.dispatch().expect("a dispatch")
    }

    /// A life sign of a session that moves and has cost so many tokens so far.
    pub(crate) fn beat(&mut self, dispatch: &DispatchId, tokens: u64) {
        let usage = Usage {
            input_tokens: tokens,
            ..Usage::default()
        };
        let progress_at = Some(self.now);
        self.ok(Input::Heartbeat(Beat {
            progress_at,
            usage,
            ..beat_of(dispatch)
        }));
    }

    /// Open escalations, by their cause.
    pub(crate) fn causes(&self) -> Vec<String> {
        let cause = |bead: &Bead| bead.metadata.get("cause")?.as_str().map(str::to_owned);
        self.rig.open_escalations().filter_map(cause).collect()
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
                self.ok(Input::Alarm);
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

    /// The oldest dispatch that the test has not seen yet; other effects before it are dropped.
    pub(crate) fn dispatch(&mut self) -> Option<DispatchOrder> {
        let at = self
            .effects
            .iter()
            .position(|effect| matches!(effect, Effect::Dispatch(_)))?;
        let effect = self.effects.drain(..=at).next_back();
        match effect {
            Some(Effect::Dispatch(order)) => Some(*order),
            _ => None,
        }
    }

    /// Orders to stop that the test has not seen yet.
    pub(crate) fn stops(&self) -> Vec<DispatchId> {
        let stops = self.effects.iter().filter_map(|effect| match effect {
            Effect::StopAgent { dispatch, .. } => Some(dispatch.clone()),
            _ => None,
        });
        stops.collect()
    }

    /// Answers every check that was asked for; how many there were.
    pub(crate) fn answer_checks(&mut self, result: &Preflight) -> usize {
        let mut numbers = Vec::new();
        self.effects.retain(|effect| match effect {
            Effect::Preflight { no, .. } => {
                numbers.push(*no);
                false
            }
            _ => true,
        });
        for no in &numbers {
            let (no, result) = (*no, result.clone());
            self.ok(Input::PreflightDone { no, result });
        }
        numbers.len()
    }

    pub(crate) fn start(&mut self, dispatch: &DispatchId) -> Reply {
        self.ok(Self::started(dispatch))
    }

    pub(crate) fn started(dispatch: &DispatchId) -> Input {
        Input::AgentStarted {
            dispatch: dispatch.clone(),
            incarnation: Incarnation::new("life-1").expect("a valid id"),
            session: format!("ses-{}", dispatch.no),
        }
    }

    pub(crate) fn over(dispatch: &DispatchId, outcome: Outcome) -> Input {
        Input::AgentDone(Report {
            dispatch: dispatch.clone(),
            outcome,
            session: Some(format!("ses-{}", dispatch.no)),
            output: false,
            usage: Usage::default(),
            phases: Vec::new(),
            last_output: None,
        })
    }

    pub(crate) fn done(order: &DispatchOrder) -> Input {
        Input::Done {
            agent: order.agent.clone(),
            dispatch: Some(order.dispatch.clone()),
            report: done_report(),
        }
    }

    /// The rig's verdict on a turn that left this.
    pub(crate) fn turn(&mut self, order: &DispatchOrder, turn_no: u32, work: Work) -> TurnVerdict {
        let report = TurnReport {
            turn_no,
            work,
            output: true,
        };
        let dispatch = order.dispatch.clone();
        match self.ok(Input::TurnEnded { dispatch, report }) {
            Reply::Turn(verdict) => verdict,
            other => panic!("no verdict: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn bead(&self, id: &BeadId) -> &Bead {
        self.rig.bead(id).expect("the bead")
    }

    /// The hook of an agent, by the bead's id.
    pub(crate) fn hook_of(&self, agent: &AgentId) -> Option<BeadId> {
        self.rig.hook_of(agent).map(|bead| bead.id.clone())
    }

    /// Escalations that were ever made, open or not.
    pub(crate) fn escalations(&self) -> Vec<&Bead> {
        let all = self.rig.beads();
        all.filter(|bead| bead.kind == wellhead_rig::BeadType::Escalation)
            .collect()
    }

    pub(crate) fn count(&self, kind: EventType) -> usize {
        self.events.iter().filter(|event| **event == kind).count()
    }

    /// Alarms at the same time are no alarms: each is later than the one before.
    #[track_caller]
    pub(crate) fn assert_no_hot_loop(&self) {
        let distinct: BTreeSet<_> = self.alarms.iter().collect();
        assert_eq!(distinct.len(), self.alarms.len());
    }
}
