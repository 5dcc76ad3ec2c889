//! The breaker's surroundings: what trips and closes it, the checks that probe it, and the
//! escalations that tell a person.
//!
//! Owns that an escalation is one per cause, with a count. The breaker's own rules are in
//! `breaker`.

use serde_json::{Value, json};

use super::{
    draft::{Draft, NewEvent},
    intake,
};
use crate::{
    Bead, BeadId, BeadType, BreakerState, Class, Deadline, DispatchId, Effect, EventType, Failure,
    Moved, NewBead, Phase, Preflight, Priority, Readiness, Reply, Resolution, Run, Stage,
};

/// A person's reset: check and probe at once.
pub(super) fn reset(draft: &mut Draft<'_>) -> Reply {
    let now = draft.now();
    let record = draft.record_mut();
    record.breaker.probe_now(now);
    record.readiness = Readiness::Unverified;
    Reply::Accepted
}

/// Model output arrived.
pub(super) fn output(draft: &mut Draft<'_>) {
    let now = draft.now();
    let class = draft.record().breaker.class();
    if draft.record_mut().breaker.output(now) == Moved::Closed {
        closed(draft, class);
    }
}

fn closed(draft: &mut Draft<'_>, class: Option<Class>) {
    draft.event(rig_event(
        EventType::BreakerClosed,
        class.map(Class::as_str),
        Value::Null,
    ));
    if let Some(config) = &draft.record().config {
        let town = config.town_id.clone();
        draft.effect(Effect::BreakerClosed { town });
    }
    if let Some(class) = class {
        heal(draft, &class_cause(class));
    }
}

/// A dispatch failed.
pub(super) fn failed(draft: &mut Draft<'_>, failure: &Failure, run: &Run, dispatch: &DispatchId) {
    let probes = is_probe(draft, dispatch);
    feed(draft, failure, probes);
    if probes && run.output {
        // It had closed the breaker already, or its output will not come any more.
        release_probe(draft, dispatch);
    }
}

/// The probe completed. Its output has closed the breaker; without any it counts as failed.
pub(super) fn probe_ended(draft: &mut Draft<'_>, run: &Run, dispatch: &DispatchId) {
    if is_probe(draft, dispatch) && !run.output {
        probe_failed(draft);
    }
}

/// The probe's deadline passed, or it ended without output.
pub(super) fn probe_failed(draft: &mut Draft<'_>) {
    let (now, random) = (draft.now(), draft.random());
    let record = draft.record_mut();
    let policy = record.policy.clone();
    record.breaker.probe_failed(now, &policy, random);
    record.readiness = Readiness::Unverified;
}

pub(super) fn release_probe(draft: &mut Draft<'_>, dispatch: &DispatchId) {
    if is_probe(draft, dispatch) {
        draft.record_mut().breaker.release_probe(dispatch);
    }
}

fn is_probe(draft: &Draft<'_>, dispatch: &DispatchId) -> bool {
    matches!(&draft.record().breaker.state,
        BreakerState::HalfOpen { probe: Some((id, _)), .. } if id == dispatch)
}

fn feed(draft: &mut Draft<'_>, failure: &Failure, was_probe: bool) {
    let (now, random) = (draft.now(), draft.random());
    let record = draft.record_mut();
    let policy = record.policy.clone();
    match record
        .breaker
        .failed(failure, was_probe, now, &policy, random)
    {
        Moved::Tripped => {
            record.readiness = Readiness::Unverified;
            tripped(draft, failure);
        }
        Moved::Reopened => record.readiness = Readiness::Unverified,
        Moved::No | Moved::Closed => {}
    }
}

fn tripped(draft: &mut Draft<'_>, failure: &Failure) {
    let metadata = json!({ "class": failure.class, "text": failure.text });
    draft.event(rig_event(
        EventType::BreakerTripped,
        Some(failure.class.as_str()),
        metadata,
    ));
    let record = draft.record();
    if let (Some(config), BreakerState::Open { next_probe, .. }) =
        (&record.config, &record.breaker.state)
    {
        let effect = Effect::BreakerTripped {
            town: config.town_id.clone(),
            failure: failure.clone(),
            next_probe_at: next_probe.at,
        };
        draft.effect(effect);
    }
    // A gateway that asks for patience needs no person.
    if failure.class != Class::RateLimited {
        let title = format!("Dispatch is stopped: {}", failure.class);
        let body = format!("{}\n\nWhat to do: {}.", failure.text, failure.class.fix());
        escalate(
            draft,
            &class_cause(failure.class),
            title,
            body,
            Some(failure.class),
            None,
        );
    }
}

fn rig_event(kind: EventType, new: Option<&'static str>, metadata: Value) -> NewEvent<'static> {
    let new = new.map(str::to_owned);
    NewEvent {
        kind,
        bead: None,
        agent: None,
        old: None,
        new,
        metadata,
    }
}

/// Asks the container to check what a dispatch needs, unless that is under way.
pub(super) fn request_check(draft: &mut Draft<'_>) {
    let now = draft.now();
    let Some(config) = draft.record().config.clone() else {
        return;
    };
    if matches!(draft.record().readiness, Readiness::Checking { .. }) {
        return;
    }
    let record = draft.record_mut();
    record.preflight_no += 1;
    let no = record.preflight_no;
    let deadline = Deadline::after(now, record.policy.preflight_ms);
    record.readiness = Readiness::Checking { no, deadline };
    draft.effect(Effect::Preflight { no, config });
}

pub(super) fn preflight_done(draft: &mut Draft<'_>, no: u64, result: Preflight) -> Reply {
    match &draft.record().readiness {
        Readiness::Checking { no: asked, .. } if *asked == no => {}
        _ => return Reply::Repeated,
    }
    match result {
        Preflight::Passed => {
            let record = draft.record_mut();
            record.readiness = Readiness::Verified;
            record.breaker.check_passed();
        }
        Preflight::Failed(failure) => check_failed(draft, failure),
    }
    Reply::Accepted
}

/// The check's deadline passed without an answer.
pub(super) fn check_unanswered(draft: &mut Draft<'_>) {
    let text = "the checks before a dispatch did not end in time";
    check_failed(draft, Failure::new(Class::Gateway, Stage::Preflight, text));
}

fn check_failed(draft: &mut Draft<'_>, failure: Failure) {
    draft.record_mut().readiness = Readiness::Unverified;
    // A failed request of our own says all that there is to say about the scope: no counting.
    let class = match failure.class.trip() {
        crate::class::Trip::Never => Class::Gateway,
        _ => failure.class,
    };
    feed(draft, &Failure { class, ..failure }, true);
}

fn class_cause(class: Class) -> String {
    format!("class:{class}")
}

/// One escalation for a bead that was given up: counted to its class's own one if that is open.
pub(super) fn escalate_bead(draft: &mut Draft<'_>, id: &BeadId, reason: &str) {
    let Some(bead) = draft.bead(id) else { return };
    let class = bead.last_failure.as_ref().map(|last| last.failure.class);
    let by_class = class
        .map(class_cause)
        .filter(|cause| open_with(draft, cause).is_some());
    let cause = by_class.unwrap_or_else(|| format!("bead:{id}"));
    let title = format!("Bead failed: {}", bead.title);
    let fix = class.map_or("read the bead, then retry or close it", Class::fix);
    let body = format!("{reason}\n\nWhat to do: {fix}.");
    escalate(draft, &cause, title, body, class, Some(id));
}

fn open_with(draft: &Draft<'_>, cause: &str) -> Option<BeadId> {
    let has_cause =
        |bead: &&Bead| bead.metadata.get("cause").and_then(Value::as_str) == Some(cause);
    draft
        .escalations()
        .find(has_cause)
        .map(|bead| bead.id.clone())
}

fn escalate(
    draft: &mut Draft<'_>,
    cause: &str,
    title: String,
    body: String,
    class: Option<Class>,
    source: Option<&BeadId>,
) {
    if let Some(open) = open_with(draft, cause) {
        if let Ok(bead) = draft.bead_mut(&open) {
            let count = bead
                .metadata
                .get("count")
                .and_then(Value::as_u64)
                .unwrap_or(1);
            bead.metadata
                .insert("count".to_owned(), json!(count.saturating_add(1)));
        }
        return;
    }
    let mut metadata = serde_json::Map::new();
    metadata.insert("cause".to_owned(), json!(cause));
    metadata.insert("count".to_owned(), json!(1));
    metadata.insert("class".to_owned(), json!(class));
    metadata.insert("source_bead_id".to_owned(), json!(source));
    let new = NewBead {
        kind: BeadType::Escalation,
        body: Some(body),
        priority: Priority::High,
        metadata,
        ..NewBead::issue(title)
    };
    let bead = intake::make_bead(draft, new);
    let mut event = NewEvent::of(EventType::Escalated, source.unwrap_or(&bead.id));
    event.new = Some(bead.id.to_string());
    event.metadata = json!({ "cause": cause });
    draft.event(event);
}

/// Closes the open escalation of a cause that is gone.
fn heal(draft: &mut Draft<'_>, cause: &str) {
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
