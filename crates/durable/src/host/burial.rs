//! The end of an effect that its receiver refuses for good: it is counted, and at the last time
//! it becomes a dead letter in the same batch as the turn in which its object is told.
//!
//! ```text
//! refused ─► counted, durably ─► … ─► condemned ─► one batch: told, outbox ─► dead letters
//!               ▲                                                                 │
//!               └──────────────── retried: same number, nothing counted ◄─────────┘
//! ```
//! Until that batch is durable the effect is in the outbox, and a crash costs one more try.

use std::sync::Arc;

use actix::Addr;

use super::actor::{Drained, Flushed, ObjectActor, Phase};
use super::call::{Answer, Mend, Permit, caught};
use super::step::{LOOK_AGAIN_MS, start};
use crate::commit::Slot;
use crate::outbox::Outbox;
use crate::storage::Op;
use crate::timers::Kind;
use crate::turn::Written;
use crate::{DeadLetter, Error, Object, Turn, letters, record};

impl<O: Object> ObjectActor<O> {
    /// An attempt was refused for good. Without a place for its count it is as if the receiver
    /// had been busy: memory never counts what the disk will not.
    pub(super) fn on_refused(&mut self, seq: u64, reason: &str) {
        let shared = Arc::clone(&self.shared);
        let (core, now) = (&shared.core, shared.core.now());
        let Some(outbox) = &mut self.outbox else {
            return;
        };
        let Some(refused) = outbox.next_refusal(seq, now) else {
            return;
        };
        tracing::warn!(object = %self.id, seq, reason, tries = refused.tries, "an effect was refused");
        if refused.tries >= core.settings.poison_tries_max {
            return outbox.condemn(seq, now, reason);
        }
        let counted = refused.op(&self.keys, core.epoch, seq);
        let (Some(slot), Ok(put)) = (core.spare_slot(), counted) else {
            return outbox.failed(seq, now);
        };
        outbox.refused(seq, now, refused);
        let mut ops = vec![put];
        ops.append(&mut self.take_acked());
        self.submit(slot, None, ops, drop);
    }

    /// Whether effects can leave without an instance: none of them waits for its object.
    pub(super) fn can_pump_cold(&self) -> bool {
        let outbox = self.outbox.as_ref();
        outbox.is_some_and(|outbox| outbox.condemned().is_none())
    }

    /// Has the object loaded if it is to be told of an effect that was given up. If it cannot be
    /// loaded, the next look at its outbox tries again.
    pub(super) fn wake_to_bury(&mut self, addr: &Addr<Self>) {
        if self.park_to_bury() && matches!(self.phase, Phase::Cold) {
            self.begin_load(addr);
        }
    }

    /// Whether the next instance has something to be told, which then waits for it.
    pub(super) fn park_to_bury(&mut self) -> bool {
        let condemned = self.outbox.as_ref().and_then(Outbox::condemned);
        // A living one has been told by `pump`, as far as that can be done now.
        if condemned.is_none() || matches!(self.phase, Phase::Live(_)) {
            return false;
        }
        if !self.parked_wakes.contains(&Kind::Outbox) {
            self.parked_wakes.push(Kind::Outbox);
        }
        true
    }

    /// Moves effects that were refused too often to the dead letters, as far as there is an
    /// instance to be told and a place for the batch.
    pub(super) fn bury(&mut self, addr: &Addr<Self>) {
        let shared = Arc::clone(&self.shared);
        while let Some(seq) = self.outbox.as_ref().and_then(Outbox::condemned) {
            // An outbox that is full keeps it from being told, and may be full of these.
            let _ = self.tell_jump(addr);
            if !matches!(self.phase, Phase::Live(_)) || self.is_over() {
                return;
            }
            let Some(slot) = shared.core.spare_slot() else {
                return;
            };
            if let Err(error) = self.bury_one(seq, slot, addr) {
                tracing::error!(object = %self.id, seq, %error, "cannot store a dead letter");
                if let Some(outbox) = &mut self.outbox {
                    outbox.failed(seq, shared.core.now());
                }
            }
        }
    }

    fn bury_one(&mut self, seq: u64, slot: Slot<'_>, addr: &Addr<Self>) -> Result<(), Error> {
        let core = Arc::clone(&self.shared.core);
        let (Some(outbox), Phase::Live(live)) = (&mut self.outbox, &mut self.phase) else {
            return Ok(());
        };
        let Some(letter) = outbox.letter(seq) else {
            return Ok(());
        };
        let (mut moved, letters) =
            letters::burial(&self.keys, core.epoch, &outbox.letters, &letter)?;
        outbox.letters = letters;
        outbox.gone(seq);
        let DeadLetter { reason, tries, .. } = &letter;
        tracing::error!(object = %self.id, seq, reason, tries, "an effect is a dead letter");
        let alarm = live.meta.alarm.map(|pending| pending.at);
        let mut turn = Turn::new(&self.id, &self.keys, start(&core, live, alarm));
        let told = caught(|| live.object.dead_letter(&mut turn, letter));
        let written = told.map_err(|reason| Error::Panicked {
            object: self.id.to_string(),
            reason,
        });
        match written.and_then(|()| turn.finish()) {
            Ok((mut written, next_seq)) => {
                written.outbox.append(&mut moved);
                self.commit_told(slot, written, next_seq, addr);
            }
            Err(error) => self.move_untold(slot, moved, &error, addr),
        }
        Ok(())
    }

    fn commit_told(
        &mut self,
        slot: Slot<'_>,
        written: Written<O::Effect>,
        next_seq: u64,
        addr: &Addr<Self>,
    ) {
        if let Phase::Live(live) = &self.phase {
            let meta = live.meta.after_message(written.alarm, next_seq);
            let nobody: Answer = Box::new(drop);
            self.commit(slot, written, meta, Some(nobody), addr);
        }
    }

    /// The handler went wrong, and would do so again: only the move is stored.
    fn move_untold(&mut self, slot: Slot<'_>, moved: Vec<Op>, why: &Error, addr: &Addr<Self>) {
        tracing::error!(object = %self.id, %why, "an object could not be told of a dead letter");
        self.strikes.add(self.shared.core.now(), why);
        self.drop_instance();
        let (core, target) = (Arc::clone(&self.shared.core), self.target(Kind::Outbox));
        let addr = addr.clone();
        self.submit(slot, None, moved, move |result| {
            if result.is_err() {
                // It may still be in the outbox: the object has to look for itself.
                core.timers
                    .hold(target, core.now().saturating_add(LOOK_AGAIN_MS));
            }
            addr.do_send(Drained);
        });
    }

    /// Ends a dead letter: it goes back to the outbox, or away.
    pub(super) fn mend(&mut self, mend: Mend<O::Effect>, permit: Permit, addr: &Addr<Self>) {
        let Mend { seq, again, reply } = mend;
        let core = Arc::clone(&self.shared.core);
        let is_there = self
            .outbox
            .as_ref()
            .is_some_and(|o| o.letters.contains(seq));
        // What is dropped needs no place in the outbox.
        let outbox = self.outbox.as_ref().filter(|_| again.is_some());
        let changed = core.admit(outbox).and_then(|slot| {
            let ops = self.mended(seq, again.as_ref().filter(|_| is_there))?;
            Ok((slot, ops))
        });
        let answer = move |result: Result<(), Error>| {
            drop(permit);
            // Whoever has asked may have gone.
            let _ = reply.send(result.map(|()| is_there));
        };
        let (slot, ops) = match changed {
            Ok(changed) => changed,
            Err(error) => return answer(Err(error)),
        };
        if !is_there {
            return self.answer_in_order(slot, Box::new(answer));
        }
        let is_retried = again.is_some();
        if let Some(outbox) = &mut self.outbox {
            match again {
                Some(effect) => outbox.give_back(seq, effect),
                None => outbox.letters.remove(seq),
            }
        }
        let addr = addr.clone();
        self.submit(slot, None, ops, move |result| {
            if result.is_ok() && is_retried {
                addr.do_send(Flushed::Retried(seq));
            }
            answer(result);
        });
    }

    /// What the store has to change for the end of a letter.
    fn mended(&self, seq: u64, again: Option<&O::Effect>) -> Result<Vec<Op>, Error> {
        let epoch = self.shared.core.epoch;
        let mut left = self
            .outbox
            .as_ref()
            .map(|o| o.letters.clone())
            .unwrap_or_default();
        left.remove(seq);
        let key = self.keys.letter(seq);
        let mut ops = vec![Op::Delete { key }, left.op(&self.keys, epoch)?];
        if let Some(effect) = again {
            let key = self.keys.effect(seq);
            let value = record::seal_json(&key, epoch, effect)?;
            ops.push(Op::Put { key, value });
        }
        Ok(ops)
    }
}
