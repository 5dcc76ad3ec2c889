//! What always holds for a town, checked around every step.
//!
//! Owns the rules in words of its own: who may pass which breaker, how many slots there are, and
//! that whoever waits has a way on.

use rig::{
    BreakerState, Class, Outcome, Scope, Timestamp,
    town::{
        Entry, EntryState, Guard, Taken, Ticket, Town, TownChange, TownInput, TownRecord,
        TownReply, TownStep,
    },
    utc_day,
};

use crate::{plan::TURN_TOKENS_MAX, rig_state_checks::probe_ends, town_account::TownAccount};

macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

/// The record as the step leaves it.
pub(crate) fn record_of<'s>(old: &'s Town, step: &'s TownStep) -> &'s TownRecord {
    let changed = step.changes.iter().find_map(|change| match change {
        TownChange::Record(record) => Some(&**record),
        TownChange::Entry(_) => None,
    });
    changed.unwrap_or_else(|| old.record())
}

pub(crate) fn entries(step: &TownStep) -> impl Iterator<Item = &Entry> {
    step.changes.iter().filter_map(|change| match change {
        TownChange::Entry(entry) => Some(&**entry),
        TownChange::Record(_) => None,
    })
}

/// The decision against the state that it was made on.
pub(crate) fn decision(
    old: &Town,
    input: &TownInput,
    step: &TownStep,
    now: Timestamp,
    account: &mut TownAccount,
) -> Result<(), String> {
    let record = record_of(old, step);
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
    for entry in entries(step) {
        ends_once(old, entry)?;
    }
    spending(old, record, step, now, account)
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

/// I13: once the day's budget is used up, each session that ran costs one turn more at most.
fn spending(
    old: &Town,
    record: &TownRecord,
    step: &TownStep,
    now: Timestamp,
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
    for entry in entries(step) {
        let Some(berth) = entry.berth() else { continue };
        let ticket = Ticket {
            rig: entry.rig.clone(),
            dispatch: entry.dispatch.clone(),
        };
        let tokens = berth.usage.tokens();
        let at_stop = *account.over.entry(ticket).or_insert(tokens);
        hold!(
            tokens.saturating_sub(at_stop) <= TURN_TOKENS_MAX,
            "I13: {} went on from {at_stop} to {tokens} tokens with the town's budget used up",
            entry.dispatch
        );
    }
    Ok(())
}

/// The alarm, the slots and the ways back, on the state as it is now.
pub(crate) fn state(
    town: &Town,
    taken_before: usize,
    alarm: Option<Timestamp>,
    now: Timestamp,
    was_alarm: bool,
) -> Result<(), String> {
    let due = town.next_alarm(now);
    hold!(
        alarm == due,
        "I3: the alarm is set to {alarm:?} and due at {due:?}"
    );
    if was_alarm {
        let is_far = alarm.is_none_or(|at| at >= now.plus_ms(1_000));
        hold!(is_far, "I4: the next alarm is too close");
        used_up(town, now)?;
    }
    let slots = usize::try_from(town.record().policy.slots_max).unwrap_or(usize::MAX);
    let count = town.taken().count();
    hold!(
        count == town.taken_count(),
        "the view of what is taken is wrong"
    );
    hold!(
        count <= slots || count <= taken_before,
        "{count} slots are taken, there are {slots}"
    );
    for guard in &town.record().guards {
        let ends = guard
            .breaker
            .probe()
            .is_none_or(|(_, by)| probe_ends(*by, now));
        hold!(
            ends,
            "C4: the probe of {} never counts as lost",
            guard.scope
        );
        way_back(town, guard, alarm, now)?;
    }
    slots_are_offered(town, slots, now)?;
    let mut rigs: Vec<_> = town.record().waiters.iter().map(|w| &w.rig).collect();
    rigs.sort();
    hold!(
        rigs.windows(2).all(|two| two[0] != two[1]),
        "a rig waits twice: {rigs:?}"
    );
    Ok(())
}

fn used_up(town: &Town, now: Timestamp) -> Result<(), String> {
    for guard in &town.record().guards {
        let scope = &guard.scope;
        let hangs = guard.breaker.probe().is_some_and(|(_, by)| by.is_due(now));
        hold!(!hangs, "C4: the probe of {scope} hangs");
        let checks = guard.check.is_some_and(|check| check.deadline.is_due(now));
        hold!(!checks, "the check of {scope} hangs");
    }
    for waiter in &town.record().waiters {
        let due = waiter.offer.is_some_and(|offer| offer.is_due(now));
        hold!(!due, "the offer to {} hangs", waiter.rig);
        hold!(!waiter.lapse.is_due(now), "{} waits for ever", waiter.rig);
    }
    Ok(())
}

/// I7: a breaker that somebody waits for opens again by itself.
fn way_back(
    town: &Town,
    guard: &Guard,
    alarm: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), String> {
    let scope = &guard.scope;
    let mut waiters = town
        .record()
        .waiters
        .iter()
        .filter(|w| w.scope.as_ref() == Some(scope));
    // A session that waits offline waits for its gateway alone.
    let is_gateway = matches!(scope, Scope::Gateway { .. });
    let offline = is_gateway
        && town.taken().any(|(_, berth)| {
            berth.offline.is_some() && !berth.ending && berth.scopes.all().contains(scope)
        });
    if waiters.clone().next().is_none() && !offline {
        return Ok(());
    }
    let soon = now.plus_ms(1_000);
    let comes = |by: rig::Deadline| alarm.is_some_and(|at| at <= by.rebased(now).at.max(soon));
    let back = match &guard.breaker.state {
        BreakerState::Closed => waiters.next().is_none(),
        BreakerState::Open { next_probe, .. } => match guard.check {
            Some(check) => comes(check.deadline),
            None => comes(*next_probe),
        },
        BreakerState::HalfOpen {
            probe: Some((_, by)),
            ..
        } => comes(*by),
        BreakerState::HalfOpen { probe: None, .. } => {
            let mut offers = waiters.filter_map(|waiter| waiter.offer);
            town.record().pause.is_some() || offers.any(comes)
        }
    };
    hold!(
        back,
        "I7: no way back for {scope}, which is waited for: {:?}",
        guard.breaker.state
    );
    Ok(())
}

/// A free slot that somebody waits for is offered.
fn slots_are_offered(town: &Town, slots: usize, now: Timestamp) -> Result<(), String> {
    let record = town.record();
    if record.pause.is_some() || record.policy.day.is_reached(&record.spent.on(now)) {
        return Ok(());
    }
    let waiting = record.waiters.iter().filter(|w| w.scope.is_none());
    let (offered, left): (Vec<_>, Vec<_>) = waiting.partition(|w| w.offer.is_some());
    let used = offered.len() + town.taken_count();
    hold!(
        left.is_empty() || used >= slots,
        "{} of {slots} slots are used or offered while {:?} waits",
        used,
        left.first().map(|w| &w.rig)
    );
    Ok(())
}
