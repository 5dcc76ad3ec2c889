//! How an instance comes from disk: on a thread that may block, within a time, then to its actor.
//!
//! The arbiter serves other objects meanwhile. A load that takes too long is given up: callers
//! get an error, and the object is not loaded again before that thread has come back, so that
//! one object holds one thread at most.

use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Handler, Message};

use super::actor::{Live, ObjectActor, Phase, Shared};
use super::call::caught;
use crate::keys::{self, ObjectKeys};
use crate::letters::Letters;
use crate::meta::Meta;
use crate::outbox::Outbox;
use crate::storage::{Order, Read as Stored};
use crate::timers::Kind;
use crate::{Error, Object, ObjectId, Records, record};

/// Effects read per call into the store.
const PAGE: usize = 256;

/// What is in an outbox, and the numbers of what refusals are left of without an effect: a program
/// that knows of no refusals has removed it.
type Stock<E> = (Outbox<E>, Vec<u64>);

/// What was read for an object.
struct Read<O: Object> {
    /// None if the actor has it in memory.
    outbox: Option<Result<Stock<O::Effect>, Error>>,
    live: Result<Live<O>, Error>,
}

/// From the loading thread: the instance, or why there is none.
pub(super) struct Loaded<O: Object>(Result<Read<O>, Error>);

impl<O: Object> Message for Loaded<O> {
    type Result = ();
}

impl<O: Object> ObjectActor<O> {
    /// Begins to load the instance; what waits for it is parked.
    pub(super) fn begin_load(&mut self, addr: &Addr<Self>) {
        let core = Arc::clone(&self.shared.core);
        let rested = self.strikes.check(core.now(), &self.id);
        let ready = rested
            .and_then(|()| core.check())
            .and_then(|()| core.storage());
        let storage = match ready {
            _ if self.load_hangs() => return self.refuse_parked(&self.too_long(), addr),
            Ok(storage) => storage,
            Err(error) => return self.refuse_parked(&error, addr),
        };
        let (shared, id, whole) = (
            Arc::clone(&self.shared),
            self.id.clone(),
            self.outbox.is_none(),
        );
        let read = move || read::<O>(&shared, &*storage, &id, whole);
        let Some(reading) = core.executor.load(read) else {
            return self.refuse_parked(&Error::Stopped, addr);
        };
        self.loading = Some(reading.abort_handle());
        self.phase = Phase::Loading;
        let limit = Duration::from_millis(core.settings.load_timeout_ms);
        let (addr, too_long) = (addr.clone(), self.too_long());
        actix::spawn(async move {
            let read = match tokio::time::timeout(limit, reading).await {
                Ok(Ok(read)) => Ok(read),
                Ok(Err(_)) => Err(Error::Stopped),
                Err(_) => Err(too_long),
            };
            addr.do_send(Loaded(read));
        });
    }

    /// Whether an earlier load was given up and still runs.
    pub(super) fn load_hangs(&self) -> bool {
        let loading = self.loading.as_ref();
        loading.is_some_and(|loading| !loading.is_finished())
    }

    fn too_long(&self) -> Error {
        Error::LoadTimeout {
            object: self.id.to_string(),
            after_ms: self.shared.core.settings.load_timeout_ms,
        }
    }

    fn on_loaded(&mut self, loaded: Result<Read<O>, Error>, addr: &Addr<Self>) {
        let now = self.shared.core.now();
        self.phase = Phase::Cold;
        if self.is_over() {
            // It may have been read before the store was opened again.
            self.loading = None;
            self.renew();
            return self.begin_load(addr);
        }
        let loaded = loaded.and_then(|read| {
            if let Some(outbox) = read.outbox {
                let (mut outbox, strays) = outbox?;
                outbox.resume(&std::mem::take(&mut self.retries));
                for accepted in self.acked.waiting() {
                    outbox.gone(accepted.seq);
                }
                for seq in strays {
                    self.acked.add(seq, true);
                }
                self.outbox = Some(outbox);
                self.pump(addr);
            }
            read.live
        });
        match loaded {
            Ok(mut live) => {
                if !live.stored {
                    // What was before its time is no news to it.
                    let total = self.shared.core.jumps.total();
                    live.meta.jumps = (total.count > 0).then_some(total);
                }
                if let Some(alarm) = live.meta.alarm {
                    let target = self.target(Kind::Alarm);
                    self.shared.core.timers.offer(target, alarm.fire_at);
                }
                self.loading = None;
                self.phase = Phase::Live(live);
                self.run_parked(addr);
            }
            Err(error) => {
                // A full disk is no failure of the object.
                if !error.is_full() {
                    self.strikes.add(now, &error);
                }
                self.refuse_parked(&error, addr);
            }
        }
    }
}

impl<O: Object> Handler<Loaded<O>> for ObjectActor<O> {
    type Result = ();

    fn handle(&mut self, Loaded(read): Loaded<O>, ctx: &mut Self::Context) {
        use actix::AsyncContext;
        self.on_loaded(read, &ctx.address());
    }
}

fn read<O: Object>(
    shared: &Shared<O>,
    storage: &dyn Stored,
    id: &ObjectId,
    with_outbox: bool,
) -> Read<O> {
    Read {
        outbox: with_outbox.then(|| read_outbox(storage, O::NAMESPACE, id)),
        live: read_object(shared, storage, id),
    }
}

fn read_object<O: Object>(
    shared: &Shared<O>,
    storage: &dyn Stored,
    id: &ObjectId,
) -> Result<Live<O>, Error> {
    let key = ObjectKeys::new(O::NAMESPACE, id).meta();
    let stored = match storage.get(&key)? {
        Some(value) => Some(record::open_json::<Meta>(id.as_str(), &key, &value)?),
        None => None,
    };
    let records = Records::new(storage, O::NAMESPACE, id);
    let object = caught(|| O::load(id, &records, &shared.env)).map_err(|reason| {
        let object = id.to_string();
        Error::Panicked { object, reason }
    })??;
    Ok(Live {
        object: Box::new(object),
        stored: stored.is_some(),
        meta: stored.unwrap_or_default(),
    })
}

fn read_outbox<E>(storage: &dyn Stored, namespace: &str, id: &ObjectId) -> Result<Stock<E>, Error>
where
    E: Clone + serde::de::DeserializeOwned,
{
    let keys = ObjectKeys::new(namespace, id);
    let (mut outbox, mut strays) = (Outbox::default(), Vec::new());
    each(storage, &keys.outbox(), |key, value| {
        let effect = record::open_json(id.as_str(), key, value)?;
        outbox.restore(keys::effect_seq(key).unwrap_or_default(), effect);
        Ok(())
    })?;
    if outbox.len() > 0 {
        each(storage, &keys.all_tries(), |key, value| {
            let seq = keys::effect_seq(key).unwrap_or_default();
            let refused = record::open_json(id.as_str(), key, value)?;
            if !outbox.restore_tries(seq, refused) {
                strays.push(seq);
            }
            Ok(())
        })?;
    }
    outbox.letters = Letters::read(storage, &keys, id)?;
    Ok((outbox, strays))
}

/// Everything below a prefix, page by page.
fn each(
    storage: &dyn Stored,
    prefix: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut start, end) = (prefix.to_vec(), keys::end_of(prefix));
    loop {
        let page = storage.scan(&start, &end, Order::Ascending, PAGE)?;
        for (key, value) in &page {
            take(key, value)?;
        }
        match page.into_iter().nth(PAGE - 1) {
            Some((key, _)) => start = record::after(key),
            None => return Ok(()),
        }
    }
}
