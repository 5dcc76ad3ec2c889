//! I13: what may still be spent once a budget is used up, and that the sums are right.
//!
//! Owns the account of what each session had cost at that moment.

use super::{RigAccount, TownAccount};
use crate::{
    Bead, Change, Rig, RigRecord, Step, Timestamp,
    town::{Ticket, Town, TownRecord, TownStep},
    utc_day,
};

/// I13: once a budget is used up, each session that ran costs one turn more at most.
pub(super) fn of_rig(
    old: &Rig,
    record: &RigRecord,
    step: &Step,
    now: Timestamp,
    turn_tokens_max: u64,
    account: &mut RigAccount,
) -> Result<(), String> {
    let day_is_full = record.budget.day.is_reached(&record.spent.on(now));
    let is_same_day = utc_day(now) == old.record().spent.day;
    if !day_is_full || !is_same_day || record.budget != old.record().budget {
        account.over.clear();
    }
    for change in &step.changes {
        let Change::Bead(bead) = change else { continue };
        let Some(run) = bead.run() else { continue };
        let (id, tokens) = (bead.dispatch_id(), run.usage.tokens());
        if day_is_full && let Some(id) = id {
            let at_stop = *account.over.entry(id.clone()).or_insert(tokens);
            hold!(
                tokens.saturating_sub(at_stop) <= turn_tokens_max,
                "I13: {id} went on from {at_stop} to {tokens} tokens with the day's budget used up"
            );
        }
        bead_spending(bead, (run.no, tokens), record, turn_tokens_max, account)?;
    }
    Ok(())
}

fn bead_spending(
    bead: &Bead,
    (no, tokens): (u64, u64),
    record: &RigRecord,
    turn_tokens_max: u64,
    account: &mut RigAccount,
) -> Result<(), String> {
    let all = bead
        .usage
        .plus(bead.run().map(|run| run.usage).unwrap_or_default());
    if !record.budget.bead.is_reached(&all) {
        account.bead_over.remove(&bead.id);
        return Ok(());
    }
    let known = account
        .bead_over
        .entry(bead.id.clone())
        .or_insert((no, tokens));
    if known.0 != no {
        *known = (no, tokens);
    }
    let at_stop = known.1;
    hold!(
        tokens.saturating_sub(at_stop) <= turn_tokens_max,
        "I13: {} went on from {at_stop} to {tokens} tokens with its budget used up",
        bead.id
    );
    Ok(())
}

/// I13: once the day's budget is used up, each session that ran costs one turn more at most.
pub(super) fn of_town(
    old: &Town,
    record: &TownRecord,
    step: &TownStep,
    now: Timestamp,
    turn_tokens_max: u64,
    account: &mut TownAccount,
) -> Result<(), String> {
    let is_full = record.policy.day.is_reached(&record.spent.on(now));
    let same_day = utc_day(now) == old.record().spent.day;
    if !is_full || !same_day || record.policy != old.record().policy {
        account.over.clear();
    }
    if !is_full {
        return Ok(());
    }
    for entry in step.entries() {
        let Some(berth) = entry.berth() else { continue };
        let ticket = Ticket {
            rig: entry.rig.clone(),
            dispatch: entry.dispatch.clone(),
        };
        let tokens = berth.usage.tokens();
        let at_stop = *account.over.entry(ticket).or_insert(tokens);
        hold!(
            tokens.saturating_sub(at_stop) <= turn_tokens_max,
            "I13: {} went on from {at_stop} to {tokens} tokens with the town's budget used up",
            entry.dispatch
        );
    }
    Ok(())
}

/// What the rig has spent is what its beads have cost.
pub(super) fn adds_up(rig: &Rig) -> Result<(), String> {
    let used = rig.beads().map(|bead| {
        let run = bead.run().map(|run| run.usage).unwrap_or_default();
        bead.usage.plus(run).tokens()
    });
    let (used, spent) = (used.sum::<u64>(), rig.record().spent.total.tokens());
    hold!(used == spent, "I13: beads cost {used}, {spent} were spent");
    Ok(())
}
