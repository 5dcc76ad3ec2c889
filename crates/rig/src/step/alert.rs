//! Escalations: what tells a person that something needs them.
//!
//! Owns that there is one open escalation per cause, with a count, that it falls silent when a
//! person has seen it, and that it is told again a few times when nobody has. An escalation is
//! never work: the gate does not know it.

use serde_json::{Value, json};

use super::{
    draft::{Draft, NewEvent},
    intake,
};
use crate::{
    Acknowledged, Alert, BeadId, BeadType, CAUSES_OPEN_MAX, Class, Deadline, EventType, NewBead,
    Phase, Priority, Refused, Reply, Resolution, Who,
    escalation::{AGAIN_MAX, AGAIN_MS},
};

/// The cause of everything that finds no place of its own.
const OVERFLOW: &str = "too_many_causes";

/// Something for a person, before it becomes a bead or a count.
pub(super) struct Call<'a> {
    /// What it is about: one open escalation for each.
    pub(super) cause: &'a str,
    pub(super) title: String,
    pub(super) body: String,
    pub(super) class: Option<Class>,
    pub(super) source: Option<&'a BeadId>,
}

pub(super) fn class_cause(class: Class) -> String {
    format!("class:{class}")
}

/// So many of the beads that one escalation is about are named in it.
const BEADS_NAMED_MAX: usize = 50;

/// One escalation for a bead that was given up: counted to that of its class if one is open, be it
/// of a breaker or of other beads that failed alike.
pub(super) fn escalate_bead(draft: &mut Draft<'_>, id: &BeadId, reason: &str) {
    let Some(bead) = draft.bead(id) else { return };
    let class = bead.last_failure.as_ref().map(|last| last.failure.class);
    let of_breaker = class
        .map(class_cause)
        .filter(|cause| open_with(draft, cause).is_some());
    let alike = class.map_or_else(|| format!("bead:{id}"), |class| format!("failed:{class}"));
    let cause = of_breaker.unwrap_or(alike);
    let title = format!("Bead failed: {}", bead.title);
    let fix = class.map_or("read the bead, then retry or close it", Class::fix);
    let body = format!("{reason}\n\nWhat to do: {fix}.");
    let source = Some(id);
    escalate(
        draft,
        Call {
            cause: &cause,
            title,
            body,
            class,
            source,
        },
    );
    if let Some(open) = open_with(draft, &cause) {
        name_bead(draft, &open, id);
    }
}

/// Adds a bead to those that an escalation is about.
fn name_bead(draft: &mut Draft<'_>, escalation: &BeadId, id: &BeadId) {
    let Ok(bead) = draft.bead_mut(escalation) else {
        return;
    };
    let beads = bead.metadata.entry("beads").or_insert_with(|| json!([]));
    if let Some(named) = beads.as_array_mut()
        && named.len() < BEADS_NAMED_MAX
        && !named.iter().any(|known| known == id.as_str())
    {
        named.push(json!(id));
    }
}

/// The open escalation of a cause.
fn open_with(draft: &Draft<'_>, cause: &str) -> Option<BeadId> {
    draft.escalation_of(cause).map(|bead| bead.id.clone())
}

/// Counts the call to its cause's open escalation, or makes one.
pub(super) fn escalate(draft: &mut Draft<'_>, call: Call<'_>) {
    if let Some(open) = open_with(draft, call.cause) {
        return count(draft, &open);
    }
    if draft.escalations().count() >= CAUSES_OPEN_MAX && call.cause != OVERFLOW {
        let title = "Too many things need a person".to_owned();
        let body = "Close what is done; what comes on top is only counted here.".to_owned();
        let (cause, class, source) = (OVERFLOW, None, None);
        return escalate(
            draft,
            Call {
                cause,
                title,
                body,
                class,
                source,
            },
        );
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("cause".to_owned(), json!(call.cause));
    metadata.insert("count".to_owned(), json!(1));
    metadata.insert("class".to_owned(), json!(call.class));
    metadata.insert("source_bead_id".to_owned(), json!(call.source));
    let new = NewBead {
        kind: BeadType::Escalation,
        body: Some(call.body),
        priority: Priority::High,
        metadata,
        ..NewBead::issue(call.title)
    };
    let bead = intake::make_bead(draft, new);
    let mut event = NewEvent::of(EventType::Escalated, call.source.unwrap_or(&bead.id));
    event.new = Some(bead.id.to_string());
    event.metadata = json!({ "cause": call.cause });
    draft.event(event);
}

/// The same again: silent, because its cause is known.
pub(super) fn count(draft: &mut Draft<'_>, id: &BeadId) {
    if let Ok(bead) = draft.bead_mut(id) {
        let count = bead.metadata.get("count").and_then(Value::as_u64);
        let count = count.unwrap_or(1).saturating_add(1);
        bead.metadata.insert("count".to_owned(), json!(count));
    }
}

/// What a new escalation begins with.
pub(super) fn fresh(draft: &Draft<'_>) -> Alert {
    Alert {
        again: Some(Deadline::after(draft.now(), AGAIN_MS)),
        ..Alert::default()
    }
}

/// Nobody has seen it: it is told again, more urgently, a few times.
pub(super) fn tell_again(draft: &mut Draft<'_>, id: &BeadId) {
    let now = draft.now();
    let Ok(bead) = draft.bead_mut(id) else { return };
    let alert = bead.alert.get_or_insert_default();
    alert.told_again = alert.told_again.saturating_add(1);
    alert.again = (alert.told_again < AGAIN_MAX).then(|| Deadline::after(now, AGAIN_MS));
    bead.priority = Priority::Critical;
    let (told_again, cause) = (alert.told_again, bead.metadata.get("cause").cloned());
    let mut event = NewEvent::of(EventType::Escalated, id);
    event.new = Some(id.to_string());
    event.metadata = json!({ "cause": cause, "told_again": told_again });
    draft.event(event);
}

/// A person has seen it.
pub(super) fn acknowledge(draft: &mut Draft<'_>, id: &BeadId, by: &Who) -> Result<Reply, Refused> {
    let at = draft.now();
    let bead = draft.bead(id).ok_or_else(|| Refused::NoBead(id.clone()))?;
    if bead.kind != BeadType::Escalation {
        return Err(Refused::Conflict(format!(
            "bead {id} is no escalation; only those are acknowledged"
        )));
    }
    let known = bead.alert.as_ref().and_then(|a| a.acknowledged.as_ref());
    if known.is_none() && !bead.is_terminal() {
        let bead = draft.bead_mut(id)?;
        let alert = bead.alert.get_or_insert_default();
        alert.again = None;
        alert.acknowledged = Some(Acknowledged { by: by.clone(), at });
        let mut event = NewEvent::of(EventType::Acknowledged, id);
        event.metadata = json!({ "by": by });
        draft.event(event);
    }
    let bead = draft.bead(id).ok_or_else(|| Refused::NoBead(id.clone()))?;
    Ok(Reply::Bead(Box::new(bead.clone())))
}

/// Closes the open escalation of a cause that is gone.
pub(super) fn heal(draft: &mut Draft<'_>, cause: &str) {
    let Some(id) = open_with(draft, cause) else {
        return;
    };
    let at = draft.now();
    if let Ok(bead) = draft.bead_mut(&id) {
        bead.phase = Phase::Closed {
            at,
            resolution: Resolution::Healed,
        };
        super::orders::closed_event(draft, &id, None, "healed");
    }
}
