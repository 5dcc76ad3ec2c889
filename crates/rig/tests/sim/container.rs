//! A model of the container: sessions that follow their plan, and a durable record per dispatch.
//!
//! Owns what a rig may rely on: a dispatch number is run at most once, what was never seen is
//! refused for good before that is said, an end is repeated until it is acknowledged. It is also
//! the witness for "one live session per bead". Knows no rig state.

use std::collections::{BTreeMap, BTreeSet};

use wellhead_rig::{
    AgentId, BeadId, Beat, Class, DispatchId, DispatchOrder, DoneReport, Effect, Input, Notice,
    Outcome, Refused, Reply, Report, Timestamp, TurnReport, Usage, Work,
};

use super::{
    plan::{self, Act, Weather},
    rng::Rng,
    words::{external, incarnation, no_one, report},
};

/// How often a session beats, in milliseconds.
const BEAT_MS: i64 = 25_000;

/// What a report is about; its answer comes back under the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Boot(u64),
    Notice(u64),
    Offer,
    Preflight(u64),
    Started(DispatchId),
    Beat(DispatchId),
    Turn(DispatchId, u32),
    Done(DispatchId),
    Over(DispatchId),
    External(DispatchId),
}

/// Something that the container does later; a life that is over does nothing any more.
#[derive(Clone, Debug)]
pub(crate) enum Tick {
    Act(u64, DispatchId, usize),
    Beat(u64, DispatchId),
    Stop(u64, DispatchId),
    Repeat(Key, u32),
    Offer,
}

/// What comes out of the container.
#[expect(clippy::large_enum_variant, reason = "handed on at once")]
pub(crate) enum Out {
    Report(Key, Input),
    Later(i64, Tick),
}

/// What is kept of a dispatch through every crash.
pub(super) struct Record {
    pub(super) agent: AgentId,
    pub(super) over: Option<Report>,
    pub(super) acknowledged: bool,
}

/// A live session; a crash ends it.
pub(super) struct Session {
    pub(super) agent: AgentId,
    pub(super) acts: Vec<(i64, Act)>,
    pub(super) name: String,
    pub(super) start: Start,
    pub(super) pulse: Pulse,
    pub(super) output: bool,
    pub(super) said_done: bool,
    pub(super) work: Work,
    pub(super) turn: u32,
    pub(super) usage: Usage,
    /// A tool runs since then.
    pub(super) tool_since: Option<Timestamp>,
    /// It calls the same tool over and over; how often so far.
    pub(super) repeats: Option<u32>,
    /// Prompts from outside that it has heeded.
    pub(super) heeded: BTreeSet<u32>,
}

/// How far a session's start got.
#[derive(PartialEq)]
pub(super) enum Start {
    Pending,
    Said,
    Heard,
}

/// A session's signs of life.
#[derive(PartialEq)]
pub(super) enum Pulse {
    Moves,
    Beats,
    Mute,
}

/// Where and when something happens to the container.
pub(crate) struct Scene<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) weather: &'a Weather,
    pub(crate) wall: Timestamp,
}

#[derive(Default)]
pub(crate) struct Container {
    pub(super) life: u64,
    pub(super) incarnation_no: u64,
    pub(super) boot_heard: bool,
    pub(super) taken: BTreeSet<u64>,
    pub(super) records: BTreeMap<DispatchId, Record>,
    pub(super) highest: BTreeMap<BeadId, u64>,
    pub(super) sessions: BTreeMap<DispatchId, Session>,
    pub(super) branches: BTreeMap<BeadId, u64>,
    pub(super) notice_no: u64,
    pub(super) notices: BTreeMap<u64, Notice>,
    pub(crate) adopted: u64,
    pub(crate) never_started: u64,
}

impl Container {
    /// Takes an effect durably, once, whatever the number of its copies.
    pub(crate) fn take(
        &mut self,
        no: u64,
        effect: Effect,
        scene: &mut Scene<'_>,
    ) -> Result<Vec<Out>, String> {
        if !self.taken.insert(no) {
            return Ok(Vec::new());
        }
        match effect {
            Effect::Dispatch(order) => self.dispatch(*order, scene),
            Effect::StopAgent {
                dispatch, grace_ms, ..
            } => Ok(self.stop(&dispatch, grace_ms, scene)),
            Effect::Nudge { dispatch, no, .. } => Ok(self.nudge(&dispatch, no, scene)),
            Effect::Preflight { no, config } => Ok(self.preflight(no, &config, scene)),
            Effect::BreakerTripped { .. }
            | Effect::BreakerClosed { .. }
            | Effect::ResetScopes { .. } => Ok(Vec::new()),
        }
    }

    fn dispatch(
        &mut self,
        order: DispatchOrder,
        scene: &mut Scene<'_>,
    ) -> Result<Vec<Out>, String> {
        let id = order.dispatch.clone();
        let highest = self.highest.entry(id.bead.clone()).or_default();
        if id.no <= *highest {
            return Ok(Vec::new());
        }
        *highest = id.no;
        if let Some(other) = self.sessions.keys().find(|live| live.bead == id.bead) {
            return Err(format!("I1: {id} begins while {other} is live"));
        }
        let mut record = Record {
            agent: order.agent.clone(),
            over: None,
            acknowledged: false,
        };
        if scene.rng.chance(scene.weather.refuses) {
            let (refusal, until, mut out) = self.refuse(scene);
            record.over = Some(report(&id, Outcome::Refused { refusal, until }));
            self.records.insert(id.clone(), record);
            out.extend(self.report_over(&id, 0));
            return Ok(out);
        }
        self.records.insert(id.clone(), record);
        let session = Session {
            agent: order.agent,
            acts: plan::draw(scene.rng, scene.weather),
            name: order.resume.unwrap_or_else(|| format!("ses-{id}")),
            start: Start::Pending,
            pulse: Pulse::Moves,
            output: false,
            said_done: false,
            work: Work::None,
            turn: 0,
            usage: Usage::default(),
            tool_since: None,
            repeats: None,
            heeded: BTreeSet::new(),
        };
        let first = session.acts.first().map(|(after, _)| *after);
        self.sessions.insert(id.clone(), session);
        let act = first.map(|after| Out::Later(after, Tick::Act(self.life, id, 0)));
        Ok(act.into_iter().collect())
    }

    fn stop(&mut self, id: &DispatchId, grace_ms: i64, scene: &mut Scene<'_>) -> Vec<Out> {
        let highest = self.highest.entry(id.bead.clone()).or_default();
        match self.records.get(id) {
            Some(record) if record.over.is_some() => self.report_over(id, 0),
            Some(_) => {
                let after = scene.rng.between(0, grace_ms.max(3_000));
                vec![Out::Later(after, Tick::Stop(self.life, id.clone()))]
            }
            None => {
                *highest = id.no.max(*highest);
                self.never_started += 1;
                let never = Record {
                    agent: no_one(),
                    over: Some(report(id, Outcome::NeverStarted)),
                    acknowledged: false,
                };
                self.records.insert(id.clone(), never);
                self.report_over(id, 0)
            }
        }
    }

    /// The end of a dispatch, now and again until it is acknowledged.
    pub(super) fn report_over(&self, id: &DispatchId, tries: u32) -> Vec<Out> {
        let Some(over) = self.records.get(id).and_then(|r| r.over.clone()) else {
            return Vec::new();
        };
        let key = Key::Over(id.clone());
        let again = Tick::Repeat(key.clone(), tries + 1);
        let after = 2_000_i64 << tries.min(7);
        vec![
            Out::Report(key, Input::AgentDone(over)),
            Out::Later(after, again),
        ]
    }

    /// Something that was to happen later.
    pub(crate) fn tick(&mut self, tick: Tick, scene: &mut Scene<'_>) -> Vec<Out> {
        match tick {
            Tick::Act(life, id, index) if life == self.life => self.act(&id, index, scene),
            Tick::Beat(life, id) if life == self.life => self.beat(&id, scene),
            Tick::Stop(life, id) if life == self.life => {
                let Some(session) = self.sessions.get(&id) else {
                    return Vec::new();
                };
                if session.said_done && scene.rng.chance(500) {
                    return self.complete(&id, scene);
                }
                self.fail(&id, Class::Interrupted, scene)
            }
            Tick::Repeat(key, tries) => self.repeat(&key, tries),
            Tick::Offer => vec![Out::Report(Key::Offer, Input::Offered)],
            Tick::Act(..) | Tick::Beat(..) | Tick::Stop(..) => Vec::new(),
        }
    }

    fn repeat(&mut self, key: &Key, tries: u32) -> Vec<Out> {
        match key {
            Key::Boot(no) if *no == self.incarnation_no && !self.boot_heard => self.boot(tries),
            Key::Over(id) if self.records.get(id).is_some_and(|r| !r.acknowledged) => {
                self.report_over(id, tries)
            }
            Key::Turn(id, turn) if self.sessions.get(id).is_some_and(|s| s.turn == *turn) => {
                self.turn(id, tries)
            }
            Key::Notice(no) => self.notify(*no, tries),
            Key::Done(id) if tries < 4 => self.say_done(id, tries),
            _ => Vec::new(),
        }
    }

    fn act(&mut self, id: &DispatchId, index: usize, scene: &mut Scene<'_>) -> Vec<Out> {
        let life = self.life;
        let acts = self.sessions.get(id).map(|s| s.acts.clone());
        // A word after the end is the agent's own, which its tool still carries.
        let Some(acts) = acts else {
            return Vec::new();
        };
        let Some((_, act)) = acts.get(index).copied() else {
            return Vec::new();
        };
        let mut out = self.perform(id, act, scene);
        match acts.get(index + 1) {
            Some((after, Act::Done)) if act == Act::End => {
                out.push(Out::Later(*after, Tick::Repeat(Key::Done(id.clone()), 0)));
            }
            Some((after, _)) => {
                out.push(Out::Later(*after, Tick::Act(life, id.clone(), index + 1)));
            }
            None => {}
        }
        out
    }

    pub(super) fn perform(&mut self, id: &DispatchId, act: Act, scene: &mut Scene<'_>) -> Vec<Out> {
        let commit_no = self.branches.get(&id.bead).copied().unwrap_or(0) + 1;
        let Some(session) = self.sessions.get_mut(id) else {
            return Vec::new();
        };
        let sha = format!("{}-{commit_no}", id.bead);
        match act {
            Act::Start => {
                session.start = Start::Said;
                return self.beat(id, scene);
            }
            Act::Output => session.output = true,
            Act::Commit => {
                session.work = Work::Commit { sha };
                self.branches.insert(id.bead.clone(), commit_no);
            }
            Act::Dirty => {
                session.work = Work::Saved { sha };
                self.branches.insert(id.bead.clone(), commit_no);
            }
            Act::Mute => session.pulse = Pulse::Mute,
            Act::Stall => session.pulse = Pulse::Beats,
            Act::Tool => session.tool_since = Some(scene.wall),
            Act::ToolOver => session.tool_since = None,
            Act::Loop => session.repeats = Some(1),
            Act::Turn => {
                session.turn += 1;
                return self.turn(id, 0);
            }
            Act::Done => {
                session.said_done = true;
                return self.say_done(id, 0);
            }
            Act::End => return self.complete(id, scene),
            Act::Fail(class) => return self.fail(id, class, scene),
            Act::ReportedOver(ok) => return external(id, &session.agent, ok),
        }
        Vec::new()
    }

    /// A beat, with the report of the start in front of it until that is heard.
    fn beat(&mut self, id: &DispatchId, scene: &mut Scene<'_>) -> Vec<Out> {
        let incarnation = incarnation(self.incarnation_no);
        let Some(session) = self
            .sessions
            .get_mut(id)
            .filter(|s| s.start != Start::Pending && s.pulse != Pulse::Mute)
        else {
            return Vec::new();
        };
        let mut out = vec![Out::Later(BEAT_MS, Tick::Beat(self.life, id.clone()))];
        // Nothing of a life is said before the rig has heard of that life.
        if !self.boot_heard && self.incarnation_no > 0 {
            return out;
        }
        if session.start == Start::Said {
            let started = Input::AgentStarted {
                dispatch: id.clone(),
                incarnation: incarnation.clone(),
                session: session.name.clone(),
            };
            out.push(Out::Report(Key::Started(id.clone()), started));
        }
        session.usage.output_tokens += u64::try_from(scene.rng.between(0, 30)).unwrap_or(0);
        session.repeats = session.repeats.map(|times| times + 3);
        let progress_at = (session.pulse == Pulse::Moves).then_some(scene.wall);
        let beat = Beat {
            dispatch: id.clone(),
            incarnation,
            progress_at,
            tool_since: session.tool_since,
            repeats: session.repeats.unwrap_or(0),
            output: session.output,
            usage: session.usage,
        };
        out.push(Out::Report(Key::Beat(id.clone()), Input::Heartbeat(beat)));
        out
    }

    pub(super) fn work_of(&self, id: &DispatchId, fresh: &Work) -> Work {
        let commit_no = self.branches.get(&id.bead).copied().unwrap_or(0);
        if fresh.is_fresh() || commit_no == 0 {
            return fresh.clone();
        }
        let sha = format!("{}-{commit_no}", id.bead);
        Work::Earlier { sha }
    }

    pub(super) fn turn(&self, id: &DispatchId, tries: u32) -> Vec<Out> {
        let Some(session) = self.sessions.get(id) else {
            return Vec::new();
        };
        let report = TurnReport {
            turn_no: session.turn,
            work: self.work_of(id, &session.work),
            output: session.output,
        };
        let dispatch = id.clone();
        let key = Key::Turn(id.clone(), session.turn);
        let again = Tick::Repeat(key.clone(), tries + 1);
        vec![
            Out::Report(key, Input::TurnEnded { dispatch, report }),
            Out::Later(3_000_i64 << tries.min(6), again),
        ]
    }

    fn say_done(&self, id: &DispatchId, tries: u32) -> Vec<Out> {
        let Some(record) = self.records.get(id) else {
            return Vec::new();
        };
        let report = DoneReport {
            branch: format!("gt/{}", id.bead),
            pr_url: None,
            summary: Some(format!("done by {id}")),
        };
        let (agent, dispatch) = (record.agent.clone(), Some(id.clone()));
        let key = Key::Done(id.clone());
        let again = Tick::Repeat(key.clone(), tries + 1);
        let done = Input::Done {
            agent,
            dispatch,
            report,
        };
        vec![Out::Report(key, done), Out::Later(2_000, again)]
    }

    /// The rig's answer to a report arrived.
    pub(crate) fn answered(
        &mut self,
        key: &Key,
        answer: &Result<Reply, Refused>,
        scene: &mut Scene<'_>,
    ) -> Vec<Out> {
        match (key, answer) {
            (Key::Boot(no), _) if *no == self.incarnation_no => self.boot_heard = true,
            (Key::Notice(no), _) => drop(self.notices.remove(no)),
            (Key::Over(id), _) => {
                if let Some(record) = self.records.get_mut(id) {
                    record.acknowledged = true;
                }
            }
            (Key::Started(id), Ok(_)) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.start = Start::Heard;
                }
            }
            (Key::Started(id) | Key::Turn(id, _), Err(_)) => {
                return self.fail(id, Class::Interrupted, scene);
            }
            (Key::Turn(id, turn), Ok(Reply::Turn(verdict))) => {
                return self.heed(id, *turn, verdict, scene);
            }
            _ => {}
        }
        Vec::new()
    }

    /// Sessions that are alive, for the witness.
    pub(crate) fn live(&self) -> impl Iterator<Item = &DispatchId> {
        self.sessions.keys()
    }
}
