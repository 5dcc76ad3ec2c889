//! What work may cost: limits, and what was spent of them on one day.
//!
//! Owns the arithmetic of spending and of UTC days. Knows no bead, no rig and no clock: who asks
//! brings the time. A day is the only thing here that follows the calendar.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Timestamp, Usage};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// From here on a person is warned, in percent of the limit.
const WARN_PERCENT: u64 = 80;

/// The most that may be used; what is not set is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limit {
    /// US dollars. Costs that the gateway did not tell are estimated from above.
    pub usd: Option<f64>,
    /// Tokens, those read and those written together.
    pub tokens: Option<u64>,
}

/// How near a sum is to its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// Below the warning.
    Low,
    /// At 80 % or above.
    Near,
    /// At the limit or above.
    Full,
}

impl Limit {
    /// How near `usage` is to the limit; the nearer of dollars and tokens counts.
    pub fn fill(&self, usage: &Usage) -> Fill {
        let tokens = self.tokens.map_or(Fill::Low, |limit| {
            let used = usage.tokens();
            let near = u128::from(used) * 100 >= u128::from(limit) * u128::from(WARN_PERCENT);
            level(used >= limit, near)
        });
        let usd = self.usd.map_or(Fill::Low, |limit| {
            level(usage.cost_usd >= limit, usage.cost_usd >= limit * 0.8)
        });
        tokens.max(usd)
    }

    /// Whether nothing more may be spent.
    pub fn is_reached(&self, usage: &Usage) -> bool {
        self.fill(usage) == Fill::Full
    }

    /// Checks that no limit is negative or not a number.
    ///
    /// # Errors
    /// The rule, in words.
    pub fn validate(&self) -> Result<(), String> {
        match self.usd {
            Some(usd) if !(usd.is_finite() && usd >= 0.0) => {
                Err("usd must be a number of dollars, 0 or more, or null".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn level(full: bool, near: bool) -> Fill {
    match (full, near) {
        (true, _) => Fill::Full,
        (false, true) => Fill::Near,
        (false, false) => Fill::Low,
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.usd, self.tokens) {
            (Some(usd), Some(tokens)) => write!(f, "{usd} USD or {tokens} tokens"),
            (Some(usd), None) => write!(f, "{usd} USD"),
            (None, Some(tokens)) => write!(f, "{tokens} tokens"),
            (None, None) => f.write_str("unlimited"),
        }
    }
}

/// A rig's budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// For each bead, over all of its dispatches.
    pub bead: Limit,
    /// For the whole rig, each UTC day.
    pub day: Limit,
}

/// What was spent, on one UTC day and ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spent {
    /// The UTC day, counted from 1970.
    pub day: i64,
    /// What was spent on it.
    pub today: Usage,
    /// All that was ever spent.
    pub total: Usage,
}

impl Spent {
    /// What was spent on the day of `now`. While the clock is behind the newest day, that day goes
    /// on: a jump back would open its budget a second time.
    pub fn on(&self, now: Timestamp) -> Usage {
        if utc_day(now) <= self.day {
            self.today
        } else {
            Usage::default()
        }
    }

    /// When the day ends on which that was spent.
    pub fn day_ends(&self, now: Timestamp) -> Timestamp {
        start_of(utc_day(now).max(self.day).saturating_add(1))
    }

    /// After a jump back the newest day is today, with all that was spent on it: nothing is held
    /// back until a day that a wrong clock had shown.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        self.day = self.day.min(utc_day(now));
    }

    /// Adds what was just spent. A day that is past never comes back, whatever the clock does: a
    /// jump back would open its budget a second time.
    pub fn add(&mut self, now: Timestamp, more: Usage) {
        let day = utc_day(now).max(self.day);
        if day != self.day {
            (self.day, self.today) = (day, Usage::default());
        }
        self.today = self.today.plus(more);
        self.total = self.total.plus(more);
    }
}

/// The UTC day of a time, counted from 1970.
pub fn utc_day(now: Timestamp) -> i64 {
    now.0.div_euclid(DAY_MS)
}

/// When the next UTC day begins.
pub fn next_utc_day(now: Timestamp) -> Timestamp {
    start_of(utc_day(now).saturating_add(1))
}

fn start_of(day: i64) -> Timestamp {
    Timestamp(day.saturating_mul(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(input_tokens: u64, cost_usd: f64) -> Usage {
        Usage {
            input_tokens,
            cost_usd,
            ..Usage::default()
        }
    }

    #[test]
    fn the_nearer_of_dollars_and_tokens_counts() {
        let limit = Limit {
            usd: Some(10.0),
            tokens: Some(1_000),
        };
        assert_eq!(limit.fill(&used(799, 7.99)), Fill::Low);
        assert_eq!(limit.fill(&used(800, 0.0)), Fill::Near);
        assert_eq!(limit.fill(&used(0, 8.0)), Fill::Near);
        assert_eq!(limit.fill(&used(0, 10.0)), Fill::Full);
        assert_eq!(limit.fill(&used(u64::MAX, 0.0)), Fill::Full);
        assert_eq!(Limit::default().fill(&used(u64::MAX, f64::MAX)), Fill::Low);
    }

    #[test]
    fn a_day_that_is_past_does_not_come_back() {
        let mut spent = Spent::default();
        let (today, tomorrow) = (Timestamp(DAY_MS * 10 + 5), Timestamp(DAY_MS * 11));
        spent.add(today, used(10, 1.0));
        assert_eq!(spent.on(today).input_tokens, 10);
        assert_eq!(spent.on(tomorrow), Usage::default());
        spent.add(tomorrow, used(1, 0.0));
        spent.add(today, used(1, 0.0));
        assert_eq!((spent.day, spent.today.input_tokens), (11, 2));
        assert_eq!(spent.total.input_tokens, 12);
        assert_eq!(next_utc_day(today), tomorrow);
        assert_eq!(spent.on(today).input_tokens, 2, "its budget stays used");
        assert_eq!(spent.day_ends(today), Timestamp(DAY_MS * 12));
        spent.rebase(today);
        assert_eq!(spent.on(today).input_tokens, 2);
        assert_eq!(spent.day_ends(today), tomorrow);
        assert_eq!(spent.on(tomorrow), Usage::default());
    }
}
