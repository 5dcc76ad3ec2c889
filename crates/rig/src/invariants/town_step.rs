//! A town's decision, judged on the state that it was made on.
//!
//! Owns who may pass which breaker, and that every dispatch ends once.

use super::{TownAccount, spending};
use crate::{
    BreakerState, Class, Outcome, Scope, Timestamp,
    town::{Entry, EntryState, Taken, Ticket, Town, TownInput, TownRecord, TownReply, TownStep},
};

/// Judges a step before it is applied; what it has to remember of it goes into the account.
///
/// A session costs `turn_tokens_max` tokens more at most, once the budget is used up.
///
/// # Errors
/// What is broken, in words.
pub fn town_step(
    old: &Town,
    input: &TownInput,
    step: &TownStep,
    now: Timestamp,
    turn_tokens_max: u64,
    account: &mut TownAccount,
) -> Result<(), String> {
    let record = step.record(old);
    account.taken = old.taken_count();
    breakers(old.record(), record, input, account)?;
    if let (TownInput::Take { rig, dispatch, ask }, TownReply::Taken(Taken::Fresh)) =
        (input, &step.reply)
    {
        let ticket = Ticket {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
        };
        granted(old, &ticket, now)?;
        for scope in ask.scopes.all() {
            passed(old.record(), record, &scope, &ticket, account)?;
        }
    }
    for entry in step.entries() {
        ends_once(old, entry)?;
    }
    spending::of_town(old, record, step, now, turn_tokens_max, account)
}

/// The town as a whole lets it pass, and nothing of its bead runs.
fn granted(old: &Town, ticket: &Ticket, now: Timestamp) -> Result<(), String> {
    let (record, id) = (old.record(), &ticket.dispatch);
    hold!(record.pause.is_none(), "{id} is granted by a paused town");
    let spent = record.spent.on(now);
    hold!(
        !record.policy.day.is_reached(&spent),
        "I13: {id} is granted with {spent:?} spent today"
    );
    if let Some(before) = old.entry(&ticket.rig, id) {
        hold!(
            before.dispatch.no < id.no,
            "I5: {id} is granted after {}",
            before.dispatch
        );
        let is_over = matches!(before.state, EntryState::Over { .. });
        hold!(
            is_over,
            "I1: {id} is granted while {} is taken",
            before.dispatch
        );
    }
    Ok(())
}

/// One scope lets it pass: it is closed, or half open and this is its only probe.
fn passed(
    old: &TownRecord,
    new: &TownRecord,
    scope: &Scope,
    ticket: &Ticket,
    account: &mut TownAccount,
) -> Result<(), String> {
    let id = &ticket.dispatch;
    match old.guard(scope).map(|guard| &guard.breaker.state) {
        None | Some(BreakerState::Closed) => Ok(()),
        Some(BreakerState::Open { .. }) => Err(format!(
            "I7: {id} is granted through the open breaker of {scope}"
        )),
        Some(BreakerState::HalfOpen { probe, .. }) => {
            hold!(
                probe.is_none(),
                "I7: {id} is a second probe of {scope} beside {probe:?}"
            );
            let is = new.guard(scope).and_then(|guard| guard.breaker.probe());
            let is_probe = is.is_some_and(|(is, _)| is == ticket);
            hold!(
                is_probe,
                "I7: {id} passes half-open {scope} and is not its probe"
            );
            let count = account.granted.entry(scope.clone()).or_default();
            *count += 1;
            hold!(
                *count <= 1,
                "I6: {id} is a second dispatch through {scope} in one cooldown"
            );
            Ok(())
        }
    }
}

/// What opens or closes ends the cooldown's account; a probe goes only when it is over.
fn breakers(
    old: &TownRecord,
    new: &TownRecord,
    input: &TownInput,
    account: &mut TownAccount,
) -> Result<(), String> {
    for was in &old.guards {
        let is = new.guard(&was.scope);
        let is_open = is.is_some_and(|is| matches!(is.breaker.state, BreakerState::Open { .. }));
        if is.is_none_or(|is| is.breaker.is_closed()) || is_open {
            account.granted.remove(&was.scope);
            continue;
        }
        let probe = is.and_then(|is| is.breaker.probe()).map(|(id, _)| id);
        if let Some((before, _)) = was.breaker.probe()
            && probe != Some(before)
        {
            let scope = &was.scope;
            hold!(
                may_release(input),
                "I7: the probe {before:?} of {scope} goes with {input:?}"
            );
            account.granted.remove(scope);
        }
    }
    Ok(())
}

/// A probe makes room for another only if it proved nothing, or on a person's word.
fn may_release(input: &TownInput) -> bool {
    match input {
        TownInput::Reset { .. } => true,
        TownInput::Finish { report, .. } => matches!(&report.outcome,
            Outcome::Failed { failure, .. }
                if matches!(failure.class, Class::Interrupted | Class::BudgetStop)),
        _ => false,
    }
}

/// What was over stays as it ended, and what was told stays told until somebody asks.
fn ends_once(old: &Town, entry: &Entry) -> Result<(), String> {
    let Some(was) = old.entry(&entry.rig, &entry.dispatch) else {
        return Ok(());
    };
    hold!(
        was.dispatch.no <= entry.dispatch.no,
        "I5: {} follows {}",
        entry.dispatch,
        was.dispatch
    );
    if was.dispatch != entry.dispatch {
        return Ok(());
    }
    match (&was.state, &entry.state) {
        (EntryState::Over { report: one, .. }, EntryState::Over { report: two, .. }) => {
            hold!(
                one == two,
                "I8: {} ended twice: {one:?}, {two:?}",
                entry.dispatch
            );
        }
        (EntryState::Over { .. }, EntryState::Taken(_)) => {
            return Err(format!("I8: {} is taken again", entry.dispatch));
        }
        (EntryState::Taken(_), _) => {}
    }
    Ok(())
}
