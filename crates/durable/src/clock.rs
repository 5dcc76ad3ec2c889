//! Time as an argument: the system's clock, and one that tests turn by hand.
//!
//! Running time is monotonic over suspend (boot time, from the wall time at start), so that a
//! jump of the wall clock neither loses an alarm nor fires one early.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// A boxed future, as traits that are used as objects need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where alarms and turns take their time from.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Unix milliseconds; never goes back.
    fn now(&self) -> i64;
    /// Unix milliseconds as the machine tells them; may jump either way.
    fn wall(&self) -> i64 {
        self.now()
    }
    /// Resolves once `at` may have come. It may resolve early: the caller looks at `now` again.
    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()>;
}

/// A timer stands still while the machine sleeps, so no sleep is longer than this.
const SLEEP_MS_MAX: i64 = 1_000;

/// Wall time at start plus boot time since.
#[derive(Debug)]
pub struct SystemClock {
    /// Unix milliseconds at boot, as judged at start.
    boot_at: i64,
}

impl SystemClock {
    /// Takes the wall time once, now.
    pub fn new() -> Self {
        Self {
            boot_at: millis(ClockId::Realtime).saturating_sub(millis(ClockId::Boottime)),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        self.boot_at.saturating_add(millis(ClockId::Boottime))
    }

    fn wall(&self) -> i64 {
        millis(ClockId::Realtime)
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        let left_ms = at.saturating_sub(self.now()).clamp(0, SLEEP_MS_MAX);
        Box::pin(tokio::time::sleep(Duration::from_millis(
            left_ms.unsigned_abs(),
        )))
    }
}

fn millis(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

/// A clock that stands until it is turned.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<i64>,
    /// How far the wall clock is ahead.
    wall_ahead_ms: AtomicI64,
}

impl ManualClock {
    /// Stands at `now` (unix milliseconds).
    pub fn new(now: i64) -> Self {
        Self {
            now: watch::Sender::new(now),
            wall_ahead_ms: AtomicI64::new(0),
        }
    }

    /// Moves forward by that many milliseconds and wakes sleepers whose time has come.
    pub fn advance(&self, ms: i64) {
        self.now.send_modify(|now| *now = now.saturating_add(ms));
    }

    /// Turns the wall clock alone, forward or back.
    pub fn jump_wall(&self, ms: i64) {
        self.wall_ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> i64 {
        *self.now.borrow()
    }

    fn wall(&self) -> i64 {
        let ahead_ms = self.wall_ahead_ms.load(Ordering::SeqCst);
        self.now().saturating_add(ahead_ms)
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The sender lives as long as this borrow of it, so the wait cannot fail.
            let _ = now.wait_for(|now| *now >= at).await;
        })
    }
}
