//! How often an object has failed in a row, and whether it rests for that. It knows no store.

use crate::{Error, ObjectId, meta};

/// Twice the longest rest.
const STRIKES_KEPT_MS: i64 = 2_048_000;

/// Failures in a row. Too many of them rest the object, so that it cannot occupy the host.
#[derive(Debug, Default)]
pub(super) struct Strikes {
    pub(super) count: u32,
    until: i64,
    /// Until then the count is worth a place in memory.
    told_until: i64,
    reason: String,
}

impl Strikes {
    pub(super) fn add(&mut self, now: i64, error: &Error) {
        self.count = self.count.saturating_add(1);
        self.reason = error.to_string();
        self.told_until = now.saturating_add(STRIKES_KEPT_MS);
        if let Some(over) = self.count.checked_sub(meta::COUNTED_FAILURES) {
            self.until = now.saturating_add(meta::own_retry_ms(over.saturating_add(1)));
        }
    }

    pub(super) fn matter(&self, now: i64) -> bool {
        self.count > 0 && now < self.told_until
    }

    pub(super) fn check(&self, now: i64, id: &ObjectId) -> Result<(), Error> {
        if now >= self.until {
            return Ok(());
        }
        let (object, reason) = (id.to_string(), self.reason.clone());
        Err(Error::Quarantined {
            object,
            until: self.until,
            reason,
        })
    }
}
