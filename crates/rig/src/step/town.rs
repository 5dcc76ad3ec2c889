//! What the town says: refused until then, room again, and news of shared scopes.
//!
//! Owns the hold. It costs nothing and is no failure; the gate keeps it.

use serde_json::{Value, json};

use super::{
    alert::{self, Call},
    draft::{Draft, NewEvent},
};
use crate::{
    Bead, Class, Deadline, EventType, Failure, Hold, Notice, Refusal, Reply, Scope, Timestamp,
};

/// The longest that a town may let a rig wait without being asked again.
const HOLD_MAX_MS: i64 = 24 * 60 * 60 * 1_000;
/// So many of the newest notices are known again.
const NOTICES_KEPT: usize = 64;
const DAY_CAUSE: &str = "budget:town";

/// The town refused, until then.
pub(super) fn held(draft: &mut Draft<'_>, refusal: Refusal, until: Timestamp) {
    let now = draft.now();
    let wait_ms = until.since_ms(now).clamp(1_000, HOLD_MAX_MS);
    draft.record_mut().hold = Some(Hold {
        refusal,
        until: Deadline::after(now, wait_ms),
    });
}

/// There is room: ask again, with one dispatch.
pub(super) fn offered(draft: &mut Draft<'_>) -> Reply {
    let now = draft.now();
    if draft.record().hold.is_some()
        && let Some(hold) = &mut draft.record_mut().hold
    {
        hold.until = Deadline::after(now, 0);
    }
    Reply::Accepted
}

/// A session has started: the town lets this rig pass.
pub(super) fn passed(draft: &mut Draft<'_>) {
    if draft.record().hold.is_some() {
        draft.record_mut().hold = None;
    }
}

pub(super) fn noticed(draft: &mut Draft<'_>, no: u64, notice: Notice) -> Reply {
    if draft.record().notices.contains(&no) {
        return Reply::Repeated;
    }
    let notices = &mut draft.record_mut().notices;
    notices.push(no);
    let surplus = notices.len().saturating_sub(NOTICES_KEPT);
    notices.drain(..surplus);
    match notice {
        Notice::Tripped {
            scope,
            failure,
            next_probe_at,
        } => tripped(draft, no, &scope, &failure, next_probe_at),
        Notice::Closed { scope } => {
            let metadata = json!({ "scope": scope });
            draft.event(NewEvent::of_rig(EventType::BreakerClosed, None, metadata));
            let scope = json!(scope);
            heal_scopes(draft, |told| {
                let notice = told.metadata.get("notice").and_then(Value::as_u64);
                told.metadata.get("scope") == Some(&scope) && notice < Some(no)
            });
        }
        Notice::BudgetWarned { limit } => draft.event(NewEvent::of_rig(
            EventType::BudgetWarned,
            Some("town_day"),
            json!({ "limit": limit }),
        )),
        Notice::BudgetStopped { limit } => {
            let metadata = json!({ "limit": limit });
            draft.event(NewEvent::of_rig(
                EventType::BudgetStopped,
                Some("town_day"),
                metadata,
            ));
            let body = format!(
                "The town's budget of the day is used up ({limit}).\n\nWhat to do: {}.",
                Class::BudgetStop.fix()
            );
            alert::escalate(
                draft,
                Call {
                    cause: DAY_CAUSE,
                    title: "The town's budget of the day is used up".to_owned(),
                    body,
                    class: Some(Class::BudgetStop),
                    source: None,
                },
            );
        }
        Notice::BudgetFree => alert::heal(draft, DAY_CAUSE),
    }
    Reply::Accepted
}

/// Another class of the same scope is another cause: whoever has seen the one is told of the other.
fn tripped(
    draft: &mut Draft<'_>,
    no: u64,
    scope: &Scope,
    failure: &Failure,
    next_probe_at: Timestamp,
) {
    let cause = format!("scope:{scope}:{}", failure.class);
    let metadata = json!({
        "scope": scope, "class": failure.class, "text": failure.text,
        "next_probe_at_ms": next_probe_at,
    });
    let word = Some(failure.class.as_str());
    draft.event(NewEvent::of_rig(EventType::BreakerTripped, word, metadata));
    let body = format!("{}\n\nWhat to do: {}.", failure.text, failure.class.fix());
    alert::escalate(
        draft,
        Call {
            cause: &cause,
            title: format!("Dispatch is stopped: {} ({scope})", failure.class),
            body,
            class: Some(failure.class),
            source: None,
        },
    );
    let told = draft.escalation_of(&cause).map(|bead| bead.id.clone());
    if let Some(id) = told
        && let Ok(bead) = draft.bead_mut(&id)
    {
        bead.metadata.insert("scope".to_owned(), json!(scope));
        // News of the same scope may overtake each other.
        bead.metadata.insert("notice".to_owned(), json!(no));
    }
}

/// Closes the open escalations of shared scopes that are meant.
fn heal_scopes(draft: &mut Draft<'_>, is_meant: impl Fn(&Bead) -> bool) {
    let of_scopes = |bead: &&Bead| bead.metadata.contains_key("scope") && is_meant(bead);
    let open = draft.escalations().filter(of_scopes);
    let causes = open.filter_map(|bead| bead.metadata.get("cause")?.as_str());
    let causes: Vec<String> = causes.map(str::to_owned).collect();
    for cause in causes {
        alert::heal(draft, &cause);
    }
}

/// The model has written on this rig's scopes: whatever it had told people about them before that
/// dispatch was let pass is out of date, and so are scopes that it does not use any more. A session
/// that was under way when a breaker opened proves nothing of it.
pub(super) fn scopes_work(draft: &mut Draft<'_>, sent_at: Timestamp) {
    heal_scopes(draft, |bead| bead.created_at < sent_at);
}

/// A message of this rig was given up after many tries: nothing is lost, but a person has to know.
pub(super) fn undeliverable(draft: &mut Draft<'_>, what: &'static str, reason: &str) -> Reply {
    let metadata = json!({ "what": what, "reason": reason });
    draft.event(NewEvent::of_rig(
        EventType::DeadLettered,
        Some(what),
        metadata,
    ));
    let body = format!(
        "{reason}\n\nWhat to do: mend the cause, then retry the message from the list of dead \
         letters."
    );
    alert::escalate(
        draft,
        Call {
            cause: &format!("dead_letter:{what}"),
            title: format!("A message could not be delivered: {what}"),
            body,
            class: None,
            source: None,
        },
    );
    Reply::Accepted
}
