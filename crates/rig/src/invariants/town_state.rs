//! A town's state after a step.
//!
//! Owns that its alarm is set, its slots are offered, and that whoever waits has a way on.

use super::{Look, TownAccount, due};
use crate::{
    BreakerState, Deadline, Scope, Timestamp,
    town::{Guard, Town},
};

/// Judges the state that a step has led to.
///
/// # Errors
/// What is broken, in words.
pub fn town_state(town: &Town, look: Look, account: &TownAccount) -> Result<(), String> {
    let Look { alarm, now, .. } = look;
    look.is_armed(town.next_alarm(now))?;
    if look.was_alarm {
        used_up(town, now)?;
    }
    let slots = usize::try_from(town.record().policy.slots_max).unwrap_or(usize::MAX);
    let count = town.taken().count();
    hold!(
        count == town.taken_count(),
        "the view of what is taken is wrong"
    );
    hold!(
        count <= slots || count <= account.taken,
        "{count} slots are taken, there are {slots}"
    );
    for guard in &town.record().guards {
        let ends = guard
            .breaker
            .probe()
            .is_none_or(|(_, by)| due::probe_ends(*by, now));
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
    let comes = |by: Deadline| alarm.is_some_and(|at| at <= by.rebased(now).at.max(soon));
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
