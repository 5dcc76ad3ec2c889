//! Time as an argument: the system's clock, one that tests turn by hand, and a runtime's.
//!
//! Running time is monotonic over suspend (boot time, from the wall time at start), so that a
//! jump of the wall clock neither loses an alarm nor fires one early.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

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

/// Nanoseconds in a millisecond.
const NANOS: i64 = 1_000_000;

/// Wall time at start plus boot time since.
#[derive(Debug)]
pub struct SystemClock {
    /// Unix nanoseconds at boot, as judged at start: whole milliseconds would put this clock up
    /// to one behind the wall clock, and an answer before its question.
    boot_at_ns: i64,
}

impl SystemClock {
    /// Takes the wall time once, now.
    pub fn new() -> Self {
        // In this order the time between the two looks puts it ahead, never behind.
        let since_boot = nanos(ClockId::Boottime);
        Self {
            boot_at_ns: nanos(ClockId::Realtime).saturating_sub(since_boot),
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
        let now_ns = self.boot_at_ns.saturating_add(nanos(ClockId::Boottime));
        now_ns.div_euclid(NANOS)
    }

    fn wall(&self) -> i64 {
        nanos(ClockId::Realtime).div_euclid(NANOS)
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        let left_ms = at.saturating_sub(self.now()).clamp(0, SLEEP_MS_MAX);
        Box::pin(tokio::time::sleep(Duration::from_millis(
            left_ms.unsigned_abs(),
        )))
    }
}

/// Enough for the years until 2262.
fn nanos(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(time.tv_nsec)
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

/// Follows the time of the tokio runtime that it was made in: with a paused runtime, virtual
/// time, which passes at once whenever nobody has anything to do.
#[derive(Debug)]
pub struct TokioClock {
    begun: Instant,
    base: i64,
    /// How long the machine has slept: the runtime's timers stand still meanwhile.
    slept_ms: AtomicI64,
    /// Wakes in the order of waiting; a watch does it in an order that no seed decides.
    woken: Notify,
    wall_ahead_ms: AtomicI64,
}

impl TokioClock {
    /// Begins at `now` (unix milliseconds), inside a runtime.
    pub fn new(now: i64) -> Self {
        Self {
            begun: Instant::now(),
            base: now,
            slept_ms: AtomicI64::new(0),
            woken: Notify::new(),
            wall_ahead_ms: AtomicI64::new(0),
        }
    }

    /// The machine was asleep for so long: time has gone on, and nothing has run.
    pub fn slept(&self, ms: u32) {
        self.slept_ms.fetch_add(i64::from(ms), Ordering::SeqCst);
        self.woken.notify_waiters();
    }

    /// Turns the wall clock alone, forward or back.
    pub fn jump_wall(&self, ms: i64) {
        self.wall_ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> i64 {
        let run_ms = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let since = run_ms.saturating_add(self.slept_ms.load(Ordering::SeqCst));
        self.base.saturating_add(since)
    }

    fn wall(&self) -> i64 {
        let ahead_ms = self.wall_ahead_ms.load(Ordering::SeqCst);
        self.now().saturating_add(ahead_ms)
    }

    fn sleep_until(&self, at: i64) -> BoxFuture<'_, ()> {
        let woken = self.woken.notified();
        let left_ms = at.saturating_sub(self.now()).max(0).unsigned_abs();
        Box::pin(async move {
            tokio::select! {
                biased;
                // After a sleep the caller looks again.
                () = woken => {}
                () = tokio::time::sleep(Duration::from_millis(left_ms)) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_is_not_behind_the_wall_clock() {
        // Begun at many places within a millisecond, and followed over its end.
        for _ in 0..20 {
            let (clock, begun) = (SystemClock::new(), Instant::now());
            while begun.elapsed() < Duration::from_millis(2) {
                let wall = clock.wall();
                assert!(clock.now() >= wall);
            }
        }
    }
}
