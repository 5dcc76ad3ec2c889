//! The surroundings of the rig's own breaker: what trips and closes it, and the checks that probe
//! it.
//!
//! Owns what is fed to it: only what speaks against this rig, its repository and its processes.
//! Shared scopes are the town's. The breaker's own rules are in `breaker`.

use serde_json::{Value, json};

use super::{
    alert::{self, Call},
    draft::{Draft, NewEvent},
    town,
};
use crate::{
    BreakerState, Class, Deadline, DispatchId, Effect, EventType, Failure, Moved, Preflight, Reach,
    Readiness, Reply, Run, Stage, Timestamp, Who,
};

/// A person's reset: check and probe at once, the shared scopes as well.
pub(super) fn reset(draft: &mut Draft<'_>, by: &Who) -> Reply {
    let now = draft.now();
    let class = draft.record().breaker.class().map(Class::as_str);
    let metadata = json!({ "by": by });
    draft.event(NewEvent::of_rig(EventType::BreakerReset, class, metadata));
    if let Some(config) = draft.record().config.clone() {
        let by = by.clone();
        draft.effect(Effect::ResetScopes { config, by });
    }
    let record = draft.record_mut();
    record.breaker.probe_now(now);
    record.readiness = Readiness::Unverified;
    record.hold = None;
    Reply::Accepted
}

/// Model output of a dispatch that was sent then.
pub(super) fn output(draft: &mut Draft<'_>, dispatch: &DispatchId, sent_at: Timestamp) {
    let now = draft.now();
    let class = draft.record().breaker.class();
    if draft.record_mut().breaker.output(dispatch, now) == Moved::Closed {
        closed(draft, class);
    }
    town::scopes_work(draft, sent_at);
}

fn closed(draft: &mut Draft<'_>, class: Option<Class>) {
    draft.event(NewEvent::of_rig(
        EventType::BreakerClosed,
        class.map(Class::as_str),
        Value::Null,
    ));
    if let Some(config) = &draft.record().config {
        let town = config.town_id.clone();
        draft.effect(Effect::BreakerClosed { town });
    }
    if let Some(class) = class {
        alert::heal(draft, &alert::class_cause(class));
    }
}

/// A dispatch failed.
pub(super) fn failed(draft: &mut Draft<'_>, failure: &Failure, run: &Run, dispatch: &DispatchId) {
    let probes = is_probe(draft, dispatch);
    match failure.class.reach() {
        Reach::Rig | Reach::Nobody => feed(draft, failure, probes),
        // It speaks against something else, and proves nothing about the rig.
        Reach::Credential | Reach::Gateway | Reach::Model | Reach::Container => {
            return release_probe(draft, dispatch);
        }
    }
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

/// The probe's deadline passed.
pub(super) fn probe_expired(draft: &mut Draft<'_>) {
    let (now, random) = (draft.now(), draft.random());
    let record = draft.record_mut();
    let pace = record.policy.pace();
    record.breaker.probe_expired(now, &pace, random);
    record.readiness = Readiness::Unverified;
}

/// The probe ended without output.
fn probe_failed(draft: &mut Draft<'_>) {
    let (now, random) = (draft.now(), draft.random());
    let record = draft.record_mut();
    let pace = record.policy.pace();
    record.breaker.probe_failed(now, &pace, random);
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
    let pace = record.policy.pace();
    match record
        .breaker
        .failed(failure, was_probe, now, &pace, random)
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
    draft.event(NewEvent::of_rig(
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
    let title = format!("Dispatch is stopped: {}", failure.class);
    let body = format!("{}\n\nWhat to do: {}.", failure.text, failure.class.fix());
    alert::escalate(
        draft,
        Call {
            cause: &alert::class_cause(failure.class),
            title,
            body,
            class: Some(failure.class),
            source: None,
        },
    );
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
        Preflight::Held { refusal, until } => {
            draft.record_mut().readiness = Readiness::Unverified;
            town::held(draft, refusal, until);
        }
    }
    Reply::Accepted
}

/// The check's deadline passed without an answer.
pub(super) fn check_unanswered(draft: &mut Draft<'_>) {
    let text = "the checks before a dispatch did not end in time";
    check_failed(
        draft,
        Failure::new(Class::StartTimeout, Stage::Preflight, text),
    );
}

/// A check that fails keeps or makes the rig's breaker open, whatever its class: nothing of this
/// rig can run.
fn check_failed(draft: &mut Draft<'_>, failure: Failure) {
    draft.record_mut().readiness = Readiness::Unverified;
    let class = match failure.class.trip() {
        crate::class::Trip::Never => Class::StartTimeout,
        _ => failure.class,
    };
    feed(draft, &Failure { class, ..failure }, true);
}
