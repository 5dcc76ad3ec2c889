//! The account of one object: each of its steps since the last that is known to be durable, what
//! left because of them, and which of them a crash may take back.
//!
//! Owns the rule that what is read from disk is the state after one of these steps, and of none
//! before the newest that anybody has heard of. Knows no rule of rigs and towns.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use rig::Timestamp;

use crate::kinds::{Kind, OfRig, OfTown};

pub(crate) type RigShadow = Shadow<OfRig>;
pub(crate) type TownShadow = Shadow<OfTown>;

/// A step that changed something.
struct Taken<K: Kind> {
    changes: Vec<K::Change>,
    sends: u64,
    alarm: Option<Timestamp>,
    account: K::Account,
}

/// What a caller waits for.
struct Asked<K: Kind> {
    ticket: u64,
    input: K::Input,
}

/// What a reload has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Steps that are gone.
    pub(crate) lost: u64,
    /// Steps that are there although nobody had heard of them.
    pub(crate) kept: u64,
}

/// See the file's head.
pub(crate) struct Shadow<K: Kind> {
    base: K::State,
    base_no: u64,
    base_alarm: Option<Timestamp>,
    /// What else the alarm may be: the last load could not tell.
    other_alarms: Vec<Option<Timestamp>>,
    base_account: K::Account,
    /// The number of the next effect after the base.
    base_seq: u64,
    /// Numbers of effects whose steps left the state as it was: a load can not tell whether they
    /// were kept. They are taken for kept until an effect leaves under another number.
    doubts: Vec<Range<u64>>,
    steps: VecDeque<Taken<K>>,
    /// The newest step that somebody has heard of.
    heard: u64,
    asked: Vec<Asked<K>>,
    answers: BTreeMap<u64, u64>,
    /// Every effect under its number, with its step and the life that decided it.
    pub(crate) outbox: BTreeMap<u64, (u64, u64, K::Effect)>,
    next_ticket: u64,
    /// An instance is in memory.
    pub(crate) is_loaded: bool,
}

impl<K: Kind> Default for Shadow<K> {
    fn default() -> Self {
        Self {
            base: K::State::default(),
            base_no: 0,
            base_alarm: None,
            other_alarms: Vec::new(),
            base_account: K::Account::default(),
            base_seq: 1,
            doubts: Vec::new(),
            steps: VecDeque::new(),
            heard: 0,
            asked: Vec::new(),
            answers: BTreeMap::new(),
            outbox: BTreeMap::new(),
            next_ticket: 0,
            is_loaded: false,
        }
    }
}

impl<K: Kind> Shadow<K> {
    fn last_no(&self) -> u64 {
        self.base_no + self.steps.len() as u64
    }

    /// The account as of the newest step.
    pub(crate) fn account(&self) -> &K::Account {
        self.steps
            .back()
            .map_or(&self.base_account, |step| &step.account)
    }

    /// Whether that is the alarm as of the newest step.
    pub(crate) fn has_alarm(&self, is: impl Fn(Option<Timestamp>) -> bool) -> bool {
        match self.steps.back() {
            Some(step) => is(step.alarm),
            None => is(self.base_alarm) || self.other_alarms.iter().any(|alarm| is(*alarm)),
        }
    }

    /// Somebody asks; the answer comes with this ticket.
    pub(crate) fn ask(&mut self, input: K::Input) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.asked.push(Asked { ticket, input });
        ticket
    }

    /// The input is being decided: its answer tells of everything up to its step.
    pub(crate) fn decides(&mut self, input: &K::Input, is_change: bool) {
        let at = self.asked.iter().position(|asked| asked.input == *input);
        if let Some(at) = at {
            let ticket = self.asked.remove(at).ticket;
            let no = self.last_no() + u64::from(is_change);
            self.answers.insert(ticket, no);
        }
    }

    /// A decision is in memory.
    pub(crate) fn step(
        &mut self,
        (changes, effects): (Vec<K::Change>, Vec<K::Effect>),
        alarm: Option<Timestamp>,
        account: K::Account,
        life: u64,
    ) {
        let sent: u64 = self.steps.iter().map(|step| step.sends).sum();
        let (no, sends) = (self.last_no() + 1, effects.len() as u64);
        for (seq, effect) in (self.base_seq + sent..).zip(effects) {
            self.outbox.insert(seq, (no, life, effect));
        }
        self.steps.push_back(Taken {
            changes,
            sends,
            alarm,
            account,
        });
    }

    /// An answer came, or none will.
    pub(crate) fn answered(&mut self, ticket: u64, is_told: bool) {
        self.asked.retain(|asked| asked.ticket != ticket);
        if let Some(no) = self.answers.remove(&ticket)
            && is_told
        {
            self.hears_of(no);
        }
    }

    /// An effect leaves; it has to be one that was decided, by a step that is durable from now on.
    pub(crate) fn leaves(&mut self, seq: u64, effect: &K::Effect) -> Result<u64, String> {
        loop {
            let known = self.outbox.get(&seq);
            if let Some((no, life, known)) = known
                && known == effect
            {
                let (no, life) = (*no, *life);
                self.doubts.retain(|doubt| doubt.start > seq);
                self.hears_of(no);
                return Ok(life);
            }
            let was = known.map(|(.., known)| known);
            let broken = format!("I2: #{seq} was {was:?} and leaves as {effect:?}");
            if !self.takes_back(seq) {
                return Err(broken);
            }
        }
    }

    /// A step that was taken for kept was lost after all; whether there was one in doubt before
    /// that number.
    fn takes_back(&mut self, seq: u64) -> bool {
        let Some(at) = self.doubts.iter().rposition(|doubt| doubt.start <= seq) else {
            return false;
        };
        let lost = self.doubts.remove(at);
        let count = lost.end - lost.start;
        let later = self.outbox.split_off(&lost.end);
        self.outbox.split_off(&lost.start);
        let later = later.into_iter().map(|(seq, sent)| (seq - count, sent));
        self.outbox.extend(later);
        for doubt in self.doubts.iter_mut().skip(at) {
            *doubt = doubt.start - count..doubt.end - count;
        }
        self.base_seq -= count;
        true
    }

    fn hears_of(&mut self, no: u64) {
        self.heard = self.heard.max(no);
        while self.base_no < self.heard {
            let Some(step) = self.steps.pop_front() else {
                return;
            };
            self.fold(step);
        }
    }

    fn fold(&mut self, step: Taken<K>) {
        K::apply(&mut self.base, step.changes);
        self.base_no += 1;
        self.base_seq += step.sends;
        self.base_alarm = step.alarm;
        self.other_alarms.clear();
        self.base_account = step.account;
    }

    /// Nobody of the old life waits any more, and nothing it had in memory is left.
    pub(crate) fn dies(&mut self) {
        self.asked.clear();
        self.answers.clear();
        self.is_loaded = false;
    }

    /// An instance was read from disk: it is the state after one of the steps, of the newest one
    /// where nothing could fail.
    pub(crate) fn loaded(&mut self, state: &K::State, may_lose: bool) -> Result<Found, String> {
        let may_lose = may_lose || !self.is_loaded;
        self.is_loaded = true;
        let found = self.matching(state);
        let Some(&kept) = found.last() else {
            let (steps, mut at) = (self.steps.len(), self.base.clone());
            for step in &self.steps {
                K::apply(&mut at, step.changes.clone());
            }
            let differs = difference(&format!("{at:?}"), &format!("{state:?}"));
            return Err(format!(
                "I9: what was read is the state after none of {steps} steps from {}: {differs}",
                self.base_no,
            ));
        };
        let points: Vec<_> = found.iter().map(|steps| self.after(*steps)).collect();
        let mut alarms: Vec<_> = points.iter().map(|(alarm, _)| *alarm).collect();
        if found.first() == Some(&0) {
            // Of the state before them, an earlier load may not have been able to tell either.
            alarms.append(&mut self.other_alarms);
            alarms.sort_unstable();
            alarms.dedup();
        }
        let lost = self.steps.len() - kept;
        let gone: Vec<_> = self.steps.drain(kept..).collect();
        let first_gone = self.base_no + kept as u64 + 1;
        self.outbox.retain(|_, (no, _, _)| *no < first_gone);
        while let Some(step) = self.steps.pop_front() {
            self.fold(step);
        }
        drop(gone);
        self.other_alarms = alarms;
        let bounds = points.windows(2).map(|two| two[0].1..two[1].1);
        self.doubts.extend(bounds.filter(|doubt| !doubt.is_empty()));
        self.heard = self.heard.max(self.base_no);
        if !may_lose && lost > 0 {
            return Err(format!("I9: {lost} steps were lost and nothing had failed"));
        }
        Ok(Found {
            lost: lost as u64,
            kept: kept as u64,
        })
    }
}

impl<K: Kind> Shadow<K> {
    /// After how many steps the state is that one.
    fn matching(&self, state: &K::State) -> Vec<usize> {
        let mut at = self.base.clone();
        let mut found: Vec<usize> = (at == *state).then_some(0).into_iter().collect();
        for (n, step) in self.steps.iter().enumerate() {
            K::apply(&mut at, step.changes.clone());
            if at == *state {
                found.push(n + 1);
            }
        }
        found
    }

    /// The alarm and the next effect's number after so many steps.
    fn after(&self, steps: usize) -> (Option<Timestamp>, u64) {
        let taken = self.steps.iter().take(steps);
        let alarm = taken
            .clone()
            .last()
            .map_or(self.base_alarm, |step| step.alarm);
        (
            alarm,
            self.base_seq + taken.map(|step| step.sends).sum::<u64>(),
        )
    }
}

/// Where two long texts begin to differ.
fn difference(memory: &str, read: &str) -> String {
    let same = memory
        .bytes()
        .zip(read.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let around = |text: &str| {
        let (from, to) = (same.saturating_sub(120), (same + 120).min(text.len()));
        text.get(from..to).unwrap_or_default().to_owned()
    };
    format!("memory ..{}.. disk ..{}..", around(memory), around(read))
}
