//! Budgets on the wire: the limits, what was spent of them, what is left.

use rig::{Fill, Limit, Spent, Timestamp, Usage, utc_day};
use serde::Serialize;
use serde_json::{Value, json};

use super::time::text;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Tokens and cost; whether a part of the cost is estimated is always said.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct UsageView {
    input_tokens: u64,
    output_tokens: u64,
    cost_usd: f64,
    estimated: bool,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cost_usd: usage.cost_usd,
            estimated: usage.estimated,
        }
    }
}

/// The limit of a day, and how much of it is used.
pub(crate) fn day(limit: Limit, spent: &Spent, now: Timestamp) -> Value {
    let today = spent.on(now);
    let fill = limit.fill(&today);
    json!({
        "day": limit,
        "spent": {
            "utc_day": date(utc_day(now).max(spent.day)),
            "today": UsageView::from(today),
            "total": UsageView::from(spent.total),
        },
        "remaining": {
            "usd": limit.usd.map(|usd| (usd - today.cost_usd).max(0.0)),
            "tokens": limit.tokens.map(|tokens| tokens.saturating_sub(today.tokens())),
        },
        "warned": fill >= Fill::Near,
        "stopped": fill == Fill::Full,
    })
}

/// A rig's whole budget.
pub(crate) fn budget(record: &rig::RigRecord, now: Timestamp) -> Value {
    let mut value = day(record.budget.day, &record.spent, now);
    value["bead"] = json!(record.budget.bead);
    value
}

/// A UTC day as `2026-11-28`.
fn date(day: i64) -> String {
    let mut date = text(Timestamp(day.saturating_mul(DAY_MS)));
    date.truncate(date.find('T').unwrap_or(date.len()));
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_never_goes_below_nothing_and_both_marks_are_shown() {
        let mut spent = Spent::default();
        let now = Timestamp(20_000 * DAY_MS + 5);
        let shown = |spent: &Spent| {
            let limit = Limit {
                usd: Some(1.0),
                tokens: None,
            };
            day(limit, spent, now)
        };
        assert_eq!(shown(&spent)["spent"]["utc_day"], "2024-10-04");
        assert_eq!(shown(&spent)["warned"], false);
        let usage = |cost_usd| Usage {
            cost_usd,
            estimated: true,
            ..Usage::default()
        };
        spent.add(now, usage(0.8));
        let near = shown(&spent);
        assert_eq!(
            (&near["warned"], &near["stopped"]),
            (&json!(true), &json!(false))
        );
        assert_eq!(near["spent"]["today"]["estimated"], true);
        spent.add(now, usage(0.8));
        let full = shown(&spent);
        assert_eq!(
            (&full["stopped"], &full["remaining"]["usd"]),
            (&json!(true), &json!(0.0))
        );
        assert_eq!(full["remaining"]["tokens"], Value::Null);
    }
}
