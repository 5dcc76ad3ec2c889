//! The town's budget of the day and its pause, and what they end.
//!
//! Owns the sum of what all rigs spend, the warning at 80 % and the stop at 100 %. A stop ends what
//! runs after its work is saved; whoever is refused because of it waits for the next day, or for a
//! person.

use super::{Ticket, TownPolicy, TownReply, draft::Draft, drive};
use crate::{
    Class, DispatchId, Failure, Fill, Notice, Pause, PauseMode, RigId, Stage, Usage, Who, utc_day,
};

/// What a dispatch has cost so far: the sum only grows, so only what is new counts.
pub(super) fn used(
    draft: &mut Draft<'_>,
    rig: &RigId,
    dispatch: &DispatchId,
    usage: Usage,
) -> TownReply {
    let Some(berth) = draft.berth(rig, dispatch) else {
        return TownReply::Accepted;
    };
    let sum = berth.usage.at_least(usage);
    let more = sum.beyond(berth.usage);
    if sum == berth.usage {
        return TownReply::Accepted;
    }
    draft.change_berth(rig, dispatch, |berth| berth.usage = sum);
    let now = draft.now();
    draft.record_mut().spent.add(now, more);
    watch_budget(draft, rig);
    TownReply::Accepted
}

fn watch_budget(draft: &mut Draft<'_>, rig: &RigId) {
    let (today, now) = (utc_day(draft.now()), draft.now());
    let record = draft.record();
    let limit = record.policy.day;
    let (warned, stopped) = (record.warned_day, record.stopped.as_ref().map(|s| s.0));
    match limit.fill(&record.spent.on(now)) {
        Fill::Low => {}
        Fill::Near if warned == Some(today) => {}
        Fill::Near => {
            draft.record_mut().warned_day = Some(today);
            draft.notify(rig.clone(), Notice::BudgetWarned { limit });
        }
        Fill::Full => {
            if stopped != Some(today) {
                draft.record_mut().warned_day = Some(today);
                draft.record_mut().stopped = Some((today, rig.clone()));
                draft.notify(rig.clone(), Notice::BudgetStopped { limit });
            }
            let text = format!("the town's budget of the day is used up ({limit})");
            end_all(draft, Class::BudgetStop, &text);
        }
    }
}

/// Ends every session that is not being ended already.
fn end_all(draft: &mut Draft<'_>, class: Class, text: &str) {
    let running = draft.taken().filter(|(_, berth)| !berth.ending);
    let running: Vec<Ticket> = running
        .map(|(entry, _)| Ticket {
            rig: entry.rig.clone(),
            dispatch: entry.dispatch.clone(),
        })
        .collect();
    for ticket in running {
        drive::end_session(draft, ticket, Failure::new(class, Stage::Turn, text));
    }
}

/// With a higher limit whatever waited for it is offered again; with a lower one what runs ends.
pub(super) fn set_policy(draft: &mut Draft<'_>, policy: TownPolicy) -> TownReply {
    draft.record_mut().policy = policy;
    let record = draft.record();
    let is_full = record.policy.day.is_reached(&record.spent.on(draft.now()));
    let mut rigs = draft.taken().map(|(entry, _)| entry.rig.clone());
    let first = rigs.next();
    drop(rigs);
    if !is_full {
        free(draft);
    } else if let Some(rig) = first {
        watch_budget(draft, &rig);
    }
    TownReply::Accepted
}

/// A new day has its own budget.
pub(super) fn new_day(draft: &mut Draft<'_>) {
    let record = draft.record();
    if !record.policy.day.is_reached(&record.spent.on(draft.now())) {
        free(draft);
    }
}

fn free(draft: &mut Draft<'_>) {
    if draft.record().stopped.is_none() {
        return;
    }
    if let Some((_, rig)) = draft.record_mut().stopped.take() {
        draft.notify(rig, Notice::BudgetFree);
    }
}

pub(super) fn pause(
    draft: &mut Draft<'_>,
    mode: PauseMode,
    by: Who,
    reason: Option<String>,
) -> TownReply {
    let known = draft.record().pause.as_ref();
    if known.is_some_and(|pause| pause.mode == mode) {
        // Who came first, and since when it holds, stays true.
        return TownReply::Accepted;
    }
    let at = draft.now();
    let word = match mode {
        PauseMode::Pause => "pause",
        PauseMode::Stop => "stop",
    };
    draft.note_order(by.clone(), word);
    let text = format!("the town was stopped by {by}");
    draft.record_mut().pause = Some(Pause {
        mode,
        at,
        by,
        reason,
    });
    if mode == PauseMode::Stop {
        end_all(draft, Class::Interrupted, &text);
    }
    TownReply::Accepted
}

/// Whoever waits is offered its slot at the end of this step.
pub(super) fn resume(draft: &mut Draft<'_>) -> TownReply {
    if draft.record().pause.is_some() {
        draft.record_mut().pause = None;
    }
    TownReply::Accepted
}
