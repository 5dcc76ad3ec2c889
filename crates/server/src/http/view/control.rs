//! A pause and a hold on the wire: what a person or a town holds back.

use rig::{Hold, Pause};
use serde_json::{Value, json};

use super::time::text;

/// A pause; `null` where there is none.
pub(crate) fn pause(pause: Option<&Pause>) -> Value {
    pause.map_or(Value::Null, |pause| {
        json!({
            "mode": pause.mode,
            "at": text(pause.at),
            "by": pause.by,
            "reason": pause.reason,
        })
    })
}

/// What the town said when it last refused; `null` where it lets the rig pass.
pub(crate) fn hold(hold: Option<&Hold>) -> Value {
    hold.map_or(Value::Null, |hold| {
        json!({
            "refusal": hold.refusal,
            "text": hold.refusal.to_string(),
            "until": text(hold.until.at),
        })
    })
}
