//! Which objects live on one arbiter: starts the actor of an id at its first message, and a new
//! one when that has died. All of an id's traffic passes here, so there is never a second one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use actix::{Actor, Addr, Context, Handler, Message};

use super::actor::{ObjectActor, Shared, Step, Wake};
use super::call::{Call, Permit};
use crate::timers::Kind;
use crate::{Object, ObjectId};

pub(super) struct Registry<O: Object> {
    shared: Arc<Shared<O>>,
    objects: HashMap<ObjectId, Entry<O>>,
}

struct Entry<O: Object> {
    addr: Addr<ObjectActor<O>>,
    in_flight: Arc<AtomicUsize>,
}

impl<O: Object> Registry<O> {
    pub(super) fn new(shared: Arc<Shared<O>>) -> Self {
        Self {
            shared,
            objects: HashMap::new(),
        }
    }

    fn entry(&mut self, id: &ObjectId) -> (Addr<ObjectActor<O>>, Arc<AtomicUsize>) {
        let known = self.objects.get(id);
        let replaces = known.is_some();
        if let Some(entry) = known.filter(|entry| entry.addr.connected()) {
            return (entry.addr.clone(), Arc::clone(&entry.in_flight));
        }
        if replaces {
            tracing::error!(object = %id, "the actor of an object has died; a new one starts");
        }
        let addr = ObjectActor::new(Arc::clone(&self.shared), id.clone(), replaces).start();
        let in_flight = Arc::<AtomicUsize>::default();
        let entry = Entry {
            addr: addr.clone(),
            in_flight: Arc::clone(&in_flight),
        };
        self.objects.insert(id.clone(), entry);
        (addr, in_flight)
    }
}

impl<O: Object> Actor for Registry<O> {
    type Context = Context<Self>;
}

/// From a stub: a message for an object. The permit bounds how many wait on this arbiter.
pub(super) struct Dispatch<O> {
    pub(super) id: ObjectId,
    pub(super) call: Box<dyn Call<O>>,
    pub(super) queued: Permit,
}

/// From the alarm clock: something of this object may be due.
pub(super) struct WakeObject {
    pub(super) id: ObjectId,
    pub(super) kind: Kind,
}

impl<O: Object> Message for Dispatch<O> {
    type Result = ();
}

impl Message for WakeObject {
    type Result = ();
}

impl<O: Object> Handler<Dispatch<O>> for Registry<O> {
    type Result = ();

    fn handle(&mut self, dispatch: Dispatch<O>, _: &mut Self::Context) {
        let Dispatch { id, call, queued } = dispatch;
        drop(queued);
        let (addr, in_flight) = self.entry(&id);
        match Permit::take(&in_flight, self.shared.core.settings.mailbox_max) {
            Ok(permit) => addr.do_send(Step { call, permit }),
            Err(error) => call.refuse(error),
        }
    }
}

impl<O: Object> Handler<WakeObject> for Registry<O> {
    type Result = ();

    fn handle(&mut self, wake: WakeObject, _: &mut Self::Context) {
        self.entry(&wake.id).0.do_send(Wake(wake.kind));
    }
}
