//! The town's own record: policy, breakers of shared scopes, who waits, what was spent.
//!
//! Owns the shape. All of it is small: it is as large as what is shut and who waits, never as what
//! has happened.

use serde::{Deserialize, Serialize};

use crate::{
    Breaker, Deadline, DispatchId, Limit, Pace, Pause, RigConfig, RigId, Scope, Spent, Timestamp,
    Who,
};

const MINUTE_MS: i64 = 60 * 1_000;

/// The numbers that a town's owner may set. All durations are milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TownPolicy {
    /// Sessions of the whole town at one time. 1 to 256.
    pub slots_max: u32,
    /// What the town's work may cost on one UTC day.
    pub day: Limit,
    /// A shared breaker's first cooldown; it doubles up to `cooldown_max_ms`.
    pub cooldown_ms: i64,
    /// A shared breaker's longest cooldown.
    pub cooldown_max_ms: i64,
    /// How long the check of a scope may take.
    pub check_ms: i64,
    /// How long a probe may take before it counts as failed.
    pub probe_ms: i64,
    /// How long a session may wait for its gateway before it is ended.
    pub offline_ms: i64,
    /// How long an offer stands before the next rig gets it.
    pub offer_ms: i64,
}

impl Default for TownPolicy {
    fn default() -> Self {
        Self {
            slots_max: 8,
            day: Limit::default(),
            cooldown_ms: MINUTE_MS,
            cooldown_max_ms: 30 * MINUTE_MS,
            check_ms: MINUTE_MS,
            // The start of a session, and a minute.
            probe_ms: 4 * MINUTE_MS,
            offline_ms: 10 * MINUTE_MS,
            offer_ms: 10 * 1_000,
        }
    }
}

impl TownPolicy {
    /// How long shared breakers wait.
    pub fn pace(&self) -> Pace {
        Pace {
            cooldown_ms: self.cooldown_ms,
            cooldown_max_ms: self.cooldown_max_ms,
            probe_ms: self.probe_ms,
        }
    }

    /// Checks every field; call it once at the boundary.
    ///
    /// # Errors
    /// One [`crate::PolicyError`] for each field that is out of range.
    pub fn validate(self) -> Result<Self, Vec<crate::PolicyError>> {
        const LONGEST_MS: i64 = 7 * 24 * 60 * MINUTE_MS;
        let mut errors = Vec::new();
        let mut wrong = |field, rule: String| errors.push(crate::PolicyError { field, rule });
        if !(1..=256).contains(&self.slots_max) {
            wrong("slots_max", "1 to 256".to_owned());
        }
        if let Err(rule) = self.day.validate() {
            wrong("day", rule);
        }
        for (field, value, min) in [
            ("cooldown_ms", self.cooldown_ms, 1_000),
            ("cooldown_max_ms", self.cooldown_max_ms, self.cooldown_ms),
            ("check_ms", self.check_ms, 1_000),
            ("probe_ms", self.probe_ms, 1_000),
            ("offline_ms", self.offline_ms, 1_000),
            ("offer_ms", self.offer_ms, 1_000),
        ] {
            if !(min..=LONGEST_MS).contains(&value) {
                wrong(field, format!("{min} to {LONGEST_MS} (milliseconds)"));
            }
        }
        if errors.is_empty() {
            Ok(self)
        } else {
            Err(errors)
        }
    }
}

/// One dispatch of one rig, as a probe is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose bead.
    pub rig: RigId,
    /// Which dispatch.
    pub dispatch: DispatchId,
}

/// A check of a scope under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its number.
    pub no: u64,
    /// When it counts as failed.
    pub deadline: Deadline,
}

/// The breaker of one shared scope. It is kept as long as it is not as new.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    /// Which scope.
    pub scope: Scope,
    /// Its breaker.
    pub breaker: Breaker<Ticket>,
    /// The check of ours that is under way.
    #[serde(default)]
    pub check: Option<Check>,
    /// With which it can be checked: the configuration of a rig that uses it.
    pub sample: RigConfig,
    /// The rig that tells the people about it.
    #[serde(default)]
    pub told_by: Option<RigId>,
}

/// A rig that was refused and is offered what becomes free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Which rig.
    pub rig: RigId,
    /// Its place: whoever was refused last is at the end.
    pub no: u64,
    /// The scope that it waits for; none for a slot, the budget or the end of a pause.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// The prompts of the bead that it asked for.
    pub prompts: u32,
    /// It was offered what it waits for, until then.
    #[serde(default)]
    pub offer: Option<Deadline>,
    /// Without a word from it until then it waits no more: nothing is checked for its sake.
    pub lapse: Deadline,
}

/// What a person ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TownOrder {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Who,
    /// What: `pause`, `stop`, `resume`, `reset_breakers`, `set_policy`.
    pub what: String,
}

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TownRecord {
    /// Its policy.
    pub policy: TownPolicy,
    /// Breakers that are not as new.
    pub guards: Vec<Guard>,
    /// Rigs that wait, in their order.
    pub waiters: Vec<Waiter>,
    /// What its work has cost.
    pub spent: Spent,
    /// The UTC day on which people were last warned of the budget.
    pub warned_day: Option<i64>,
    /// The UTC day on which the budget was last used up, and the rig that told the people.
    pub stopped: Option<(i64, RigId)>,
    /// Held back by a person, until a person resumes it.
    pub pause: Option<Pause>,
    /// The newest orders of people, oldest first.
    pub orders: Vec<TownOrder>,
    /// The number of the newest check.
    pub check_no: u64,
    /// The number of the newest notice.
    pub notice_no: u64,
    /// The number of the newest waiter.
    pub waiter_no: u64,
    /// When the last alarm was.
    pub alarmed_at: Option<Timestamp>,
}

impl TownRecord {
    /// The breaker of a scope, unless it is as new.
    pub fn guard(&self, scope: &Scope) -> Option<&Guard> {
        self.guards.iter().find(|guard| guard.scope == *scope)
    }
}
