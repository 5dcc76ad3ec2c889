//! The part of a rig's record that nearly every step moves: the numbers of its newest events and
//! the newest time.
//!
//! Owns which fields these are, so that whoever stores the record can keep them apart and write
//! the rest only when it changes. They only grow, so of two copies the greater one counts.

use serde::{Deserialize, Serialize};

use crate::{RigRecord, Spent, Timestamp};

/// See the file's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The number of the newest event.
    pub event_no: u64,
    /// The number of the newest line of any agent's own log.
    pub agent_event_no: u64,
    /// The newest time that any step saw.
    pub latest_at: Timestamp,
    /// What its work has cost.
    #[serde(default)]
    pub spent: Spent,
}

impl RigRecord {
    /// The part that is kept apart.
    pub fn counts(&self) -> Counts {
        Counts {
            event_no: self.event_no,
            agent_event_no: self.agent_event_no,
            latest_at: self.latest_at,
            spent: self.spent,
        }
    }

    /// Takes over what was kept apart, where it is ahead of the record's own.
    pub fn catch_up(&mut self, counts: Counts) {
        self.event_no = self.event_no.max(counts.event_no);
        self.agent_event_no = self.agent_event_no.max(counts.agent_event_no);
        self.latest_at = self.latest_at.max(counts.latest_at);
        if counts.spent.total.tokens() > self.spent.total.tokens()
            || counts.spent.total.cost_usd > self.spent.total.cost_usd
        {
            self.spent = counts.spent;
        }
    }

    /// Whether everything but the counts is the same.
    pub fn is_same_but_counts(&self, other: &Self) -> bool {
        // Taken apart, so that a new field cannot be forgotten here.
        let Self {
            config,
            policy,
            created_at,
            updated_at,
            breaker,
            readiness,
            hold,
            pause,
            budget,
            spent,
            warned_day,
            stopped_day,
            notices,
            preflight_no,
            event_no: _,
            agent_event_no: _,
            latest_at: _,
            patrolled_at,
            alarmed_at,
            deleted_at,
        } = self;
        *config == other.config
            && *policy == other.policy
            && *created_at == other.created_at
            && *updated_at == other.updated_at
            && *breaker == other.breaker
            && *readiness == other.readiness
            && *hold == other.hold
            && *pause == other.pause
            && *budget == other.budget
            && spent.day == other.spent.day
            && *warned_day == other.warned_day
            && *stopped_day == other.stopped_day
            && *notices == other.notices
            && *preflight_no == other.preflight_no
            && *patrolled_at == other.patrolled_at
            && *alarmed_at == other.alarmed_at
            && *deleted_at == other.deleted_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_grow_and_are_the_only_difference() {
        let used = crate::Usage {
            input_tokens: 5,
            ..crate::Usage::default()
        };
        let old = RigRecord {
            event_no: 5,
            latest_at: Timestamp(9),
            spent: Spent {
                day: 3,
                ..Spent::default()
            },
            ..RigRecord::default()
        };
        let new = RigRecord {
            event_no: 7,
            agent_event_no: 2,
            latest_at: Timestamp(10),
            spent: Spent {
                day: 3,
                today: used,
                total: used,
            },
            ..RigRecord::default()
        };
        assert!(old.is_same_but_counts(&new));
        let mut caught_up = old.clone();
        caught_up.catch_up(new.counts());
        assert_eq!(caught_up, new);
        caught_up.catch_up(old.counts());
        assert_eq!(caught_up, new, "what is behind changes nothing");
        let others = [
            // A day may go back with the clock, so it is none of them.
            RigRecord {
                spent: Spent::default(),
                ..old.clone()
            },
            RigRecord {
                preflight_no: 1,
                ..old.clone()
            },
            RigRecord {
                patrolled_at: Timestamp(1),
                ..old.clone()
            },
            RigRecord {
                deleted_at: Some(Timestamp(1)),
                ..old.clone()
            },
        ];
        for other in others {
            assert!(!old.is_same_but_counts(&other), "{other:?}");
        }
    }
}
