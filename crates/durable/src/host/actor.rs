//! The actor of one object: its mailbox, its one instance, and how the instance comes and goes.
//!
//! An instance is dropped whenever memory may differ from disk (a panic, a refused write, a
//! failed alarm). The next one is loaded only after a barrier through the committer, so that it
//! reads everything that the old one had under way. How it is loaded is in `load`, what a step
//! does in `step`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};
use tokio::task::AbortHandle;

use super::acked::Acked;
use super::call::{Asked, Permit};
use super::core::Core;
use super::registry::{Registry, SleepAnswer};
use super::strikes::Strikes;
use crate::commit::Origin;
use crate::keys::ObjectKeys;
use crate::meta::{self, Meta};
use crate::outbox::{Outbox, Retries};
use crate::timers::{Kind, Target};
use crate::{Deliver, Error, NotDelivered, Object, ObjectId};

/// What all objects of a namespace share.
pub(super) struct Shared<O: Object> {
    pub(super) core: Arc<Core>,
    pub(super) env: O::Env,
    pub(super) deliver: Arc<dyn Deliver<O::Effect>>,
}

pub(super) struct ObjectActor<O: Object> {
    pub(super) shared: Arc<Shared<O>>,
    pub(super) id: ObjectId,
    pub(super) keys: ObjectKeys,
    pub(super) origin: Arc<Origin>,
    pub(super) phase: Phase<O>,
    /// Messages that wait for a barrier. Bounded by the permits that they carry.
    pub(super) parked: VecDeque<Step<O>>,
    /// Wake-ups that wait for a barrier.
    pub(super) parked_wakes: Vec<Kind>,
    /// None until it has been read from disk.
    pub(super) outbox: Option<Outbox<O::Effect>>,
    /// Acknowledged effects that are still on disk.
    pub(super) acked: Acked,
    /// What the outbox has to know of its time before a sleep.
    pub(super) retries: Retries,
    pub(super) submitted: u64,
    pub(super) committed: Arc<AtomicU64>,
    pub(super) strikes: Strikes,
    /// Jumps of time up to this one need not be told again, even if it went wrong.
    pub(super) jumps_tried: u64,
    /// The load under way, or one that was given up and has not come back.
    pub(super) loading: Option<AbortHandle>,
}

pub(super) enum Phase<O> {
    /// No instance; the next message loads one.
    Cold,
    /// No instance, and none may be loaded before the barrier has come back.
    Draining,
    /// No instance yet; it is being loaded on another thread.
    Loading,
    Live(Live<O>),
}

pub(super) struct Live<O> {
    /// Boxed, because actors have to be movable and an object need not be.
    pub(super) object: Box<O>,
    pub(super) meta: Meta,
    /// Whether a meta record exists, or is on its way to disk.
    pub(super) stored: bool,
}

impl<O: Object> ObjectActor<O> {
    /// `replaces`: an earlier actor of this id has died and may have batches under way.
    pub(super) fn new(
        shared: Arc<Shared<O>>,
        id: ObjectId,
        replaces: bool,
        retries: Retries,
    ) -> Self {
        let activation = shared.core.next_activation();
        let origin = Origin {
            namespace: O::NAMESPACE,
            id: id.clone(),
            activation,
        };
        Self {
            keys: ObjectKeys::new(O::NAMESPACE, &id),
            origin: Arc::new(origin),
            phase: if replaces {
                Phase::Draining
            } else {
                Phase::Cold
            },
            parked: VecDeque::new(),
            parked_wakes: Vec::new(),
            outbox: None,
            acked: Acked::default(),
            retries,
            submitted: 0,
            committed: Arc::default(),
            strikes: Strikes::default(),
            loading: None,
            jumps_tried: 0,
            shared,
            id,
        }
    }

    pub(super) fn target(&self, kind: Kind) -> Target {
        Target {
            namespace: O::NAMESPACE,
            id: self.id.clone(),
            kind,
        }
    }

    fn on_step(&mut self, step: Step<O>, addr: &Addr<Self>) {
        self.renew();
        match self.phase {
            Phase::Live(_) => self.step(step, addr),
            Phase::Draining | Phase::Loading => self.parked.push_back(step),
            Phase::Cold => {
                self.parked.push_back(step);
                self.begin_load(addr);
            }
        }
    }

    fn on_wake(&mut self, kind: Kind, addr: &Addr<Self>) {
        self.renew();
        match (&self.phase, kind) {
            (Phase::Live(_), Kind::Alarm) => self.check_alarm(addr),
            (Phase::Live(_), Kind::Outbox) => self.pump(addr),
            (Phase::Draining | Phase::Loading, _) => self.parked_wakes.push(kind),
            (Phase::Cold, Kind::Outbox) if self.can_pump_cold() => self.pump(addr),
            (Phase::Cold, _) => {
                self.parked_wakes.push(kind);
                self.begin_load(addr);
            }
        }
    }

    /// Our own failure: it is repeated, and counts against nobody.
    pub(super) fn wake_later(&self, kind: Kind, error: &Error) {
        if self.shared.core.check().is_err() {
            // Nothing can be stored any more; after the next start the index has it.
            return;
        }
        let pause_ms = meta::own_retry_ms(self.strikes.count.max(1));
        tracing::warn!(object = %self.id, %error, pause_ms, "a wake-up has to be repeated");
        let at = self.shared.core.now().saturating_add(pause_ms);
        self.shared.core.timers.hold(self.target(kind), at);
    }

    fn on_drained(&mut self, addr: &Addr<Self>) {
        self.phase = Phase::Cold;
        self.renew();
        self.park_to_bury();
        if !self.parked.is_empty() || !self.parked_wakes.is_empty() {
            self.begin_load(addr);
        }
    }

    /// Drops the instance if nothing of the object is under way; gives what it would miss.
    fn fall_asleep(&mut self) -> Option<Retries> {
        self.renew();
        let committed = self.committed.load(Ordering::Acquire) == self.submitted;
        let under_way = matches!(self.phase, Phase::Draining | Phase::Loading);
        if !committed || under_way || self.load_hangs() {
            return None;
        }
        self.forget_acked();
        let written =
            self.acked.is_empty() && self.committed.load(Ordering::Acquire) == self.submitted;
        if !written || self.strikes.matter(self.shared.core.now()) {
            return None;
        }
        let retries = match &self.outbox {
            Some(outbox) => {
                let retries = outbox.rest()?;
                if let Some(at) = outbox.next_retry() {
                    let target = self.target(Kind::Outbox);
                    self.shared.core.timers.hold(target, at);
                }
                retries
            }
            None => std::mem::take(&mut self.retries),
        };
        self.drop_instance();
        self.phase = Phase::Cold;
        self.outbox = None;
        // For the case that it is not let go.
        self.retries.clone_from(&retries);
        Some(retries)
    }

    /// Everything that waits for an instance gets its turn.
    pub(super) fn run_parked(&mut self, addr: &Addr<Self>) {
        for kind in std::mem::take(&mut self.parked_wakes) {
            self.on_wake(kind, addr);
        }
        // A step may fail and drain; the rest then waits once more, in order.
        while matches!(self.phase, Phase::Live(_)) {
            let Some(step) = self.parked.pop_front() else {
                break;
            };
            self.step(step, addr);
        }
    }

    /// There is no instance for what waits, and the reason.
    pub(super) fn refuse_parked(&mut self, error: &Error, addr: &Addr<Self>) {
        for kind in std::mem::take(&mut self.parked_wakes) {
            match kind {
                // Effects need no instance.
                Kind::Outbox if self.outbox.is_some() => self.pump(addr),
                _ => self.wake_later(kind, error),
            }
        }
        for step in std::mem::take(&mut self.parked) {
            step.asked.refuse(error.clone());
        }
    }
}

impl<O: Object> Actor for ObjectActor<O> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if matches!(self.phase, Phase::Draining) {
            let (core, addr) = (Arc::clone(&self.shared.core), ctx.address());
            actix::spawn(async move {
                // A failed barrier shows again at the next commit.
                let _ = core.committer.barrier().await;
                addr.do_send(Drained);
            });
        }
    }
}

/// From the registry: one message for the object. The permit bounds how many there are.
pub(super) struct Step<O: Object> {
    pub(super) asked: Asked<O>,
    pub(super) permit: Permit,
}

/// From the alarm clock, through the registry: look whether something is due.
pub(super) struct Wake(pub(super) Kind);

/// From the committer: nothing of an earlier instance is under way any more.
pub(super) struct Drained;

/// From the committer: effects are durable and may leave.
pub(super) enum Flushed {
    /// All that turns have sent up to this number.
    UpTo(u64),
    /// One that was a dead letter.
    Retried(u64),
}

/// From a delivery: it has ended.
pub(super) struct Landed {
    pub(super) seq: u64,
    pub(super) result: Result<(), NotDelivered>,
}

/// From the registry: leave memory, if nothing is under way.
pub(super) struct Sleep<O: Object> {
    pub(super) registry: Addr<Registry<O>>,
    pub(super) given: u64,
}

impl<O: Object> Message for Sleep<O> {
    type Result = ();
}

impl<O: Object> Message for Step<O> {
    type Result = ();
}

impl Message for Wake {
    type Result = ();
}

/// From the registry: the time has jumped.
pub(super) struct Jumped;

impl Message for Jumped {
    type Result = ();
}

impl Message for Drained {
    type Result = ();
}

impl Message for Flushed {
    type Result = ();
}

impl Message for Landed {
    type Result = ();
}

impl<O: Object> Handler<Step<O>> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, step: Step<O>, ctx: &mut Self::Context) {
        self.on_step(step, &ctx.address());
    }
}

impl<O: Object> Handler<Wake> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, Wake(kind): Wake, ctx: &mut Self::Context) {
        self.on_wake(kind, &ctx.address());
    }
}

impl<O: Object> Handler<Sleep<O>> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, sleep: Sleep<O>, _: &mut Self::Context) {
        let Sleep { registry, given } = sleep;
        let asleep = self.fall_asleep();
        let id = self.id.clone();
        registry.do_send(SleepAnswer { id, given, asleep });
    }
}

impl<O: Object> Handler<Jumped> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, _: Jumped, ctx: &mut Self::Context) {
        // Without a place for the batch now, the next turn is preceded by it.
        let _ = self.tell_jump(&ctx.address());
    }
}

impl<O: Object> Handler<Drained> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, _: Drained, ctx: &mut Self::Context) {
        self.on_drained(&ctx.address());
    }
}

impl<O: Object> Handler<Flushed> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, flushed: Flushed, ctx: &mut Self::Context) {
        self.on_flushed(flushed, &ctx.address());
    }
}

impl<O: Object> Handler<Landed> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, landed: Landed, ctx: &mut Self::Context) {
        self.on_landed(landed, &ctx.address());
    }
}
