//! Points in time and deadlines, as plain numbers that reach the core as arguments.
//!
//! Owns the rule that a deadline remembers its own length, so that a clock that jumps back can
//! never turn five minutes into a day. Knows no clock.

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC. The only representation of time in the core.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This time moved by `ms`, which may be negative. Saturates at the ends of the range.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; negative when `earlier` is later.
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point in time together with the length it was set for.
///
/// The length bounds what a jump of the clock can do: after a jump back, what remains is at most
/// the whole length again (`rebase`); after a jump forward it is simply due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadline {
    /// When it is due.
    pub at: Timestamp,
    /// The length it was set for, in milliseconds.
    pub duration_ms: i64,
}

impl Deadline {
    /// A deadline `duration_ms` after `now`.
    pub fn after(now: Timestamp, duration_ms: i64) -> Self {
        let duration_ms = duration_ms.max(0);
        Self {
            at: now.plus_ms(duration_ms),
            duration_ms,
        }
    }

    /// Whether it is due at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.at
    }

    /// The same deadline as seen from `now`: never further away than its own length.
    pub fn rebased(self, now: Timestamp) -> Self {
        Self {
            at: self.at.min(now.plus_ms(self.duration_ms)),
            ..self
        }
    }

    /// The whole length again from `now` on.
    pub fn renewed(self, now: Timestamp) -> Self {
        Self::after(now, self.duration_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_back_leaves_at_most_the_whole_length() {
        let deadline = Deadline::after(Timestamp(1_000_000), 5_000);
        let after_jump = deadline.rebased(Timestamp(10_000));
        assert_eq!(after_jump.at, Timestamp(15_000));
        assert_eq!(deadline.rebased(Timestamp(1_001_000)), deadline);
    }

    #[test]
    fn the_ends_of_the_range_saturate() {
        assert_eq!(Timestamp(i64::MAX).plus_ms(1), Timestamp(i64::MAX));
        assert!(Deadline::after(Timestamp(i64::MAX), i64::MAX).is_due(Timestamp(i64::MAX)));
        assert_eq!(Timestamp(i64::MIN).since_ms(Timestamp(i64::MAX)), i64::MIN);
    }
}
