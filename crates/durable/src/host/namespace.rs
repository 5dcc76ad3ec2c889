//! Handles to objects: a namespace gives stubs, a stub sends messages and reads records.
//!
//! Handles hold no thread: when the host has ended they answer `Stopped`.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use actix::Addr;
use serde_json::Value;
use tokio::sync::oneshot;

use super::call::{Asked, Mend, Permit, Request};
use super::core::Core;
use super::recovery;
use super::registry::{Dispatch, Registry};
use crate::keys::ObjectKeys;
use crate::storage::Order;
use crate::{DeadLetter, Error, Handle, Message, Object, ObjectId, Records, letters};

/// All objects of one kind on one host. Cheap to clone.
pub struct Namespace<O: Object> {
    inner: Arc<Inner<O>>,
}

struct Inner<O: Object> {
    core: Arc<Core>,
    /// One per arbiter; none if the name belongs to another kind.
    routes: Vec<Route<O>>,
}

pub(super) struct Route<O: Object> {
    pub(super) registry: Addr<Registry<O>>,
    pub(super) queued: Arc<AtomicUsize>,
}

impl<O: Object> Namespace<O> {
    pub(super) fn new(core: Arc<Core>, routes: Vec<Route<O>>) -> Self {
        Self {
            inner: Arc::new(Inner { core, routes }),
        }
    }

    /// The handle of one object. It need not exist: the first message makes it.
    pub fn stub(&self, id: &ObjectId) -> Stub<O> {
        Stub {
            inner: Arc::clone(&self.inner),
            id: id.clone(),
        }
    }

    /// The ids that have stored state, in order. One read per id: for displays and repairs.
    ///
    /// # Errors
    /// `Storage` and `Corrupt` from the store, `Stopped`, `OutcomeUnknown` after a failed commit.
    pub async fn ids(&self) -> Result<Vec<ObjectId>, Error> {
        self.inner
            .core
            .read(|storage| recovery::stored_ids(storage, O::NAMESPACE))
            .await
    }

    /// The ids of objects that have dead letters, in order. None of them is woken.
    ///
    /// # Errors
    /// As for `ids`.
    pub async fn dead_lettered(&self) -> Result<Vec<ObjectId>, Error> {
        self.inner
            .core
            .read(|storage| recovery::dead_lettered_ids(storage, O::NAMESPACE))
            .await
    }
}

/// The handle of one object. Cheap to clone.
pub struct Stub<O: Object> {
    inner: Arc<Inner<O>>,
    id: ObjectId,
}

impl<O: Object> Stub<O> {
    /// The object's id.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// Sends a message at once, in the order of the calls; the future waits for the reply, which
    /// comes when everything it could have seen is on disk. Dropping the future does not take
    /// the message back.
    ///
    /// # Errors
    /// `Overloaded` and `Stopped`: nothing was done. `OutcomeUnknown`: it may have been. The
    /// others name a failure of the object or of its data.
    pub fn send<M: Message>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Reply, Error>> + Send + use<O, M>
    where
        O: Handle<M>,
    {
        let (reply, answer) = oneshot::channel();
        let sent = self.dispatch(Asked::Message(Box::new(Request { message, reply })));
        let core = Arc::clone(&self.inner.core);
        async move {
            sent?;
            heard(answer, &core).await
        }
    }

    fn dispatch(&self, asked: Asked<O>) -> Result<(), Error> {
        self.inner.core.check()?;
        let route = self.route()?;
        let queued = Permit::take(&route.queued, self.inner.core.settings.arbiter_queue_max)?;
        route.registry.do_send(Dispatch {
            id: self.id.clone(),
            asked,
            queued,
        });
        Ok(())
    }

    fn route(&self) -> Result<&Route<O>, Error> {
        let routes = &self.inner.routes;
        let taken = || Error::NamespaceTaken {
            namespace: O::NAMESPACE.to_owned(),
        };
        routes.get(pinned(&self.id, routes.len())).ok_or_else(taken)
    }

    /// One record of the object, read from disk without waking it; what it answers is durable.
    ///
    /// # Errors
    /// `Corrupt` or `Newer` for the record, `Storage`, `Stopped`, `OutcomeUnknown`.
    pub async fn get(&self, key: &str) -> Result<Option<Value>, Error> {
        let (id, key) = (self.id.clone(), key.to_owned());
        let core = &self.inner.core;
        core.read(move |storage| Records::new(storage, O::NAMESPACE, &id).get(&key))
            .await
    }

    /// At most `limit` records whose keys begin with `prefix`, read from disk without waking the
    /// object; what it answers is durable. `from` is where the scan begins, inclusive, in the
    /// direction of `order`.
    ///
    /// # Errors
    /// As for `get`.
    pub async fn scan(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Value)>, Error> {
        let (id, prefix, from) = (self.id.clone(), prefix.to_owned(), from.map(str::to_owned));
        let work = move |storage: &dyn crate::storage::Read| {
            Records::new(storage, O::NAMESPACE, &id).scan(&prefix, from.as_deref(), limit, order)
        };
        self.inner.core.read(work).await
    }
}

impl<O: Object> Stub<O> {
    /// The object's dead letters by number, a hundred at most, read from disk without waking it.
    ///
    /// # Errors
    /// As for `get`.
    pub async fn dead_letters(&self) -> Result<Vec<DeadLetter<O::Effect>>, Error> {
        let (id, keys) = (self.id.clone(), ObjectKeys::new(O::NAMESPACE, &self.id));
        let work = move |storage: &dyn crate::storage::Read| letters::all(storage, &keys, &id);
        self.inner.core.read(work).await
    }

    /// Sends a dead letter again, under the number that it always had, and with as many tries as
    /// it had at first. Answers whether there was such a letter, when that is on disk. The object
    /// is not told, and is woken only if there is one.
    ///
    /// # Errors
    /// As for `send`; `Overloaded` also while the outbox is full.
    pub async fn retry_dead_letter(&self, seq: u64) -> Result<bool, Error> {
        match self.dead_letter(seq).await? {
            Some(letter) => self.mend(seq, Some(letter.effect)).await,
            None => Ok(false),
        }
    }

    /// Removes a dead letter for good. Answers whether there was one, when that is on disk. The
    /// object is not told, and is woken only if there is one.
    ///
    /// # Errors
    /// As for `send`.
    pub async fn drop_dead_letter(&self, seq: u64) -> Result<bool, Error> {
        match self.dead_letter(seq).await? {
            Some(_) => self.mend(seq, None).await,
            None => Ok(false),
        }
    }

    async fn dead_letter(&self, seq: u64) -> Result<Option<DeadLetter<O::Effect>>, Error> {
        let (id, keys) = (self.id.clone(), ObjectKeys::new(O::NAMESPACE, &self.id));
        let work = move |storage: &dyn crate::storage::Read| letters::one(storage, &keys, &id, seq);
        self.inner.core.read(work).await
    }

    async fn mend(&self, seq: u64, again: Option<O::Effect>) -> Result<bool, Error> {
        let (reply, answer) = oneshot::channel();
        self.dispatch(Asked::Letter(Box::new(Mend { seq, again, reply })))?;
        heard(answer, &self.inner.core).await
    }
}

/// What the host's end leaves of an answer.
async fn heard<T>(answer: oneshot::Receiver<Result<T, Error>>, core: &Core) -> Result<T, Error> {
    match answer.await {
        Ok(result) => result,
        Err(_) if core.is_stopping() => Err(Error::Stopped),
        Err(_) => Err(Error::OutcomeUnknown),
    }
}

/// The arbiter of an id: the same for every message, or there would be two instances.
pub(super) fn pinned(id: &ObjectId, arbiters: usize) -> usize {
    let hash = crc32fast::hash(id.as_str().as_bytes());
    usize::try_from(hash)
        .unwrap_or_default()
        .checked_rem(arbiters)
        .unwrap_or_default()
}

impl<O: Object> Clone for Namespace<O> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<O: Object> Clone for Stub<O> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            id: self.id.clone(),
        }
    }
}

impl<O: Object> fmt::Debug for Namespace<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", O::NAMESPACE)
    }
}

impl<O: Object> fmt::Debug for Stub<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stub({:?}, {:?})", O::NAMESPACE, self.id.as_str())
    }
}
