//! What breaks: the container, the clock, the weather, and the rig's own process.
//!
//! Owns the choice and the doing of faults. Mends nothing.

use super::{
    container::Key,
    plan::Weather,
    world::{Event, MINUTE_MS, World},
};

impl World {
    pub(super) fn fault(&mut self) {
        match self.rng.below(6) {
            0 | 1 => {
                let adopts = self.rng.chance(250);
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
    pub(super) fn crash(&mut self, when: &'static str) -> Result<(), String> {
        self.stats.saw(when);
        self.stats.crashes += 1;
        self.note(|| when.to_owned());
        self.reload()
    }

    /// Memory from disk; the first time by way of the stored form.
    pub(super) fn reload(&mut self) -> Result<(), String> {
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
}
