//! The alarm clock: wakes objects when their time has come, by a message from outside them.
//!
//! It holds every pending time in memory, filled from the alarm index and the outboxes when a
//! namespace is registered. (A later layout reads what lies beyond the next minute from the
//! index.) The truth is on disk and with the object, which compares before it acts: an entry
//! here may be early or void, but never missing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::ObjectId;
use crate::clock::Clock;

/// A fired entry comes again after this time unless the object has settled it: a wake-up that
/// got lost with a dying actor costs a pause, not the alarm.
const RECHECK_MS: i64 = 30_000;
/// Entries fired before the lock is given free for a moment.
const FIRE_MAX: usize = 256;

/// What the wake-up is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The application's alarm.
    Alarm,
    /// Effects that wait for their next attempt.
    Outbox,
}

/// Whom to wake, and why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) namespace: &'static str,
    pub(crate) id: ObjectId,
    pub(crate) kind: Kind,
}

/// Hands a wake-up to the arbiter of its object. Must not block.
pub(crate) type Waker = Arc<dyn Fn(&ObjectId, Kind) + Send + Sync>;

/// All pending times. Its size is bounded by the number of objects.
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    changed: Notify,
}

#[derive(Default)]
struct Book {
    by_time: BTreeSet<(i64, Target)>,
    by_target: HashMap<Target, i64>,
    wakers: HashMap<&'static str, Waker>,
}

impl Timers {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            book: Mutex::default(),
            changed: Notify::new(),
        }
    }

    pub(crate) fn register(&self, namespace: &'static str, waker: Waker) {
        self.book().wakers.insert(namespace, waker);
    }

    /// Sets the target's time, in place of any other.
    pub(crate) fn set(&self, target: Target, at: i64) {
        let first = {
            let mut book = self.book();
            book.set(target, at);
            book.first() == Some(at)
        };
        if first {
            self.changed.notify_one();
        }
    }

    /// Sets the target's time unless it has one: for times read from disk, which may be older
    /// than what a running object has set meanwhile.
    pub(crate) fn offer(&self, target: Target, at: i64) {
        {
            let mut book = self.book();
            if book.by_target.contains_key(&target) {
                return;
            }
            book.set(target, at);
        }
        self.changed.notify_one();
    }

    pub(crate) fn clear(&self, target: &Target) {
        self.book().remove(target);
    }

    /// Forgets whom to wake, so that nothing keeps the namespaces alive.
    pub(crate) fn close(&self) {
        *self.book() = Book::default();
    }

    /// Fires due entries for ever.
    pub(crate) async fn run(&self) {
        loop {
            let changed = self.changed.notified();
            match self.fire_due() {
                Next::Now => tokio::task::yield_now().await,
                Next::Never => changed.await,
                Next::At(at) => {
                    let sleep = self.clock.sleep_until(at);
                    match select(std::pin::pin!(changed), sleep).await {
                        Either::Left(_) | Either::Right(_) => {}
                    }
                }
            }
        }
    }

    fn fire_due(&self) -> Next {
        let now = self.clock.now();
        let mut fired = Vec::new();
        let next = {
            let mut book = self.book();
            while let Some(entry) = book.due(now).filter(|_| fired.len() < FIRE_MAX) {
                book.set(entry.1.clone(), now.saturating_add(RECHECK_MS));
                if let Some(waker) = book.wakers.get(entry.1.namespace) {
                    fired.push((Arc::clone(waker), entry.1));
                }
            }
            match book.first() {
                Some(at) if at <= now => Next::Now,
                Some(at) => Next::At(at),
                None => Next::Never,
            }
        };
        for (waker, target) in fired {
            waker(&target.id, target.kind);
        }
        next
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Each change below is two map operations that do not panic in between.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Next {
    Now,
    At(i64),
    Never,
}

impl Book {
    fn set(&mut self, target: Target, at: i64) {
        self.remove(&target);
        self.by_time.insert((at, target.clone()));
        self.by_target.insert(target, at);
    }

    fn remove(&mut self, target: &Target) {
        if let Some(at) = self.by_target.remove(target) {
            self.by_time.remove(&(at, target.clone()));
        }
    }

    fn first(&self) -> Option<i64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    fn due(&self, now: i64) -> Option<(i64, Target)> {
        self.by_time.first().filter(|(at, _)| *at <= now).cloned()
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("pending", &self.book().by_target.len())
            .finish()
    }
}
