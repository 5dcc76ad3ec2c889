//! A breaker on the wire.

use rig::{Breaker, BreakerState, Failure};
use serde_json::{Value, json};

use super::time::text;

/// A breaker: where it stands, why, and when it is tried next.
pub(crate) fn breaker(breaker: &Breaker) -> Value {
    let (state, failure, opened_at, next_probe_at, probe) = match &breaker.state {
        BreakerState::Closed => ("closed", None, None, None, None),
        BreakerState::Open {
            failure,
            opened_at,
            next_probe,
        } => (
            "open",
            Some(failure),
            Some(*opened_at),
            Some(next_probe.at),
            None,
        ),
        BreakerState::HalfOpen {
            failure,
            opened_at,
            probe,
        } => {
            let id = probe.as_ref().map(|(id, _)| id.to_string());
            ("half_open", Some(failure), Some(*opened_at), None, id)
        }
    };
    json!({
        "state": state,
        "reason": failure.map(reason),
        "opened_at": opened_at.map(text),
        "next_probe_at": next_probe_at.map(text),
        "probe_dispatch_id": probe,
        "trips": breaker.trips,
    })
}

fn reason(failure: &Failure) -> Value {
    json!({
        "class": failure.class,
        "phase": failure.stage,
        "text": failure.text,
        "fix": failure.class.fix(),
    })
}
