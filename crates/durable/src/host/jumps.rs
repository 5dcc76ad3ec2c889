//! Notices that the time has jumped, and counts it up for objects to compare with.
//!
//! It knows no object: listeners pass the news on to those in memory, the others compare when
//! they wake.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::meta::Jumps;

/// A longer time between two looks at the clock means that nothing ran.
const GAP_MS: i64 = 30_000;
/// The wall clock is adjusted all the time; more than this between two looks is a jump.
const WALL_MS: i64 = 2_000;

type Listener = Box<dyn Fn() + Send + Sync>;

/// What this run of the host has seen of the clocks.
pub(super) struct JumpWatch {
    /// The same as in `seen`, to be read without the lock.
    count: AtomicU64,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The last look: the clock, and how far the wall clock was ahead of it.
    last: (i64, i64),
    total: Jumps,
    listeners: Vec<Listener>,
}

impl JumpWatch {
    pub(super) fn new(clock: &dyn Clock, epoch: u64) -> Self {
        let now = clock.now();
        let total = Jumps {
            epoch,
            ..Jumps::default()
        };
        let seen = Seen {
            last: (now, clock.wall().saturating_sub(now)),
            total,
            listeners: Vec::new(),
        };
        Self {
            count: AtomicU64::new(0),
            seen: Mutex::new(seen),
        }
    }

    /// A look at the clocks, often.
    pub(super) fn tick(&self, clock: &dyn Clock, now: i64) {
        let mut seen = self.seen();
        let ahead_ms = clock.wall().saturating_sub(clock.now());
        let (last, last_ahead_ms) = std::mem::replace(&mut seen.last, (now, ahead_ms));
        let beyond = |ms: i64, limit: i64| if ms.abs() > limit { ms } else { 0 };
        let gap_ms = beyond(now.saturating_sub(last), GAP_MS);
        let wall_ms = beyond(ahead_ms.saturating_sub(last_ahead_ms), WALL_MS);
        if gap_ms == 0 && wall_ms == 0 {
            return;
        }
        tracing::warn!(gap_ms, wall_ms, "the time has jumped");
        seen.total.count += 1;
        seen.total.gap_ms = seen.total.gap_ms.saturating_add(gap_ms);
        seen.total.wall_ms = seen.total.wall_ms.saturating_add(wall_ms);
        self.count.store(seen.total.count, Ordering::Release);
        for listener in &seen.listeners {
            listener();
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    pub(super) fn total(&self) -> Jumps {
        self.seen().total
    }

    pub(super) fn listen(&self, listener: Listener) {
        self.seen().listeners.push(listener);
    }

    /// Forgets whom to tell, so that nothing keeps the namespaces alive.
    pub(super) fn close(&self) {
        self.seen().listeners.clear();
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for JumpWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JumpWatch").field(&self.count()).finish()
    }
}
