//! What the host itself stores about an object: its alarm and its next outbox number.
//!
//! The meta record and the alarm index always change in one batch; this file is the only one
//! that writes either. It decides retry times and knows no clock.

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::keys::ObjectKeys;
use crate::record::seal_json;
use crate::storage::Op;
use crate::turn::AlarmChange;

/// From this many failures on the object counts as quarantined.
pub(crate) const COUNTED_FAILURES: u32 = 6;
const RETRY_MS_FIRST: i64 = 2_000;
const QUARANTINE_MS: i64 = 1_024_000;

/// The host's record of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) alarm: Option<Pending>,
    /// The number of the next effect. Never reused, or receivers would drop it as a repetition.
    pub(crate) next_seq: u64,
    /// The jumps of time that the object knows of; none in stores without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jumps: Option<Jumps>,
}

/// All jumps of time in one run of the host, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Jumps {
    /// Whose run.
    pub(crate) epoch: u64,
    pub(crate) count: u64,
    pub(crate) gap_ms: i64,
    pub(crate) wall_ms: i64,
}

/// An alarm that has not run with success yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// What the object asked for.
    pub(crate) at: i64,
    /// When it runs: `at`, or later after a failure.
    pub(crate) fire_at: i64,
    pub(crate) retry: u32,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            alarm: None,
            next_seq: 1,
            jumps: None,
        }
    }
}

impl Pending {
    fn new(at: i64) -> Self {
        Self {
            at,
            fire_at: at,
            retry: 0,
        }
    }

    /// The same alarm after one more counted failure.
    pub(crate) fn failed(self, now: i64, jitter: u32) -> Self {
        let retry = self.retry.saturating_add(1);
        Self {
            fire_at: now.saturating_add(retry_ms(retry, jitter)),
            retry,
            ..self
        }
    }
}

impl Meta {
    /// After a turn on a message.
    pub(crate) fn after_message(&self, change: Option<AlarmChange>, next_seq: u64) -> Self {
        let alarm = match change {
            None => self.alarm,
            Some(AlarmChange::Delete) => None,
            Some(AlarmChange::Set(at)) => Some(Pending::new(at)),
        };
        let jumps = self.jumps;
        Self {
            alarm,
            next_seq,
            jumps,
        }
    }

    /// After a successful alarm: used up, unless the handler set a new one.
    pub(crate) fn after_alarm(&self, change: Option<AlarmChange>, next_seq: u64) -> Self {
        let alarm = match change {
            Some(AlarmChange::Set(at)) => Some(Pending::new(at)),
            Some(AlarmChange::Delete) | None => None,
        };
        let jumps = self.jumps;
        Self {
            alarm,
            next_seq,
            jumps,
        }
    }

    /// What the object was told of the jumps of that run.
    pub(crate) fn told(&self, epoch: u64) -> Jumps {
        let none = Jumps {
            epoch,
            ..Jumps::default()
        };
        self.jumps
            .filter(|told| told.epoch == epoch)
            .unwrap_or(none)
    }
}

/// The changes that lead from the stored meta record, if any, to the new one.
pub(crate) fn ops(
    keys: &ObjectKeys,
    epoch: u64,
    old: Option<&Meta>,
    new: &Meta,
) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    if old == Some(new) {
        return Ok(ops);
    }
    let key = keys.meta();
    let value = seal_json(&key, epoch, new)?;
    ops.push(Op::Put { key, value });
    let before = old.and_then(|meta| meta.alarm);
    if before != new.alarm {
        // Delete before put: both may be the same key, and the later one counts.
        ops.extend(before.map(|alarm| Op::Delete {
            key: keys.alarm(alarm.fire_at),
        }));
        ops.extend(new.alarm.map(|alarm| Op::Put {
            key: keys.alarm(alarm.fire_at),
            value: alarm.retry.to_be_bytes().to_vec(),
        }));
    }
    Ok(ops)
}

/// The failures that an alarm index entry tells of.
pub(crate) fn index_retry(value: &[u8]) -> u32 {
    value
        .first_chunk::<4>()
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// The pause after the given number of failures (from 1): 2 s doubling, plus up to a quarter.
pub(crate) fn retry_ms(failures: u32, jitter: u32) -> i64 {
    if failures >= COUNTED_FAILURES {
        return QUARANTINE_MS;
    }
    let base = RETRY_MS_FIRST << failures.saturating_sub(1);
    base.saturating_add(base / 4 * i64::from(jitter) / i64::from(u32::MAX))
}

/// The pause after failures that are the host's own, to be counted by nobody: 2 s doubling
/// to 1,024 s.
pub(crate) fn own_retry_ms(failures: u32) -> i64 {
    (RETRY_MS_FIRST << failures.saturating_sub(1).min(9)).min(QUARANTINE_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_a_quarter_of_jitter_and_end_in_quarantine() {
        let low: Vec<i64> = (1..=7).map(|n| retry_ms(n, 0)).collect();
        assert_eq!(
            low,
            [2_000, 4_000, 8_000, 16_000, 32_000, 1_024_000, 1_024_000]
        );
        assert_eq!(retry_ms(1, u32::MAX), 2_500);
        assert_eq!(retry_ms(u32::MAX, u32::MAX), 1_024_000);
        assert_eq!(own_retry_ms(u32::MAX), 1_024_000);
    }

    #[test]
    fn record_and_index_change_together() {
        let keys = ObjectKeys::new("rig", &crate::ObjectId::from_name("a").unwrap());
        let old = Meta {
            alarm: Some(Pending::new(5)),
            next_seq: 1,
            jumps: None,
        };
        let new = Meta {
            alarm: Some(Pending::new(9)),
            next_seq: 1,
            jumps: None,
        };
        let changed: Vec<Vec<u8>> = ops(&keys, 1, Some(&old), &new)
            .unwrap()
            .iter()
            .map(|op| op.key().to_vec())
            .collect();
        assert_eq!(changed, [keys.meta(), keys.alarm(5), keys.alarm(9)]);
        assert!(ops(&keys, 1, Some(&new), &new).unwrap().is_empty());
    }

    #[test]
    fn a_retry_is_a_change_of_the_index_even_at_the_same_time() {
        let keys = ObjectKeys::new("rig", &crate::ObjectId::from_name("a").unwrap());
        let old = Meta {
            alarm: Some(Pending::new(5)),
            next_seq: 1,
            jumps: None,
        };
        let failed = Pending {
            retry: 1,
            ..Pending::new(5)
        };
        let new = Meta {
            alarm: Some(failed),
            next_seq: 1,
            jumps: None,
        };
        let last = ops(&keys, 1, Some(&old), &new).unwrap().pop();
        assert!(matches!(last, Some(Op::Put { value, .. }) if index_retry(&value) == 1));
    }
}
