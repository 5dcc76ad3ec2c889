//! One seed: a rig, its disk, a container, a network that delays, loses, doubles and reorders, a
//! clock that jumps, and crashes at every point between a decision and its delivery.
//!
//! Owns the order of events in virtual time. `run` is the whole story of a seed: chaos first, then
//! everything is mended and days go by. Judges nothing; `checks` does.

use std::collections::BTreeMap;

use wellhead_rig::{
    BreakerState, Change, Effect, Env, Input, Outcome, Phase, Refused, Reply, Rig, Step, Timestamp,
    TurnVerdict,
};

use super::{
    checks::Checks,
    container::{Container, Key, Out, Scene, Tick},
    disk::Disk,
    people,
    plan::Weather,
    rng::Rng,
    stats::Stats,
};

/// Where virtual time begins: a plausible day, so that days of the calendar pass as well.
const EPOCH_MS: i64 = 1_750_000_000_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;
/// More steps than this after everything is mended is a loop that never ends.
const CALM_STEPS_MAX: u64 = 20_000;

/// Something on its way.
enum Event {
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
    rng: Rng,
    pub(crate) stats: Stats,
    pub(crate) trace: Vec<String>,
    keeps_trace: bool,
    t: i64,
    offset: i64,
    rig: Rig,
    disk: Disk,
    container: Container,
    weather: Weather,
    checks: Checks,
    queue: BTreeMap<(i64, u64), Event>,
    sent: u64,
    chaos: bool,
    faults: u64,
    jumped: bool,
    alarm_lag: i64,
    past: Vec<Input>,
    encoded: bool,
}

/// Runs one seed to its end.
pub(crate) fn run(seed: u64, keeps_trace: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, keeps_trace);
    let result = world.play();
    world.stats.seeds = 1;
    world.stats.seeds_with_crash = u64::from(world.stats.crashes > 0);
    (world, result)
}

impl World {
    fn new(seed: u64, keeps_trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let weather = Weather::draw(&mut rng);
        let faults = rng.pick(&[0, 20, 60, 150]).unwrap_or(20);
        Self {
            rng,
            stats: Stats::default(),
            trace: Vec::new(),
            keeps_trace,
            t: 0,
            offset: EPOCH_MS,
            rig: Rig::new(),
            disk: Disk::default(),
            container: Container::default(),
            weather,
            checks: Checks::default(),
            queue: BTreeMap::new(),
            sent: 0,
            chaos: true,
            faults,
            jumped: false,
            alarm_lag: 0,
            past: Vec::new(),
            encoded: false,
        }
    }

    fn play(&mut self) -> Result<(), String> {
        let (config, policy) = (
            people::config(&mut self.rng, false),
            people::policy(&mut self.rng),
        );
        self.person_does(Input::SetPolicy(policy))?;
        if self.rng.chance(850) {
            self.person_does(Input::Configure(config))?;
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

    fn note(&mut self, words: impl FnOnce() -> String) {
        if self.keeps_trace {
            let at = self.t;
            self.trace.push(format!("{at:>9} {}", words()));
        }
    }

    fn schedule(&mut self, after: i64, event: Event) {
        self.sent += 1;
        self.queue.insert((self.t + after.max(0), self.sent), event);
    }

    /// Moves to the next thing that happens, the alarm included; `false` when there is none
    /// before `end`.
    fn advance(&mut self, end: i64) -> Result<bool, String> {
        if self.jumped {
            self.jumped = self.input(Input::ClockJumped)?.is_none();
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
            self.input(Input::Alarm)?;
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
            Event::Report(key, input) => self.report(key, input)?,
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
                self.person_does(command)?;
                let after = self.rng.pick(&[500, 5_000, 60_000, 600_000]).unwrap_or(0);
                let after = self.rng.between(1, after);
                self.schedule(after, Event::Person);
            }
            Event::Fault if self.chaos => self.fault(),
            Event::Person | Event::Fault => {}
        }
        Ok(())
    }

    fn with_container<T>(&mut self, act: impl FnOnce(&mut Container, &mut Scene<'_>) -> T) -> T {
        let wall = self.now();
        let mut scene = Scene {
            rng: &mut self.rng,
            weather: &self.weather,
            wall,
        };
        act(&mut self.container, &mut scene)
    }

    // --- The network -----------------------------------------------------------------------

    /// Mostly at once, sometimes late, rarely very late.
    fn delay(&mut self) -> i64 {
        if !self.chaos || self.rng.chance(850) {
            return self.rng.between(1, 60);
        }
        let longest = self.rng.pick(&[5_000, 60_000, 20 * MINUTE_MS]).unwrap_or(0);
        self.rng.between(1, longest)
    }

    /// How many copies arrive: none, one or two.
    fn copies(&mut self) -> u32 {
        match self.rng.below(1_000) {
            0..=59 if self.chaos => 0,
            60..=139 if self.chaos => 2,
            _ => 1,
        }
    }

    fn emit(&mut self, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Later(after, tick) => self.schedule(after, Event::Tick(tick)),
                Out::Report(key, input) => {
                    self.remember(&input);
                    for _ in 0..self.copies() {
                        let after = self.delay();
                        self.schedule(after, Event::Report(key.clone(), input.clone()));
                    }
                }
            }
        }
    }

    /// A few old reports are kept, to arrive once more long after their time.
    fn remember(&mut self, input: &Input) {
        if self.past.len() < 16 {
            self.past.push(input.clone());
        } else if self.rng.chance(300) {
            let slot = self.rng.below(self.past.len());
            if let Some(old) = self.past.get_mut(slot) {
                *old = input.clone();
            }
        }
    }

    fn arrive(&mut self, no: u64, effect: Effect) -> Result<(), String> {
        self.note(|| format!("container takes {no}: {effect:?}"));
        let out = self.with_container(|c, scene| c.take(no, effect, scene))?;
        self.emit(out);
        for _ in 0..self.copies() {
            let after = self.delay();
            self.schedule(after, Event::Taken(no));
        }
        Ok(())
    }

    fn send(&mut self, no: u64, effect: &Effect) {
        for _ in 0..self.copies() {
            let after = self.delay();
            self.schedule(after, Event::Arrives(no, effect.clone()));
        }
    }

    fn resend(&mut self, no: u64, tries: u32) {
        let Some(effect) = self.disk.outbox.get(&no).cloned() else {
            return;
        };
        self.send(no, &effect);
        let after = (2_000_i64 << tries.min(8)).min(5 * MINUTE_MS);
        self.schedule(after, Event::Resend(no, tries + 1));
    }

    fn report(&mut self, key: Key, input: Input) -> Result<(), String> {
        let Some(answer) = self.input(input)? else {
            return Ok(());
        };
        if self.copies() > 0 {
            let after = self.delay();
            self.schedule(after, Event::Answer(key, answer));
        }
        Ok(())
    }

    // --- Faults ----------------------------------------------------------------------------

    fn fault(&mut self) {
        match self.rng.below(6) {
            0 | 1 => {
                let adopts = self.rng.chance(250);
                if self.rng.chance(200) {
                    let no = self.rng.below(3);
                    self.container.credential = Some(format!("environment-{no}"));
                }
                self.note(|| format!("container crashes, adopts: {adopts}"));
                self.stats.saw("container lost");
                let out = self.container.crash(adopts);
                self.emit(out);
            }
            2 => self.jump(),
            3 | 4 => {
                if let Some(old) = self.rng.pick(&self.past) {
                    self.schedule(0, Event::Report(Key::Preflight(0), old));
                }
            }
            _ => self.weather = Weather::draw(&mut self.rng),
        }
        let after = self.rng.between(10_000, 40 * MINUTE_MS);
        self.schedule(after, Event::Fault);
    }

    fn jump(&mut self) {
        let longest = self.rng.pick(&[5, 90, 24 * 60]).unwrap_or(5);
        let by = self.rng.between(-longest, longest) * MINUTE_MS;
        self.offset = self.offset.saturating_add(by);
        self.jumped = true;
        self.stats.saw("clock jumped");
        self.note(|| format!("the clock jumps by {by} ms"));
    }

    /// The rig's process dies and comes back with what is on disk.
    fn crash(&mut self, when: &'static str) -> Result<(), String> {
        self.stats.saw(when);
        self.stats.crashes += 1;
        self.note(|| when.to_owned());
        self.reload()
    }

    /// Memory from disk; the first time by way of the stored form.
    fn reload(&mut self) -> Result<(), String> {
        let loaded = if self.encoded {
            self.disk.load()
        } else {
            self.encoded = true;
            self.disk.load_encoded()?
        };
        if loaded != self.rig {
            return Err("I9: the rig on disk is not the rig in memory".to_owned());
        }
        self.rig = loaded;
        Ok(())
    }

    // --- The rig ---------------------------------------------------------------------------

    fn person_does(&mut self, input: Input) -> Result<(), String> {
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
    fn input(&mut self, input: Input) -> Result<Option<Result<Reply, Refused>>, String> {
        let now = self.now();
        let nonce = self.rng.nonce();
        self.stats.steps += 1;
        self.note(|| format!("{now:?} <- {input:?}"));
        let step = match self.rig.step(input.clone(), Env { now, nonce }) {
            Ok(step) => step,
            Err(refused) => {
                self.note(|| format!("          refused: {refused}"));
                self.stats.refused += 1;
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
        self.checks.before_commit(&self.rig, &input, &step, now)?;
        self.count(&input, &step);
        self.commit(&input, &step, now)?;
        Ok(self.act(step)?.map(Ok))
    }

    fn commit(&mut self, input: &Input, step: &Step, now: Timestamp) -> Result<(), String> {
        let first = self
            .disk
            .commit(&step.changes, &step.effects)?
            .first()
            .copied();
        self.rig.apply(&step.changes);
        self.disk.alarm = self.rig.next_alarm(now);
        let lagging = self.chaos && self.rng.chance(100);
        self.alarm_lag = if lagging {
            self.rng.between(1, 5_000)
        } else {
            0
        };
        let (alarm, is_alarm) = (self.disk.alarm, *input == Input::Alarm);
        self.note(|| format!("          {:?}, alarm {alarm:?}", step.reply));
        Checks::after_commit(&self.rig, step, alarm, now, is_alarm)?;
        self.check_disk(step)?;
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
        let equal = self.disk.record == *self.rig.record()
            && step.changes.iter().all(|change| match change {
                Change::Bead(bead) => self.rig.bead(&bead.id) == self.disk.beads.get(&bead.id),
                Change::BeadDeleted(id) => self.rig.bead(id).is_none(),
                Change::Agent(agent) => {
                    self.rig.agent(&agent.id) == self.disk.agents.get(&agent.id)
                }
                Change::Rig(_) | Change::Event(_) => true,
            });
        if equal {
            Ok(())
        } else {
            Err("I9: memory and disk differ".to_owned())
        }
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

    fn count(&mut self, input: &Input, step: &Step) {
        let stats = &mut self.stats;
        match &step.reply {
            Reply::Repeated => stats.saw("duplicate answered"),
            Reply::Turn(TurnVerdict::Nudge(_)) => stats.saw("nudged"),
            _ => {}
        }
        for effect in &step.effects {
            match effect {
                Effect::BreakerTripped { .. } => stats.saw("breaker opened"),
                Effect::BreakerClosed { .. } => stats.saw("breaker closed"),
                Effect::Dispatch(order) if order.resume.is_some() => stats.saw("lost continued"),
                _ => {}
            }
        }
        for change in &step.changes {
            match change {
                Change::Bead(bead) => count_bead(stats, self.rig.bead(&bead.id), bead, input),
                Change::Rig(record) => count_breaker(stats, &self.rig, &record.breaker.state),
                _ => {}
            }
        }
        let unanswered = matches!(input, Input::Alarm)
            && step.changes.iter().any(|change| {
                matches!(change, Change::Rig(record)
                    if record.breaker.failure().is_some_and(|f| f.text.contains("did not end")))
            });
        if unanswered {
            self.stats.saw("preflight unanswered");
        }
    }

    // --- The end ---------------------------------------------------------------------------

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
        let config = people::config(&mut self.rng, true);
        self.person_does(Input::Configure(config))
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
            self.person_does(Input::Close { bead, by })?;
        }
        match self.disk.alarm {
            None => self.reload(),
            Some(at) => Err(format!("I3: all work is terminal, alarm at {at:?}")),
        }
    }
}

fn count_bead(
    stats: &mut Stats,
    old: Option<&wellhead_rig::Bead>,
    new: &wellhead_rig::Bead,
    input: &Input,
) {
    let Some(old) = old else { return };
    if let Phase::Failed { reason, .. } = &new.phase
        && !old.is_terminal()
    {
        if reason.starts_with("failed") {
            stats.saw("limit by failures");
        } else if reason.starts_with("used all") {
            stats.saw("limit by prompts");
        }
    }
    if new.numbers.prompts < old.numbers.prompts {
        stats.saw("given back");
    }
    if let Phase::Ending { ending, .. } = &old.phase {
        let ended_well = matches!(ending.over, Some(Outcome::Completed { .. }));
        if ended_well && matches!(input, Input::Done { .. }) {
            stats.saw("grace merged done");
        }
        let ordered = matches!(ending.cause, wellhead_rig::Cause::Ordered(_));
        if ordered && new.run().is_none() {
            stats.saw("order ended a session");
        }
    }
}

fn count_breaker(stats: &mut Stats, rig: &Rig, new: &BreakerState) {
    let old = &rig.record().breaker.state;
    let BreakerState::HalfOpen { probe: was, .. } = old else {
        return;
    };
    match new {
        BreakerState::HalfOpen {
            probe: Some(probe), ..
        } if was.as_ref() != Some(probe) => stats.saw("probe sent"),
        BreakerState::HalfOpen { probe: None, .. } if was.is_some() => {
            stats.saw("probe given back");
        }
        BreakerState::Open { .. } if was.is_some() => stats.saw("probe failed"),
        _ => {}
    }
}
