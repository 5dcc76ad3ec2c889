//! Which objects live on one arbiter: starts the actor of an id at its first message, a new one
//! when that has died, and lets go of those that nobody needs. All of an id's traffic passes
//! here, so there is never a second one.
//!
//! Going to sleep is a question, never an order: the registry asks, the actor drops its instance
//! if nothing of it is under way and says so, and the registry lets it go unless it has given it
//! something meanwhile. An actor that is let go has an empty mailbox, for good.

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message};

use super::actor::{Jumped, ObjectActor, Shared, Sleep, Step, Wake};
use super::call::{Asked, Permit};
use crate::outbox::Retries;
use crate::timers::Kind;
use crate::{Object, ObjectId};

/// Objects asked to sleep before messages get their turn again.
const SLICE: usize = 1_024;
/// Objects that only a wake-up has loaded: beyond this number the oldest need not have been idle
/// to be asked, so that a flood of alarms does not fill the memory.
const WOKEN_MAX: usize = 1_024;

pub(super) struct Registry<O: Object> {
    shared: Arc<Shared<O>>,
    objects: HashMap<ObjectId, Entry<O>>,
    /// When to look at which object. Each has one entry.
    looks: BTreeSet<(i64, ObjectId)>,
    /// Objects that a wake-up has loaded, the oldest first; some are gone or in use by now.
    woken: VecDeque<ObjectId>,
    /// What sleeping objects have to know about effects that wait for their next attempt.
    resting: HashMap<ObjectId, Retries>,
    /// Counts what was given to objects, so that a late answer is recognised.
    given: u64,
    sweep_is_set: bool,
}

struct Entry<O: Object> {
    addr: Addr<ObjectActor<O>>,
    in_flight: Arc<AtomicUsize>,
    /// The last thing that was given to it.
    given: u64,
    used_at: i64,
    look_at: i64,
    /// No message has come since a wake-up has loaded it.
    by_wake: bool,
}

impl<O: Object> Registry<O> {
    pub(super) fn new(shared: Arc<Shared<O>>) -> Self {
        Self {
            shared,
            objects: HashMap::new(),
            looks: BTreeSet::new(),
            woken: VecDeque::new(),
            resting: HashMap::new(),
            given: 0,
            sweep_is_set: false,
        }
    }

    /// The object's entry, with a living actor behind it; counts as a use.
    fn used(&mut self, id: &ObjectId, by_wake: bool) -> &mut Entry<O> {
        let core = &self.shared.core;
        self.given += 1;
        let now = core.now();
        let start = |replaces, retries| {
            ObjectActor::new(Arc::clone(&self.shared), id.clone(), replaces, retries).start()
        };
        let entry = match self.objects.entry(id.clone()) {
            Slot::Occupied(known) => {
                let entry = known.into_mut();
                if !entry.addr.connected() {
                    tracing::error!(object = %id, "an object's actor has died; a new one starts");
                    entry.addr = start(true, Retries::default());
                    entry.in_flight = Arc::default();
                }
                entry
            }
            Slot::Vacant(free) => {
                let look_at = look_after(now, core.settings.idle_ms());
                self.looks.insert((look_at, id.clone()));
                core.awake.fetch_add(1, Ordering::Relaxed);
                if by_wake {
                    self.woken.push_back(id.clone());
                }
                free.insert(Entry {
                    addr: start(false, self.resting.remove(id).unwrap_or_default()),
                    in_flight: Arc::default(),
                    given: 0,
                    used_at: now,
                    look_at,
                    by_wake,
                })
            }
        };
        entry.given = self.given;
        entry.used_at = now;
        entry.by_wake &= by_wake;
        entry
    }

    /// Looks at the objects whose time for it has come; those that were idle are asked to sleep.
    fn sweep(&mut self, own: &Addr<Self>) {
        let (now, idle_ms) = (self.shared.core.now(), self.shared.core.settings.idle_ms());
        for _ in 0..SLICE {
            if self.looks.first().is_none_or(|(at, _)| *at > now) {
                break;
            }
            let Some((_, id)) = self.looks.pop_first() else {
                break;
            };
            let Some(entry) = self.objects.get_mut(&id) else {
                continue;
            };
            let idle = entry.used_at.saturating_add(idle_ms) <= now;
            let from = if idle { now } else { entry.used_at };
            entry.look_at = look_after(from, idle_ms);
            self.looks.insert((entry.look_at, id.clone()));
            if idle {
                self.ask(&id, own);
            }
        }
    }

    fn ask(&mut self, id: &ObjectId, own: &Addr<Self>) {
        let Some(given) = self.objects.get(id).map(|entry| entry.given) else {
            return;
        };
        // A dead actor says nothing; its replacement first waits for what is under way.
        let alive = |entry: &&mut Entry<O>| entry.addr.connected();
        let addr = match self.objects.get_mut(id).filter(alive) {
            Some(entry) => entry.addr.clone(),
            None => self.used(id, true).addr.clone(),
        };
        let registry = own.clone();
        addr.do_send(Sleep { registry, given });
    }

    /// Asks the oldest of too many objects that only a wake-up has loaded.
    fn relieve(&mut self, own: &Addr<Self>) {
        for _ in 0..2 {
            if self.woken.len() <= WOKEN_MAX {
                return;
            }
            let Some(id) = self.woken.pop_front() else {
                return;
            };
            if self.objects.get(&id).is_some_and(|entry| entry.by_wake) {
                self.ask(&id, own);
            }
        }
    }

    fn let_go(&mut self, id: &ObjectId, retries: Retries) {
        let Some(entry) = self.objects.remove(id) else {
            return;
        };
        self.looks.remove(&(entry.look_at, id.clone()));
        self.shared.core.awake.fetch_sub(1, Ordering::Relaxed);
        if !retries.is_empty() {
            self.resting.insert(id.clone(), retries);
        }
        if self.objects.capacity() > SLICE && self.objects.len() < self.objects.capacity() / 8 {
            self.objects.shrink_to_fit();
        }
    }

    /// One sweep is set while there is anything to look at, and none otherwise.
    fn set_sweep(&mut self, own: &Addr<Self>) {
        let Some((at, _)) = self.looks.first().filter(|_| !self.sweep_is_set) else {
            return;
        };
        self.sweep_is_set = true;
        let (at, own, core) = (*at, own.downgrade(), Arc::clone(&self.shared.core));
        actix::spawn(async move {
            core.settings.clock.sleep_until(at).await;
            if let Some(own) = own.upgrade() {
                own.do_send(Sweep);
            }
        });
    }
}

/// When to look at an object that was used then: in common ticks, so that one sweep serves many.
fn look_after(used_at: i64, idle_ms: i64) -> i64 {
    let tick = (idle_ms / 10).clamp(1, 1_000);
    let due = used_at.saturating_add(idle_ms);
    due.saturating_add((-due).rem_euclid(tick))
}

impl<O: Object> Actor for Registry<O> {
    type Context = Context<Self>;
}

/// From a stub: a message for an object. The permit bounds how many wait on this arbiter.
pub(super) struct Dispatch<O: Object> {
    pub(super) id: ObjectId,
    pub(super) asked: Asked<O>,
    pub(super) queued: Permit,
}

/// From the alarm clock: something of this object may be due.
pub(super) struct WakeObject {
    pub(super) id: ObjectId,
    pub(super) kind: Kind,
}

/// From the clock: the time has jumped.
pub(super) struct TellJump;

impl Message for TellJump {
    type Result = ();
}

impl<O: Object> Handler<TellJump> for Registry<O> {
    type Result = ();

    fn handle(&mut self, _: TellJump, _: &mut Self::Context) {
        self.given += 1;
        let mut all: Vec<_> = self.objects.iter_mut().collect();
        // The order of a hash map would differ from run to run.
        all.sort_unstable_by_key(|(id, _)| *id);
        for (_, entry) in all {
            // No use of it, but nothing that an actor on its way to sleep may miss.
            entry.given = self.given;
            entry.addr.do_send(Jumped);
        }
    }
}

/// Time to look at objects.
struct Sweep;

/// From an object that was asked to sleep.
pub(super) struct SleepAnswer {
    pub(super) id: ObjectId,
    pub(super) given: u64,
    /// None: something of it is under way, and it stays awake.
    pub(super) asleep: Option<Retries>,
}

impl<O: Object> Message for Dispatch<O> {
    type Result = ();
}

impl Message for WakeObject {
    type Result = ();
}

impl Message for Sweep {
    type Result = ();
}

impl Message for SleepAnswer {
    type Result = ();
}

impl<O: Object> Handler<Dispatch<O>> for Registry<O> {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch<O>, ctx: &mut Self::Context) {
        let Dispatch { id, asked, queued } = dispatch;
        drop(queued);
        let mailbox_max = self.shared.core.settings.mailbox_max;
        let entry = self.used(&id, false);
        match Permit::take(&entry.in_flight, mailbox_max) {
            Ok(permit) => entry.addr.do_send(Step { asked, permit }),
            Err(error) => asked.refuse(error),
        }
        self.set_sweep(&ctx.address());
    }
}

impl<O: Object> Handler<WakeObject> for Registry<O> {
    type Result = ();

    fn handle(&mut self, wake: WakeObject, ctx: &mut Self::Context) {
        self.used(&wake.id, true).addr.do_send(Wake(wake.kind));
        self.relieve(&ctx.address());
        self.set_sweep(&ctx.address());
    }
}

impl<O: Object> Handler<Sweep> for Registry<O> {
    type Result = ();

    fn handle(&mut self, _: Sweep, ctx: &mut Self::Context) {
        self.sweep_is_set = false;
        self.sweep(&ctx.address());
        self.set_sweep(&ctx.address());
    }
}

impl<O: Object> Handler<SleepAnswer> for Registry<O> {
    type Result = ();

    fn handle(&mut self, answer: SleepAnswer, _: &mut Self::Context) {
        let SleepAnswer { id, given, asleep } = answer;
        let Some(entry) = self.objects.get(&id) else {
            return;
        };
        match asleep {
            // What was given to it meanwhile is in its mailbox, and loads it again.
            Some(retries) if entry.given == given => self.let_go(&id, retries),
            None if entry.by_wake => self.woken.push_back(id),
            Some(_) | None => {}
        }
    }
}
