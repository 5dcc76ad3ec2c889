//! What a rig keeps of its town's word: refused, and until when.
//!
//! Owns the shape. A hold is no failure: it costs nothing, and it ends with its time, with an
//! offer of the town, or with the first session that starts.

use serde::{Deserialize, Serialize};

use crate::{Deadline, Failure, Limit, Refusal, Scope, Timestamp};

/// Without an offer the town is asked again after this long.
pub(crate) const HOLD_MS: i64 = 30 * 1_000;

/// The town refused; the rig asks again then, with one dispatch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub refusal: Refusal,
    /// When it asks again, at the latest.
    pub until: Deadline,
}

/// What a town tells a rig about things that are not one of its dispatches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Notice {
    /// A report of this rig opened the breaker of a shared scope: this rig tells the people.
    Tripped {
        /// Which scope.
        scope: Scope,
        /// Why.
        failure: Failure,
        /// When it is looked at again.
        next_probe_at: Timestamp,
    },
    /// That breaker closed.
    Closed {
        /// Which scope.
        scope: Scope,
    },
    /// The town's budget of the day is at 80 % or above.
    BudgetWarned {
        /// The limit.
        limit: Limit,
    },
    /// The town's budget of the day is used up: this rig tells the people.
    BudgetStopped {
        /// The limit.
        limit: Limit,
    },
    /// It is free again.
    BudgetFree,
}
