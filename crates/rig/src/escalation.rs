//! What an escalation has besides its text: whether a person has seen it, and when they are told
//! again.
//!
//! Owns the shape and the numbers. That there is one per cause, with a count, is `step::alert`'s.

use serde::{Deserialize, Serialize};

use crate::{Deadline, Timestamp, Who};

/// An escalation that nobody has acknowledged is told again after this long.
pub(crate) const AGAIN_MS: i64 = 4 * 60 * 60 * 1_000;
/// So often, and then no more.
pub(crate) const AGAIN_MAX: u32 = 3;
/// More open causes than this are one: a rig has so many things wrong that the list says nothing.
pub const CAUSES_OPEN_MAX: usize = 200;

/// A person has seen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: Who,
    /// When.
    pub at: Timestamp,
}

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// How often people were told again.
    #[serde(default)]
    pub told_again: u32,
    /// When they are told again, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Deadline>,
    /// That a person has seen it; it is silent from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}
