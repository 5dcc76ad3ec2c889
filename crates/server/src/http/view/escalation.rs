//! An escalation on the wire: a bead, and whether somebody has seen it.

use rig::{Acknowledged, Bead, RigId};
use serde_json::{Value, json};

use super::{
    bead::{Frame, bead},
    time::text,
};

/// An escalation of that rig.
pub(crate) fn escalation(rig: &RigId, escalation: &Bead, frame: Frame<'_>) -> Value {
    let alert = escalation.alert.clone().unwrap_or_default();
    let mut value = bead(escalation, frame);
    let count = escalation.metadata.get("count").and_then(Value::as_u64);
    // A resolved one is told no more.
    let again = alert.again.filter(|_| !escalation.is_terminal());
    value["rig_id"] = json!(rig);
    value["cause"] = json!(escalation.metadata.get("cause"));
    value["count"] = json!(count.unwrap_or(1));
    value["acknowledged"] = alert.acknowledged.as_ref().map_or(Value::Null, seen);
    value["told_again"] = json!(alert.told_again);
    value["next_told_at"] = json!(again.map(|again| text(again.at)));
    value
}

fn seen(acknowledged: &Acknowledged) -> Value {
    json!({ "by": acknowledged.by, "at": text(acknowledged.at) })
}
