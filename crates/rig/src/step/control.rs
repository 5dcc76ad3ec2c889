//! What a person says of the whole rig: pause, stop, resume, and what its work may cost.
//!
//! Owns what a stop and a budget end. Both are part of the record, so that no restart undoes them.

use serde_json::json;

use super::{
    alert::{self, Call},
    draft::{Draft, NewEvent},
    orders,
};
use crate::{
    Bead, BeadId, Budget, Cause, Class, Deadline, EventType, Failure, Fill, Limit, Park, Pause,
    PauseMode, Phase, Reply, Stage, Usage, Who, utc_day,
};

/// The cause of the escalation for the rig's own budget of the day.
const DAY_CAUSE: &str = "budget:rig";

pub(super) fn pause(
    draft: &mut Draft<'_>,
    mode: PauseMode,
    by: Who,
    reason: Option<String>,
) -> Reply {
    let at = draft.now();
    let known = draft.record().pause.as_ref();
    if known.is_some_and(|pause| pause.mode == mode) {
        return Reply::Accepted;
    }
    let metadata = json!({ "mode": mode, "by": by, "reason": reason });
    draft.event(NewEvent::of_rig(
        EventType::Paused,
        Some(mode.as_str()),
        metadata,
    ));
    let text = format!("the rig was stopped by {by}");
    draft.record_mut().pause = Some(Pause {
        mode,
        at,
        by,
        reason,
    });
    if mode == PauseMode::Stop {
        end_all(draft, &Failure::new(Class::Interrupted, Stage::Turn, text));
    }
    Reply::Accepted
}

pub(super) fn resume(draft: &mut Draft<'_>, by: &Who) -> Reply {
    if draft.record().pause.is_none() {
        return Reply::Accepted;
    }
    draft.record_mut().pause = None;
    draft.event(NewEvent::of_rig(
        EventType::Resumed,
        None,
        json!({ "by": by }),
    ));
    Reply::Accepted
}

/// With more money whatever waited for it goes on; with less what runs beyond it ends.
pub(super) fn set_budget(draft: &mut Draft<'_>, budget: Budget, by: &Who) -> Reply {
    if draft.record().budget == budget {
        return Reply::Accepted;
    }
    let record = draft.record_mut();
    record.budget = budget;
    record.warned_day = None;
    let metadata = json!({ "budget": budget, "by": by });
    draft.event(NewEvent::of_rig(EventType::BudgetSet, None, metadata));
    unpark(draft);
    watch(draft);
    Reply::Accepted
}

fn unpark(draft: &mut Draft<'_>) {
    let now = draft.now();
    let limit = draft.record().budget.bead;
    let parked = draft.unfinished().filter(|bead| {
        let is_parked = matches!(&bead.phase, Phase::Waiting { park: Some(_), .. });
        is_parked && !limit.is_reached(&bead.usage)
    });
    let parked: Vec<BeadId> = parked.map(|bead| bead.id.clone()).collect();
    for id in parked {
        if let Ok(bead) = draft.bead_mut(&id)
            && let Phase::Waiting { park, until, .. } = &mut bead.phase
        {
            (*park, *until) = (None, Deadline::after(now, 0));
        }
        alert::heal(draft, &bead_cause(&id));
    }
}

fn is_day_spent(draft: &Draft<'_>) -> bool {
    let record = draft.record();
    record.budget.day.is_reached(&record.spent.on(draft.now()))
}

fn bead_cause(id: &BeadId) -> String {
    format!("budget:bead:{id}")
}

/// A dispatch has cost that much since it was last heard of.
pub(super) fn spend(draft: &mut Draft<'_>, more: Usage) {
    if more == Usage::default() {
        return;
    }
    let now = draft.now();
    draft.record_mut().spent.add(now, more);
    watch(draft);
}

/// Warns, stops, and ends what runs beyond a limit.
fn watch(draft: &mut Draft<'_>) {
    let now = draft.now();
    let record = draft.record();
    let limit = record.budget.day;
    match limit.fill(&record.spent.on(now)) {
        Fill::Low => {}
        Fill::Near => warn(draft, limit),
        Fill::Full => {
            warn(draft, limit);
            stop(draft, limit);
        }
    }
    end_spent_beads(draft);
}

fn warn(draft: &mut Draft<'_>, limit: Limit) {
    let today = utc_day(draft.now());
    if draft.record().warned_day == Some(today) {
        return;
    }
    let metadata = json!({ "limit": limit, "spent": draft.record().spent.on(draft.now()) });
    draft.record_mut().warned_day = Some(today);
    draft.event(NewEvent::of_rig(
        EventType::BudgetWarned,
        Some("rig_day"),
        metadata,
    ));
}

fn stop(draft: &mut Draft<'_>, limit: Limit) {
    let text = format!("the rig's budget of the day is used up ({limit})");
    if end_all(
        draft,
        &Failure::new(Class::BudgetStop, Stage::Turn, text.clone()),
    ) {
        tell_stopped(draft, &text);
    }
}

/// The budget of the day as the gate meets it, at the end of every step: a person is told once a
/// day that work waits for it, and no longer than it does.
pub(super) fn note_day(draft: &mut Draft<'_>) {
    if is_day_spent(draft) {
        if draft.ready(1).next().is_some() {
            let limit = draft.record().budget.day;
            let text = format!("the rig's budget of the day is used up ({limit})");
            tell_stopped(draft, &text);
        }
    } else if draft.record().stopped_day.is_some() {
        draft.record_mut().stopped_day = None;
        alert::heal(draft, DAY_CAUSE);
    }
}

fn tell_stopped(draft: &mut Draft<'_>, text: &str) {
    let today = utc_day(draft.now());
    if draft.record().stopped_day == Some(today) {
        return;
    }
    draft.record_mut().stopped_day = Some(today);
    let metadata = json!({ "limit": draft.record().budget.day });
    draft.event(NewEvent::of_rig(
        EventType::BudgetStopped,
        Some("rig_day"),
        metadata,
    ));
    let body = format!("{text}\n\nWhat to do: {}.", Class::BudgetStop.fix());
    alert::escalate(
        draft,
        Call {
            cause: DAY_CAUSE,
            title: "The budget of the day is used up".to_owned(),
            body,
            class: Some(Class::BudgetStop),
            source: None,
        },
    );
}

/// Sessions of beads that have used up their own budget.
fn end_spent_beads(draft: &mut Draft<'_>) {
    let limit = draft.record().budget.bead;
    if limit == Limit::default() {
        return;
    }
    let spent = running(draft).filter(|bead| limit.is_reached(&spent_by(bead)));
    let spent: Vec<BeadId> = spent.map(|bead| bead.id.clone()).collect();
    let text = format!("the bead's budget is used up ({limit})");
    for id in spent {
        let failure = Failure::new(Class::BudgetStop, Stage::Turn, text.clone());
        end(draft, &id, failure);
    }
}

/// All that a bead has cost, its dispatch under way included.
pub(super) fn spent_by(bead: &Bead) -> Usage {
    let run = bead.run().map(|run| run.usage).unwrap_or_default();
    bead.usage.plus(run)
}

/// Whether a bead may not be dispatched because of its own budget; it waits for a person then.
pub(super) fn park_if_spent(draft: &mut Draft<'_>, id: &BeadId) -> bool {
    let limit = draft.record().budget.bead;
    let Some(bead) = draft.bead(id) else {
        return false;
    };
    if !limit.is_reached(&bead.usage) {
        return false;
    }
    let Some(agent) = bead.hooked_to().cloned() else {
        return false;
    };
    let title = format!("Budget used up: {}", bead.title);
    let until = Deadline::after(draft.now(), 0);
    if let Ok(bead) = draft.bead_mut(id) {
        bead.phase = Phase::Waiting {
            agent,
            until,
            park: Some(Park::Budget),
        };
    }
    let body = format!(
        "The bead has used up its budget ({limit}).\n\nWhat to do: raise the rig's budget for \
         each bead, or cancel the bead."
    );
    alert::escalate(
        draft,
        Call {
            cause: &bead_cause(id),
            title,
            body,
            class: Some(Class::BudgetStop),
            source: Some(id),
        },
    );
    true
}

fn running<'d>(draft: &'d Draft<'_>) -> impl Iterator<Item = &'d Bead> {
    let runs =
        |bead: &&Bead| matches!(bead.phase, Phase::Dispatched { .. } | Phase::Working { .. });
    draft.live().filter(runs)
}

/// Ends every session that is not ending already; whether there was one.
fn end_all(draft: &mut Draft<'_>, failure: &Failure) -> bool {
    let ids: Vec<BeadId> = running(draft).map(|bead| bead.id.clone()).collect();
    for id in &ids {
        end(draft, id, failure.clone());
    }
    !ids.is_empty()
}

fn end(draft: &mut Draft<'_>, id: &BeadId, failure: Failure) {
    let reason = failure.text.clone();
    // Never refused: the bead has a run.
    let _ = orders::begin_ending(draft, id, Cause::Expired(failure), 0, &reason);
}
