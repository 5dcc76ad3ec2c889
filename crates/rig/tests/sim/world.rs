//! One seed: a rig, its disk, a container, a network that delays, loses, doubles and reorders, a
//! clock that jumps, and crashes at every point between a decision and its delivery.
//!
//! Owns the order of events in virtual time. `run` is the whole story of a seed: chaos first, then
//! everything is mended and days go by. Judges nothing; the
//! crate's `invariants` do.

use std::collections::BTreeMap;

use wellhead_rig::{
    AgentId, Budget, Change, Effect, Env, Input, Phase, Refused, Reply, Rig, Step, Timestamp,
    invariants::{self, Look, RigAccount},
};

use super::{
    container::{Container, Key, Scene, Tick},
    disk::Disk,
    observe, people,
    plan::Weather,
    rng::Rng,
    stats::Stats,
};

/// Where virtual time begins: a plausible day, so that days of the calendar pass as well.
const EPOCH_MS: i64 = 1_750_000_000_000;
pub(super) const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// More steps than this after everything is mended is a loop that never ends.
const CALM_STEPS_MAX: u64 = 20_000;

/// Something on its way.
pub(super) enum Event {
    /// An effect reaches the container.
    Arrives(u64, Effect),
    /// The outbox sends what was not acknowledged.
    Resend(u64, u32),
    /// The container has taken an effect.
    Taken(u64),
    /// A report reaches the rig.
    Report(Key, Input),
    /// An answer reaches the container.
    Answer(Key, Result<Reply, Refused>),
    /// The container's own time.
    Tick(Tick),
    /// A person does something.
    Person,
    /// Something breaks.
    Fault,
}

pub(crate) struct World {
    pub(super) rng: Rng,
    pub(crate) stats: Stats,
    /// What happened, line by line, where that is wanted.
    pub(crate) trace: Option<Vec<String>>,
    pub(super) t: i64,
    pub(super) offset: i64,
    pub(super) rig: Rig,
    pub(super) disk: Disk,
    pub(super) container: Container,
    pub(super) weather: Weather,
    pub(super) account: RigAccount,
    pub(super) queue: BTreeMap<(i64, u64), Event>,
    pub(super) sent: u64,
    pub(super) chaos: bool,
    pub(super) faults: u64,
    pub(super) jumped: bool,
    pub(super) alarm_lag: i64,
    pub(super) past: Vec<Input>,
    pub(super) encoded: bool,
    /// Each so many steps the rig is put aside, as it is after that step.
    sample_every: Option<u64>,
    samples: Vec<(Rig, Timestamp)>,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, keeps_trace: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, keeps_trace);
    let result = world.play();
    world.stats.seeds = 1;
    world.stats.seeds_with_crash = u64::from(world.stats.crashes > 0);
    (world, result)
}

/// Rigs as they are on their way through one seed, each with its time.
pub(crate) fn samples(seed: u64, every: u64) -> Vec<(Rig, Timestamp)> {
    let mut world = World::new(seed, false);
    world.sample_every = Some(every);
    let result = world.play();
    assert_eq!(result, Ok(()), "seed {seed}");
    world.samples
}

impl World {
    fn new(seed: u64, keeps_trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng);
        let faults = rng.pick(&[0, 20, 60, 150]).unwrap_or(20);
        Self {
            rng,
            stats: Stats::default(),
            trace: keeps_trace.then(Vec::new),
            t: 0,
            offset: EPOCH_MS,
            rig: Rig::new(),
            disk: Disk::default(),
            container: Container::default(),
            weather,
            account: RigAccount::default(),
            queue: BTreeMap::new(),
            sent: 0,
            chaos: true,
            faults,
            jumped: false,
            alarm_lag: 0,
            past: Vec::new(),
            encoded: false,
            sample_every: None,
            samples: Vec::new(),
        }
    }

    fn play(&mut self) -> Result<(), String> {
        let (config, policy) = (
            people::config(&mut self.rng, false),
            people::policy(&mut self.rng),
        );
        self.person_does(&Input::SetPolicy(policy))?;
        if self.rng.chance(850) {
            self.person_does(&Input::Configure(config))?;
        }
        self.schedule(0, Event::Person);
        self.schedule(MINUTE_MS, Event::Fault);
        let steps = 110 + u64::try_from(self.rng.between(0, 80)).unwrap_or(0);
        while self.stats.steps < steps {
            self.advance(i64::MAX)?;
        }
        self.mend()?;
        let end = self.t + 3 * DAY_MS;
        let stop = self.stats.steps + CALM_STEPS_MAX;
        while self.advance(end)? {
            if self.stats.steps > stop {
                return Err("the rig does not come to rest".to_owned());
            }
        }
        self.judge_the_end()
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.t.saturating_add(self.offset))
    }

    pub(super) fn note(&mut self, words: impl FnOnce() -> String) {
        let at = self.t;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{at:>9} {}", words()));
        }
    }

    pub(super) fn schedule(&mut self, after: i64, event: Event) {
        self.sent += 1;
        self.queue.insert((self.t + after.max(0), self.sent), event);
    }

    /// Moves to the next thing that happens, the alarm included; `false` when there is none
    /// before `end`.
    fn advance(&mut self, end: i64) -> Result<bool, String> {
        if self.jumped {
            self.jumped = self.input(&Input::ClockJumped)?.is_none();
            return Ok(true);
        }
        let next = self.queue.first_key_value().map(|(at, _)| *at);
        let alarm = self.disk.alarm.map(|at| {
            let due = at.0.saturating_sub(self.offset).max(self.t);
            due.saturating_add(self.alarm_lag)
        });
        let first = next.map(|(at, _)| at).into_iter().chain(alarm).min();
        let Some(first) = first.filter(|at| *at <= end) else {
            return Ok(false);
        };
        self.t = self.t.max(first);
        if alarm == Some(first) {
            self.input(&Input::Alarm)?;
            return Ok(true);
        }
        if let Some(event) = next.and_then(|key| self.queue.remove(&key)) {
            self.happen(event)?;
        }
        Ok(true)
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrives(no, effect) => self.arrive(no, effect)?,
            Event::Resend(no, tries) => self.resend(no, tries),
            Event::Taken(no) => {
                self.disk.outbox.remove(&no);
            }
            Event::Report(key, input) => self.report(key, &input)?,
            Event::Answer(key, answer) => {
                let out = self.with_container(|c, scene| c.answered(&key, &answer, scene));
                self.emit(out);
            }
            Event::Tick(tick) => {
                let out = self.with_container(|c, scene| c.tick(tick, scene));
                self.emit(out);
            }
            Event::Person if self.chaos => {
                let command = people::command(&mut self.rng, &self.rig);
                self.person_does(&command)?;
                let after = self.rng.pick(&[500, 5_000, 60_000, 600_000]).unwrap_or(0);
                let after = self.rng.between(1, after);
                self.schedule(after, Event::Person);
            }
            Event::Fault if self.chaos => self.fault(),
            Event::Person | Event::Fault => {}
        }
        Ok(())
    }

    pub(super) fn with_container<T>(
        &mut self,
        act: impl FnOnce(&mut Container, &mut Scene<'_>) -> T,
    ) -> T {
        let wall = self.now();
        let mut scene = Scene {
            rng: &mut self.rng,
            weather: &self.weather,
            wall,
        };
        act(&mut self.container, &mut scene)
    }

    fn person_does(&mut self, input: &Input) -> Result<(), String> {
        if matches!(input, Input::Retry { .. }) {
            let retried = matches!(self.input(input)?, Some(Ok(_)));
            if retried {
                self.stats.saw("retried");
            }
            return Ok(());
        }
        self.input(input).map(|_| ())
    }

    /// One step as a shell does it: decide, commit, then let effects and the answer leave.
    /// `None` when the rig crashed and nobody got an answer.
    pub(super) fn input(
        &mut self,
        input: &Input,
    ) -> Result<Option<Result<Reply, Refused>>, String> {
        let now = self.now();
        let nonce = self.rng.nonce();
        self.stats.steps += 1;
        self.note(|| format!("{now:?} <- {input:?}"));
        let step = match self.rig.step(input.clone(), Env { now, nonce }) {
            Ok(step) => step,
            Err(refused) => {
                self.note(|| format!("          refused: {refused}"));
                self.stats.refused += 1;
                invariants::rig_refusal(&self.rig, input)?;
                if matches!(refused, Refused::Stale(_)) {
                    self.stats.saw("stale refused");
                }
                return Ok(Some(Err(refused)));
            }
        };
        if self.chaos && self.rng.chance(self.faults / 2) {
            self.crash("crash before commit")?;
            return Ok(None);
        }
        invariants::rig_step(&self.rig, input, &step, now, u64::MAX, &mut self.account)?;
        observe::step(&mut self.stats, &self.rig, input, &step);
        self.commit(input, &step, now)?;
        Ok(self.act(step)?.map(Ok))
    }

    fn commit(&mut self, input: &Input, step: &Step, now: Timestamp) -> Result<(), String> {
        let first = self
            .disk
            .commit(&step.changes, &step.effects)?
            .first()
            .copied();
        self.rig.apply(step.changes.iter().cloned());
        self.disk.alarm = self.rig.next_alarm(now);
        let lagging = self.chaos && self.rng.chance(100);
        self.alarm_lag = if lagging {
            self.rng.between(1, 5_000)
        } else {
            0
        };
        let (alarm, was_alarm) = (self.disk.alarm, *input == Input::Alarm);
        self.note(|| format!("          {:?}, alarm {alarm:?}", step.reply));
        let look = Look {
            alarm,
            now,
            was_alarm,
        };
        invariants::rig_state(&self.rig, look, &self.account)?;
        self.check_disk(step)?;
        if self
            .sample_every
            .is_some_and(|every| self.stats.steps.is_multiple_of(every))
        {
            self.samples.push((self.rig.clone(), now));
        }
        for no in first.into_iter().flat_map(|no| no..) {
            if !self.disk.outbox.contains_key(&no) {
                break;
            }
            self.schedule(2_000, Event::Resend(no, 1));
        }
        Ok(())
    }

    /// What was written is what is in memory, record by record.
    fn check_disk(&self, step: &Step) -> Result<(), String> {
        let equal = self.disk.record() == *self.rig.record()
            && step.changes.iter().all(|change| match change {
                Change::Bead(bead) => self.rig.bead(&bead.id) == self.disk.beads.get(&bead.id),
                Change::BeadDeleted(id) => self.rig.bead(id).is_none(),
                Change::Agent(agent) => {
                    self.rig.agent(&agent.id) == self.disk.agents.get(&agent.id)
                }
                Change::AgentDeleted(id) => self.rig.agent(id).is_none(),
                Change::Review(entry) => {
                    self.rig.review(&entry.id) == self.disk.reviews.get(&entry.id)
                }
                Change::Mail(mail) => self.same_mail(&mail.to),
                Change::MailDeleted { to, .. } => self.same_mail(to),
                Change::Rig(_) | Change::Event(_) | Change::AgentEvent(_) => true,
            });
        if equal {
            Ok(())
        } else {
            Err("I9: memory and disk differ".to_owned())
        }
    }

    fn same_mail(&self, to: &AgentId) -> bool {
        let kept = self.disk.mail.values().filter(|mail| mail.to == *to);
        self.rig.mail_of(to).eq(kept)
    }

    /// Effects and the answer leave, unless the rig dies first.
    fn act(&mut self, step: Step) -> Result<Option<Reply>, String> {
        if self.chaos && self.rng.chance(self.faults / 2) {
            self.crash("crash after commit")?;
            return Ok(None);
        }
        let count = step.effects.len();
        let newest: Vec<u64> = self.disk.outbox.keys().rev().take(count).copied().collect();
        for (no, effect) in newest.into_iter().rev().zip(&step.effects) {
            self.note(|| format!("          -> {no}: {effect:?}"));
            self.send(no, effect);
        }
        Ok(Some(step.reply))
    }

    /// Everything works from here on: network, container, gateway, configuration.
    fn mend(&mut self) -> Result<(), String> {
        self.note(|| "everything is mended".to_owned());
        self.chaos = false;
        self.weather = Weather::fair();
        for _ in 0..self.container.adopted {
            self.stats.saw("container adopted");
        }
        for _ in 0..self.container.never_started {
            self.stats.saw("never started");
        }
        let (by, budget) = (people::person(), Budget::default());
        self.person_does(&Input::Resume { by: by.clone() })?;
        self.person_does(&Input::SetBudget { budget, by })?;
        let config = people::config(&mut self.rng, true);
        self.person_does(&Input::Configure(config))
    }

    /// Liveness: whatever could be worked on is at its end, and then the rig is silent.
    fn judge_the_end(&mut self) -> Result<(), String> {
        let open: Vec<_> = self.rig.unfinished().cloned().collect();
        for bead in &open {
            let waits_for_a_person = matches!(
                bead.phase,
                Phase::Open | Phase::Held | Phase::InReview { .. }
            );
            if !waits_for_a_person {
                return Err(format!("liveness: {} is {:?}", bead.id, bead.phase));
            }
        }
        if let Some(live) = self.container.live().next() {
            return Err(format!("liveness: {live} is still alive"));
        }
        if let Some(effect) = self.disk.outbox.values().next() {
            return Err(format!("liveness: nobody took {effect:?}"));
        }
        for bead in open {
            let (bead, by) = (bead.id, None);
            self.person_does(&Input::Close { bead, by })?;
        }
        match self.disk.alarm {
            None => self.reload(),
            Some(at) => Err(format!("I3: all work is terminal, alarm at {at:?}")),
        }
    }
}
