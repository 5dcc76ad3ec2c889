//! The invariants of whatever holds a rig back and tells people: the town's word, a person's
//! pause, budgets, escalations.
//!
//! Owns an account of its own of what was spent. Called by `checks` around every step.

use wellhead_rig::{
    Attempt, Bead, Effect, Input, Outcome, PauseMode, Phase, Rig, RigRecord, Step, Timestamp,
};

use super::checks::{dispatch_sent, hold};

const AGAIN_MS: i64 = 4 * 3_600_000;
const AGAIN_MAX: u32 = 3;

/// Nothing is dispatched past a pause, a used budget, or the town's word.
pub(super) fn held_back(
    old: &RigRecord,
    new: &RigRecord,
    input: &Input,
    step: &Step,
    now: Timestamp,
) -> Result<(), String> {
    let sent = step.effects.iter().filter_map(dispatch_sent).count();
    if sent == 0 {
        return Ok(());
    }
    hold!(new.pause.is_none(), "{sent} dispatched in a paused rig");
    let is_spent = new.budget.day.is_reached(&new.spent.on(now));
    hold!(!is_spent, "I13: {sent} dispatched on a used budget");
    let Some(hold) = &new.hold else {
        return Ok(());
    };
    hold!(sent == 1, "{sent} dispatched to ask a town that refused");
    hold!(
        !hold.until.is_due(now),
        "the town is asked, and asked again at once"
    );
    let was_held = old.hold.as_ref().is_some_and(|h| !h.until.is_due(now));
    let is_offered = matches!(input, Input::Offered);
    hold!(
        !was_held || is_offered,
        "dispatched while the town holds it back"
    );
    Ok(())
}

/// A refusal costs nothing but its number.
pub(super) fn refused_costs_nothing(old: &Bead, new: &Bead, ended: &Attempt) -> Result<(), String> {
    if !matches!(
        ended.outcome,
        Outcome::Refused { .. } | Outcome::NeverStarted
    ) {
        return Ok(());
    }
    let id = &new.id;
    hold!(
        new.numbers.failures == old.numbers.failures,
        "I6: {id} is charged for a refusal"
    );
    hold!(
        new.last_failure == old.last_failure,
        "{id} failed by a refusal"
    );
    Ok(())
}

/// How many of a bead's prompts this step sends for a session that stands still.
pub(super) fn nudges_of(step: &Step, bead: &Bead) -> u32 {
    let ours = |effect: &&Effect| matches!(effect, Effect::Nudge { dispatch, .. } if dispatch.bead == bead.id);
    u32::try_from(step.effects.iter().filter(ours).count()).unwrap_or(9)
}

fn runs(bead: &Bead) -> bool {
    matches!(bead.phase, Phase::Dispatched { .. } | Phase::Working { .. })
}

/// A stop and a used budget end what runs.
pub(super) fn ended_what_runs(rig: &Rig, now: Timestamp) -> Result<(), String> {
    let record = rig.record();
    let mode = record.pause.as_ref().map(|pause| pause.mode);
    let is_spent = record.budget.day.is_reached(&record.spent.on(now));
    for bead in rig.running().filter(|bead| runs(bead)) {
        let id = &bead.id;
        hold!(mode != Some(PauseMode::Stop), "{id} runs in a stopped rig");
        hold!(!is_spent, "I13: {id} runs on a used budget");
        let run = bead.run().map(|run| run.usage).unwrap_or_default();
        let used = bead.usage.plus(run);
        hold!(
            !record.budget.bead.is_reached(&used),
            "I13: {id} runs beyond its own budget"
        );
    }
    Ok(())
}

/// What the rig has spent is what its beads have cost.
pub(super) fn spend_adds_up(rig: &Rig) -> Result<(), String> {
    let used = rig.beads().map(|bead| {
        let run = bead.run().map(|run| run.usage).unwrap_or_default();
        bead.usage.plus(run).tokens()
    });
    let (used, spent) = (used.sum::<u64>(), rig.record().spent.total.tokens());
    hold!(used == spent, "I13: beads cost {used}, {spent} were spent");
    Ok(())
}

/// Each open escalation is told again, three times at most, or silent because it was seen.
pub(super) fn alerts(
    rig: &Rig,
    alarm: Option<Timestamp>,
    now: Timestamp,
    was_alarm: bool,
) -> Result<(), String> {
    for bead in rig.open_escalations() {
        let id = &bead.id;
        let Some(alert) = &bead.alert else {
            return Err(format!("{id} has no alert"));
        };
        let is_silent = alert.acknowledged.is_some() || alert.told_again >= AGAIN_MAX;
        hold!(alert.told_again <= AGAIN_MAX, "{id} is told too often");
        hold!(
            alert.again.is_some() != is_silent,
            "C13: {id} is {alert:?} and silent is {is_silent}"
        );
        let Some(again) = alert.again else { continue };
        hold!(again.duration_ms == AGAIN_MS, "{id} is told at {again:?}");
        let due = again.rebased(now).at.max(now.plus_ms(1_000));
        hold!(alarm.is_some_and(|at| at <= due), "I3: {id} is not told");
        hold!(
            !was_alarm || !again.is_due(now),
            "I4: an alarm left {id} untold"
        );
    }
    Ok(())
}

/// What a person has seen stays seen.
pub(super) fn seen_stays_seen(old: &Bead, new: &Bead) -> Result<(), String> {
    let seen = |bead: &Bead| bead.alert.as_ref().and_then(|a| a.acknowledged.clone());
    let told = |bead: &Bead| bead.alert.as_ref().map_or(0, |a| a.told_again);
    if let Some(was) = seen(old) {
        let (id, is) = (&new.id, seen(new));
        hold!(is.as_ref() == Some(&was), "C13: {id} is unseen again");
        hold!(
            told(old) == told(new),
            "C13: {id} is told after it was seen"
        );
    }
    Ok(())
}
