//! Between the rig and its container: messages that are delayed, lost, doubled and reordered.
//!
//! Owns the way of every message, and the outbox's repetition. Knows nothing of their content.

use wellhead_rig::{Effect, Input};

use super::{
    container::{Key, Out},
    world::{Event, MINUTE_MS, World},
};

impl World {
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

    pub(super) fn emit(&mut self, out: Vec<Out>) {
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

    pub(super) fn arrive(&mut self, no: u64, effect: Effect) -> Result<(), String> {
        self.note(|| format!("container takes {no}: {effect:?}"));
        let out = self.with_container(|c, scene| c.take(no, effect, scene))?;
        self.emit(out);
        for _ in 0..self.copies() {
            let after = self.delay();
            self.schedule(after, Event::Taken(no));
        }
        Ok(())
    }

    pub(super) fn send(&mut self, no: u64, effect: &Effect) {
        for _ in 0..self.copies() {
            let after = self.delay();
            self.schedule(after, Event::Arrives(no, effect.clone()));
        }
    }

    pub(super) fn resend(&mut self, no: u64, tries: u32) {
        let Some(effect) = self.disk.outbox.get(&no).cloned() else {
            return;
        };
        self.send(no, &effect);
        let after = (2_000_i64 << tries.min(8)).min(5 * MINUTE_MS);
        self.schedule(after, Event::Resend(no, tries + 1));
    }

    pub(super) fn report(&mut self, key: Key, input: &Input) -> Result<(), String> {
        let Some(answer) = self.input(input)? else {
            return Ok(());
        };
        if self.copies() > 0 {
            let after = self.delay();
            self.schedule(after, Event::Answer(key, answer));
        }
        Ok(())
    }
}
