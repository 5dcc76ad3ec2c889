//! The bounds of a host. The default runs as it is.

use std::sync::Arc;

use crate::Error;
use crate::clock::{Clock, SystemClock};

/// How many of what, and which clock.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Threads that objects are spread over.
    pub arbiters: usize,
    /// Messages of one object that wait for a step or a flush.
    pub mailbox_max: usize,
    /// Messages that wait on one arbiter to be given to their objects.
    pub arbiter_queue_max: usize,
    /// Batches that wait for the committer.
    pub commit_queue_max: usize,
    /// Unacknowledged effects of one object; beyond it the object takes no messages.
    pub outbox_max: usize,
    /// Effects of one object that are under way at once.
    pub deliveries_max: usize,
    /// After so many refusals for good an effect becomes a dead letter of its object.
    pub poison_tries_max: u32,
    /// After this time an attempt to deliver counts as failed.
    pub deliver_timeout_ms: u64,
    /// After this time an object that is being loaded is given up.
    pub load_timeout_ms: u64,
    /// Reads from disk at once, off the arbiters.
    pub reads_max: usize,
    /// An object that was not used for so long leaves memory; the next message reads it again.
    pub idle_ms: u64,
    /// The source of time.
    pub clock: Arc<dyn Clock>,
    /// Where nonces and jitter come from, for runs that repeat; none: the system's randomness,
    /// which is what nonces have to come from wherever somebody might guess them.
    pub seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiters: 2,
            mailbox_max: 1_024,
            arbiter_queue_max: 65_536,
            commit_queue_max: 16_384,
            outbox_max: 4_096,
            deliveries_max: 16,
            poison_tries_max: 8,
            deliver_timeout_ms: 30_000,
            load_timeout_ms: 30_000,
            reads_max: 8,
            idle_ms: 10_000,
            clock: Arc::new(SystemClock::new()),
            seed: None,
        }
    }
}

impl Settings {
    pub(super) fn idle_ms(&self) -> i64 {
        // Far below the end of time, so that sums of it stay in range.
        i64::try_from(self.idle_ms).map_or(i64::MAX / 4, |ms| ms.min(i64::MAX / 4))
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        let at_least_one = [
            ("mailbox_max", self.mailbox_max),
            ("arbiter_queue_max", self.arbiter_queue_max),
            ("commit_queue_max", self.commit_queue_max),
            ("outbox_max", self.outbox_max),
            ("deliveries_max", self.deliveries_max),
            ("reads_max", self.reads_max),
            (
                "poison_tries_max",
                usize::try_from(self.poison_tries_max).unwrap_or(usize::MAX),
            ),
            (
                "idle_ms",
                usize::try_from(self.idle_ms).unwrap_or(usize::MAX),
            ),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Setting {
                name,
                fix: "use 1 or more",
            });
        }
        if !(1..=256).contains(&self.arbiters) {
            return Err(Error::Setting {
                name: "arbiters",
                fix: "use 1 to 256",
            });
        }
        Ok(())
    }
}
