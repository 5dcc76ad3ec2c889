//! The alarm clock: wakes objects when their time has come, by a message from outside them.
//!
//! The truth is on disk and with the object, which compares before it acts: an entry here may be
//! early or void, but never missing. The `book` holds the near future; the rest is read from the
//! alarm index before its time.

mod book;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use self::book::{Book, Limits, Next};
pub(crate) use self::book::{Edge, Found, Scan};
use crate::clock::{BoxFuture, Clock};
use crate::{Error, ObjectId};

/// Entries fired before the lock is given free for a moment.
const FIRE_MAX: usize = 256;
/// Entries offered before the lock is given free for a moment.
const OFFER_MAX: usize = 1_024;
/// The clock is looked at no more seldom, so that a jump of it is noticed.
const TICK_MS: i64 = 10_000;

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

/// Reads a part of the alarm index, off the thread that asks.
pub(crate) type Index = dyn Fn(Scan) -> BoxFuture<'static, Result<Found, Error>> + Send + Sync;

/// The wake-ups of all objects.
pub(crate) struct Timers {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    changed: Notify,
    /// Told each time that something was fired.
    fired: Notify,
}

struct Inner {
    book: Book,
    wakers: HashMap<&'static str, Waker>,
}

impl Timers {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::new(Inner {
                book: Book::new(Limits::default()),
                wakers: HashMap::new(),
            }),
            changed: Notify::new(),
            fired: Notify::new(),
        }
    }

    /// From now on alarms of that namespace are read and fired.
    pub(crate) fn register(&self, namespace: &'static str, waker: Waker) {
        self.inner().wakers.insert(namespace, waker);
        self.change(|book| book.register(namespace));
    }

    /// Sets the target's time to the alarm that is on disk for it. Settles what was fired.
    pub(crate) fn set(&self, target: Target, at: i64) {
        self.change(|book| book.set(target, at));
    }

    /// Sets a time that nothing on disk tells of. Settles what was fired.
    pub(crate) fn hold(&self, target: Target, at: i64) {
        self.change(|book| book.hold(target, at));
    }

    /// Sets the target's time unless it has one: for times read from disk, which may be older
    /// than what a running object has set meanwhile.
    pub(crate) fn offer(&self, target: Target, at: i64) {
        self.change(|book| book.offer(target, at));
    }

    /// There is nothing to wake the target for. Settles what was fired.
    pub(crate) fn clear(&self, target: &Target) {
        self.change(|book| book.remove(target));
    }

    /// Wakes the targets, as soon as there is room for them, and returns when all were woken.
    pub(crate) async fn wake_all(&self, targets: Vec<Target>) {
        self.change(|book| {
            for target in targets {
                book.wake(target);
            }
        });
        loop {
            let fired = self.fired.notified();
            if self.inner().book.waking() == 0 {
                return;
            }
            fired.await;
        }
    }

    /// Changes the book, and tells the clock if something is due earlier than it knows.
    fn change(&self, change: impl FnOnce(&mut Book)) {
        let sooner = {
            let book = &mut self.inner().book;
            let before = book.next(i64::MIN);
            change(book);
            book.next(i64::MIN) < before
        };
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Forgets whom to wake, so that nothing keeps the namespaces alive.
    pub(crate) fn close(&self) {
        let mut inner = self.inner();
        inner.wakers.clear();
        inner.book = Book::new(Limits::default());
    }

    /// Fires due entries for ever, and reads the index ahead of them. `tick` is told the time
    /// before anything of that time is fired.
    pub(crate) async fn run(&self, index: &Index, tick: impl Fn(i64)) {
        let mut scan: Option<BoxFuture<'static, Result<Found, Error>>> = None;
        loop {
            let changed = self.changed.notified();
            let now = self.clock.now();
            tick(now);
            if scan.is_none() {
                scan = self.inner().book.begin_scan(now).map(index);
            }
            let next = self.fire_due(now);
            tokio::select! {
                biased;
                found = done(&mut scan) => {
                    scan = None;
                    self.take_in(found);
                }
                () = changed => {}
                () = self.pause(next, now) => {}
            }
        }
    }

    async fn pause(&self, next: Next, now: i64) {
        let tick_at = now.saturating_add(TICK_MS);
        match next {
            Next::Now => tokio::task::yield_now().await,
            Next::At(at) => self.clock.sleep_until(at.min(tick_at)).await,
            Next::Never => self.clock.sleep_until(tick_at).await,
        }
    }

    fn take_in(&self, found: Result<Found, Error>) {
        let reached = match found {
            Ok(Found { alarms, reached }) => {
                for some in alarms.chunks(OFFER_MAX) {
                    let mut inner = self.inner();
                    for (namespace, id, at) in some {
                        let (namespace, id, kind) = (*namespace, id.clone(), Kind::Alarm);
                        let target = Target {
                            namespace,
                            id,
                            kind,
                        };
                        inner.book.offer(target, *at);
                    }
                }
                Some(reached)
            }
            Err(error) => {
                tracing::error!(%error, "cannot read the alarm index; trying again");
                None
            }
        };
        self.inner().book.end_scan(reached, self.clock.now());
    }

    fn fire_due(&self, now: i64) -> Next {
        let (due, next) = {
            let Inner { book, wakers } = &mut *self.inner();
            let due = book.fire(now, FIRE_MAX).into_iter();
            let due: Vec<_> = due
                .filter_map(|target| Some((Arc::clone(wakers.get(target.namespace)?), target)))
                .collect();
            (due, book.next(now))
        };
        if !due.is_empty() {
            self.fired.notify_waiters();
        }
        for (waker, target) in due {
            waker(&target.id, target.kind);
        }
        next
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change of the book is some map operations that do not panic in between.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of the scan under way, if there is one.
async fn done(scan: &mut Option<BoxFuture<'static, Result<Found, Error>>>) -> Result<Found, Error> {
    match scan {
        Some(scan) => scan.await,
        None => std::future::pending().await,
    }
}

impl std::fmt::Debug for Timers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timers")
            .field("pending", &self.inner().book.len())
            .finish()
    }
}
