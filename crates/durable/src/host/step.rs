//! One step of an object: the handler runs, its writes become one batch, the answer waits.
//!
//! A place in the commit queue is taken before the handler runs, so a step that has changed the
//! instance can always be stored. Handlers never wait for a flush; answers and effects do.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::Addr;

use super::actor::{Drained, Flushed, Live, ObjectActor, Phase, Step};
use super::call::{Answer, Asked, caught};
use super::core::Core;
use crate::commit::{Batch, Slot};
use crate::meta::{self, Meta, Pending};
use crate::outbox::Outbox;
use crate::storage::Op;
use crate::timers::Kind;
use crate::turn::{Start, Written};
use crate::{Alarm, ClockJump, Error, Object, Turn};

/// After a failed commit.
pub(super) const LOOK_AGAIN_MS: i64 = 2_000;

/// What a turn did to the alarm, as the alarm clock has to know it.
enum NewAlarm {
    Same,
    At(i64),
    Gone,
}

impl<O: Object> ObjectActor<O> {
    /// The message's turn. The object is live.
    pub(super) fn step(&mut self, step: Step<O>, addr: &Addr<Self>) {
        if let Err(error) = self.tell_jump(addr) {
            return step.asked.refuse(error);
        }
        if !matches!(self.phase, Phase::Live(_)) {
            return self.parked.push_front(step);
        }
        let Step { asked, permit } = step;
        let call = match asked {
            Asked::Message(call) => call,
            Asked::Letter(mend) => return self.mend(*mend, permit, addr),
        };
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let admitted = shared.core.admit(self.outbox.as_ref());
        let (slot, live) = match (admitted, &mut self.phase) {
            (Ok(slot), Phase::Live(live)) => (slot, live),
            (Err(error), _) => return call.refuse(error),
            (Ok(_), _) => return call.refuse(Error::Overloaded),
        };
        let alarm = live.meta.alarm.map(|pending| pending.at);
        let mut turn = Turn::new(&id, &self.keys, start(&shared.core, live, alarm));
        let stepped = call.run(&mut *live.object, &mut turn);
        let answer: Answer = Box::new(move |result| {
            drop(permit);
            (stepped.answer)(result);
        });
        let written = match stepped.panic {
            Some(reason) => Err(Error::Panicked {
                object: id.to_string(),
                reason,
            }),
            None => turn.finish(),
        };
        match written {
            Ok((written, next_seq)) => {
                let meta = live.meta.after_message(written.alarm, next_seq);
                self.strikes.count = 0;
                self.commit(slot, written, meta, Some(answer), addr);
            }
            Err(error) => self.reset(slot, answer, error, addr),
        }
    }

    /// Runs the alarm if it is due by the object's own record; the clock's entry may be old.
    pub(super) fn check_alarm(&mut self, addr: &Addr<Self>) {
        if let Err(error) = self.tell_jump(addr) {
            return self.wake_later(Kind::Alarm, &error);
        }
        let Phase::Live(live) = &self.phase else {
            return self.parked_wakes.push(Kind::Alarm);
        };
        let timers = &self.shared.core.timers;
        match live.meta.alarm {
            None => timers.clear(&self.target(Kind::Alarm)),
            Some(pending) if pending.fire_at > self.shared.core.now() => {
                timers.set(self.target(Kind::Alarm), pending.fire_at);
            }
            Some(pending) => self.run_alarm(pending, addr),
        }
    }

    /// The turn on a jump of time that the object has not been told of. Afterwards the instance
    /// may have to be loaded again; it is not told a second time then.
    pub(super) fn tell_jump(&mut self, addr: &Addr<Self>) -> Result<(), Error> {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let core = &shared.core;
        let Phase::Live(live) = &mut self.phase else {
            return Ok(());
        };
        let told = live.meta.told(core.epoch);
        if core.jumps.count() <= told.count.max(self.jumps_tried) {
            return Ok(());
        }
        let total = core.jumps.total();
        let slot = core.admit(self.outbox.as_ref())?;
        self.jumps_tried = total.count;
        let jump = ClockJump {
            gap_ms: total.gap_ms.saturating_sub(told.gap_ms),
            wall_ms: total.wall_ms.saturating_sub(told.wall_ms),
        };
        let alarm = live.meta.alarm.map(|pending| pending.at);
        let mut turn = Turn::new(&id, &self.keys, start(core, live, alarm));
        let written = match caught(|| live.object.clock_jumped(&mut turn, jump)) {
            Ok(()) => turn.finish(),
            Err(reason) => Err(Error::Panicked {
                object: id.to_string(),
                reason,
            }),
        };
        let nobody: Answer = Box::new(drop);
        match written {
            Ok((written, next_seq)) => {
                let mut meta = live.meta.after_message(written.alarm, next_seq);
                meta.jumps = Some(total);
                self.commit(slot, written, meta, Some(nobody), addr);
            }
            Err(error) => self.reset(slot, nobody, error, addr),
        }
        Ok(())
    }

    fn run_alarm(&mut self, pending: Pending, addr: &Addr<Self>) {
        let (shared, id) = (Arc::clone(&self.shared), self.id.clone());
        let slot = match shared.core.admit(self.outbox.as_ref()) {
            Ok(slot) => slot,
            Err(error) => return self.wake_later(Kind::Alarm, &error),
        };
        let Phase::Live(live) = &mut self.phase else {
            return;
        };
        let mut turn = Turn::new(&id, &self.keys, start(&shared.core, live, None));
        let alarm = Alarm {
            scheduled_at: pending.at,
            retry: pending.retry,
        };
        let written = match caught(|| live.object.alarm(&mut turn, alarm)) {
            Ok(Ok(())) => turn.finish().map_err(|error| error.to_string()),
            Ok(Err(failed)) => Err(failed.to_string()),
            Err(panic) => Err(format!("panicked: {panic}")),
        };
        match written {
            Ok((written, next_seq)) => {
                let meta = live.meta.after_alarm(written.alarm, next_seq);
                self.commit(slot, written, meta, None, addr);
            }
            Err(reason) => self.alarm_failed(slot, pending, &reason, addr),
        }
    }

    /// Stores nothing of the turn but the counter and the time of the next run.
    fn alarm_failed(&mut self, slot: Slot<'_>, pending: Pending, why: &str, addr: &Addr<Self>) {
        let failed = pending.failed(self.shared.core.now(), self.shared.core.chance.draw());
        let (retry, object) = (failed.retry, &self.id);
        if retry == meta::COUNTED_FAILURES {
            tracing::error!(%object, why, "the alarm failed again: the object is quarantined");
        } else {
            tracing::warn!(%object, why, retry, "the alarm failed and will run again");
        }
        let Phase::Live(live) = &self.phase else {
            return;
        };
        let next = Meta {
            alarm: Some(failed),
            ..live.meta.clone()
        };
        let old = live.stored.then_some(&live.meta);
        let ops = match meta::ops(&self.keys, self.shared.core.epoch, old, &next) {
            Ok(ops) => ops,
            Err(error) => return self.wake_later(Kind::Alarm, &error),
        };
        self.drop_instance();
        let (core, target) = (Arc::clone(&self.shared.core), self.target(Kind::Alarm));
        let addr = addr.clone();
        self.submit(slot, None, ops, move |result| {
            if result.is_ok() {
                core.timers.set(target, failed.fire_at);
            }
            addr.do_send(Drained);
        });
    }

    /// Hands the turn's writes to the committer; what waits for them leaves from there.
    pub(super) fn commit(
        &mut self,
        slot: Slot<'_>,
        written: Written<O::Effect>,
        next: Meta,
        answer: Option<Answer>,
        addr: &Addr<Self>,
    ) {
        // Only an alarm has nobody to answer to, and has to be settled even if it stays.
        let settles = answer.is_none();
        let answer: Answer = answer.unwrap_or_else(|| Box::new(drop));
        let Written {
            wiped,
            records,
            effects,
            outbox,
            alarm: _,
        } = written;
        let (ops, mut new_alarm) = match self.ops(records, outbox, &next) {
            Ok(changed) => changed,
            Err(error) => return self.reset(slot, answer, error, addr),
        };
        if settles && let (NewAlarm::Same, Some(pending)) = (&new_alarm, next.alarm) {
            new_alarm = NewAlarm::At(pending.fire_at);
        }
        if ops.is_empty() && !settles && !wiped {
            return self.answer_in_order(slot, answer);
        }
        if let Phase::Live(live) = &mut self.phase {
            live.meta = next;
            live.stored |= !ops.is_empty();
        }
        let last = effects.last().map(|(seq, _)| *seq);
        for (seq, effect) in effects {
            self.outbox.get_or_insert_default().add(seq, effect);
        }
        let (core, target) = (Arc::clone(&self.shared.core), self.target(Kind::Alarm));
        let addr = addr.clone();
        let wipe = wiped.then(|| self.keys.record(""));
        self.submit(slot, wipe, ops, move |result| {
            if result.is_ok() {
                match new_alarm {
                    NewAlarm::Same => {}
                    NewAlarm::At(at) => core.timers.set(target, at),
                    NewAlarm::Gone => core.timers.clear(&target),
                }
                if let Some(seq) = last {
                    addr.do_send(Flushed::UpTo(seq));
                }
            } else {
                // The alarm that is on disk may be any: the object has to look for itself.
                core.timers
                    .hold(target, core.now().saturating_add(LOOK_AGAIN_MS));
            }
            answer(result);
        });
    }

    /// The batch of a turn, and the alarm if it changed. Empty if the turn changed nothing.
    fn ops(
        &mut self,
        records: Vec<Op>,
        mut outbox: Vec<Op>,
        next: &Meta,
    ) -> Result<(Vec<Op>, NewAlarm), Error> {
        let Phase::Live(live) = &self.phase else {
            return Err(Error::OutcomeUnknown);
        };
        let epoch = self.shared.core.epoch;
        let mut ops = records;
        ops.append(&mut outbox);
        // An object that has nothing stored gets its meta record with its first write only.
        if live.stored || !ops.is_empty() || *next != live.meta {
            let old = live.stored.then_some(&live.meta);
            ops.extend(meta::ops(&self.keys, epoch, old, next)?);
        }
        let new_alarm = match next.alarm {
            same if same == live.meta.alarm => NewAlarm::Same,
            Some(pending) => NewAlarm::At(pending.fire_at),
            None => NewAlarm::Gone,
        };
        ops.append(&mut self.take_acked());
        Ok((ops, new_alarm))
    }

    /// A turn that wrote nothing may still have read what is not durable yet.
    pub(super) fn answer_in_order(&mut self, slot: Slot<'_>, answer: Answer) {
        if self.committed.load(Ordering::Acquire) == self.submitted {
            drop(slot);
            answer(Ok(()));
        } else {
            self.submit(slot, None, Vec::new(), answer);
        }
    }

    /// The turn is void and memory is in doubt: drop the instance, answer after a barrier.
    fn reset(&mut self, slot: Slot<'_>, answer: Answer, error: Error, addr: &Addr<Self>) {
        tracing::warn!(object = %self.id, %error, "a turn failed; the object is read again");
        self.strikes.add(self.shared.core.now(), &error);
        self.drop_instance();
        let addr = addr.clone();
        self.submit(slot, None, Vec::new(), move |result| {
            addr.do_send(Drained);
            answer(Err(result.err().unwrap_or(error)));
        });
    }

    pub(super) fn drop_instance(&mut self) {
        let instance = std::mem::replace(&mut self.phase, Phase::Draining);
        if let Err(reason) = caught(|| drop(instance)) {
            tracing::error!(object = %self.id, reason, "a panic while an instance was dropped");
        }
    }

    pub(super) fn submit(
        &mut self,
        slot: Slot<'_>,
        wipe: Option<Vec<u8>>,
        ops: Vec<Op>,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) {
        self.submitted += 1;
        let (number, committed) = (self.submitted, Arc::clone(&self.committed));
        let done = Box::new(move |result: Result<(), Error>| {
            if result.is_ok() {
                committed.store(number, Ordering::Release);
            }
            done(result);
        });
        slot.commit(Batch {
            origin: Some(Arc::clone(&self.origin)),
            wipe,
            ops,
            done,
        });
    }
}

impl Core {
    /// A place for the batch, unless the outbox is full or the host takes no more.
    pub(super) fn admit<E: Clone>(&self, outbox: Option<&Outbox<E>>) -> Result<Slot<'_>, Error> {
        self.check()?;
        if outbox.map_or(0, Outbox::len) >= self.settings.outbox_max {
            return Err(Error::Overloaded);
        }
        self.committer.reserve()
    }
}

pub(super) fn start<O>(core: &Core, live: &Live<O>, alarm: Option<i64>) -> Start {
    Start {
        now: core.now(),
        epoch: core.epoch,
        nonce: core.chance.draw(),
        alarm,
        next_seq: live.meta.next_seq,
    }
}
