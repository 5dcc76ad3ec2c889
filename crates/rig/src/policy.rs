//! The numbers that a rig's owner may set, validated once.
//!
//! Owns defaults, ranges and backoff. The rest of the core trusts a [`Policy`] and never checks
//! again. Knows no state.

use serde::{Deserialize, Serialize};

use crate::Pace;

/// Seconds, in milliseconds: the limits below read as the rules state them.
const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// The longest that any single wait may be set to.
const LONGEST_MS: i64 = 7 * 24 * HOUR_MS;

/// A probe has this much longer than a start before it counts as failed.
const PROBE_EXTRA_MS: i64 = MINUTE_MS;

/// What becomes of a bead that only ever answered in text, after one nudge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextOnly {
    /// Closed with `result: text_only`: an answer is a result.
    #[default]
    Close,
    /// Failed at once.
    Fail,
}

/// Limits, deadlines and grace periods of one rig. All durations are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Charged, consecutive failures after which a bead is `failed`. 1 to 100.
    pub attempts_max: u32,
    /// Prompts that a bead may cost, whatever their outcome; each recorded retry grants as many
    /// more. 1 to 1,000.
    pub prompts_max: u32,
    /// Sessions of this rig at one time. 1 to 64.
    pub agents_max: u32,
    /// Gaps between charged attempts; the last one repeats. Each gets up to 25 % jitter.
    pub backoff_ms: Vec<i64>,
    /// From the dispatch to the session's first event.
    pub start_deadline_ms: i64,
    /// Without a heartbeat for this long a session is suspect (shown, nothing else).
    pub suspect_ms: i64,
    /// Without a heartbeat for this long a session is taken for lost.
    pub lease_ms: i64,
    /// Without a model or tool event for this long a session is nudged: its turn is stopped and
    /// it is prompted once more.
    pub nudge_ms: i64,
    /// Without a model or tool event for this long a session is stalled.
    pub progress_ms: i64,
    /// The longest that one tool may run; the progress clock stands still meanwhile.
    pub tool_ms: i64,
    /// The same tool call so many times in a row is a loop: the session is ended. 2 to 1,000.
    pub repeats_max: u32,
    /// The longest that one session may run.
    pub total_ms: i64,
    /// How long a turn has to be quiet before it is judged.
    pub idle_grace_ms: i64,
    /// How long the end of a session waits for the agent's own word.
    pub end_grace_ms: i64,
    /// How long a preflight may take.
    pub preflight_ms: i64,
    /// The breaker's first cooldown; it doubles up to `cooldown_max_ms`.
    pub cooldown_ms: i64,
    /// The breaker's longest cooldown.
    pub cooldown_max_ms: i64,
    /// See [`TextOnly`].
    pub text_only: TextOnly,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            attempts_max: 5,
            prompts_max: 20,
            agents_max: 4,
            backoff_ms: vec![
                30 * SECOND_MS,
                MINUTE_MS,
                2 * MINUTE_MS,
                5 * MINUTE_MS,
                10 * MINUTE_MS,
            ],
            start_deadline_ms: 3 * MINUTE_MS,
            suspect_ms: 45 * SECOND_MS,
            lease_ms: 2 * MINUTE_MS,
            nudge_ms: 15 * MINUTE_MS,
            progress_ms: 30 * MINUTE_MS,
            tool_ms: HOUR_MS,
            repeats_max: 10,
            total_ms: 4 * HOUR_MS,
            idle_grace_ms: 10 * SECOND_MS,
            end_grace_ms: 5 * SECOND_MS,
            preflight_ms: MINUTE_MS,
            cooldown_ms: MINUTE_MS,
            cooldown_max_ms: 30 * MINUTE_MS,
            text_only: TextOnly::Close,
        }
    }
}

/// A field of a policy that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} must be {rule}")]
pub struct PolicyError {
    /// The field's name, as in the API.
    pub field: &'static str,
    /// The rule it breaks, in words.
    pub rule: String,
}

impl Policy {
    /// Checks every field; call it once at the boundary.
    ///
    /// # Errors
    /// One [`PolicyError`] for each field that is out of range, in the order of the fields.
    pub fn validate(self) -> Result<Self, Vec<PolicyError>> {
        let mut errors = Vec::new();
        count(&mut errors, "attempts_max", self.attempts_max, 100);
        count(&mut errors, "prompts_max", self.prompts_max, 1_000);
        count(&mut errors, "agents_max", self.agents_max, 64);
        if !(2..=1_000).contains(&self.repeats_max) {
            errors.push(PolicyError {
                field: "repeats_max",
                rule: "2 to 1000".to_owned(),
            });
        }
        self.validate_backoff(&mut errors);
        for (field, value, min) in [
            ("start_deadline_ms", self.start_deadline_ms, SECOND_MS),
            ("suspect_ms", self.suspect_ms, SECOND_MS),
            ("lease_ms", self.lease_ms, SECOND_MS),
            ("nudge_ms", self.nudge_ms, SECOND_MS),
            ("progress_ms", self.progress_ms, SECOND_MS),
            ("tool_ms", self.tool_ms, SECOND_MS),
            ("total_ms", self.total_ms, SECOND_MS),
            ("idle_grace_ms", self.idle_grace_ms, 0),
            ("end_grace_ms", self.end_grace_ms, 0),
            ("preflight_ms", self.preflight_ms, SECOND_MS),
            ("cooldown_ms", self.cooldown_ms, SECOND_MS),
            ("cooldown_max_ms", self.cooldown_max_ms, self.cooldown_ms),
        ] {
            if !(min..=LONGEST_MS).contains(&value) {
                let rule = format!("{min} to {LONGEST_MS} (milliseconds)");
                errors.push(PolicyError { field, rule });
            }
        }
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(errors)
        }
    }

    fn validate_backoff(&self, errors: &mut Vec<PolicyError>) {
        let in_range = self
            .backoff_ms
            .iter()
            .all(|ms| (100..=LONGEST_MS).contains(ms));
        let rising = self.backoff_ms.is_sorted();
        if !(1..=20).contains(&self.backoff_ms.len()) || !in_range || !rising {
            let rule = format!("1 to 20 rising steps of 100 to {LONGEST_MS} (milliseconds)");
            errors.push(PolicyError {
                field: "backoff_ms",
                rule,
            });
        }
    }

    /// How far heartbeats are apart: eight of them make a lease (15 s for the default two minutes).
    pub fn heartbeat_ms(&self) -> i64 {
        (self.lease_ms / 8).clamp(100, 15 * SECOND_MS)
    }

    /// The gap after the `failures`-th charged failure, with up to 25 % jitter from `random`.
    pub fn backoff(&self, failures: u32, random: u64) -> i64 {
        let last = self.backoff_ms.len().saturating_sub(1);
        let step = usize::try_from(failures.saturating_sub(1))
            .unwrap_or(last)
            .min(last);
        let base = self.backoff_ms.get(step).copied().unwrap_or(MINUTE_MS);
        jittered(base, random)
    }

    /// How long the rig's own breaker waits.
    pub fn pace(&self) -> Pace {
        Pace {
            cooldown_ms: self.cooldown_ms,
            cooldown_max_ms: self.cooldown_max_ms,
            probe_ms: self.start_deadline_ms.saturating_add(PROBE_EXTRA_MS),
        }
    }
}

/// `base` plus up to a quarter of it.
pub(crate) fn jittered(base: i64, random: u64) -> i64 {
    let span = u64::try_from(base / 4).unwrap_or(0).saturating_add(1);
    base.saturating_add(i64::try_from(random % span).unwrap_or(0))
}

fn count(errors: &mut Vec<PolicyError>, field: &'static str, value: u32, max: u32) {
    if !(1..=max).contains(&value) {
        errors.push(PolicyError {
            field,
            rule: format!("1 to {max}"),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Policy::default().validate(), Ok(Policy::default()));
    }

    #[test]
    fn each_wrong_field_is_named() {
        let policy = Policy {
            attempts_max: 0,
            backoff_ms: vec![],
            lease_ms: -1,
            cooldown_max_ms: 1,
            ..Policy::default()
        };
        let fields: Vec<_> = policy
            .validate()
            .unwrap_err()
            .iter()
            .map(|e| e.field)
            .collect();
        assert_eq!(
            fields,
            ["attempts_max", "backoff_ms", "lease_ms", "cooldown_max_ms"]
        );
    }

    #[test]
    fn backoff_grows_and_keeps_its_cap_for_any_count() {
        let policy = Policy::default();
        assert_eq!(policy.backoff(1, 0), 30_000);
        assert_eq!(policy.backoff(5, 0), 600_000);
        assert!(policy.backoff(u32::MAX, u64::MAX) <= 750_000);
        assert_eq!(policy.pace().cooldown(1, 0), 60_000);
        assert_eq!(policy.pace().cooldown(2, 0), 120_000);
        assert_eq!(policy.pace().cooldown(u32::MAX, u64::MAX), 1_800_000);
    }
}
