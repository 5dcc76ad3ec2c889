//! What has to be true once nothing fails any more: everything comes to its end, and then there is
//! silence.
//!
//! Owns the mending and the liveness rules.

use std::rc::Rc;

use durable::{ObjectId, storage::Left};
use rig::{
    Budget, Input, Phase, Policy, Rig, Timestamp, Who,
    town::{Town, TownInput, TownPolicy},
};

use crate::{
    lab::{Faults, Lab, Up},
    people,
    weather::Weather,
    world::World,
};

const HOUR_MS: i64 = 3_600_000;
/// Half an hour less than six hours.
const NAP_MS: u32 = 19_800_000;
/// Longer than any wait that time alone ends.
const CALM_HOURS: u32 = 72;

/// The last life: everything is mended, people are silent, days go by.
pub(crate) async fn calm(world: &mut World) -> Result<(), String> {
    let lab = Rc::clone(&world.lab);
    lab.faults.set(Faults::none());
    let environment = lab.weather.borrow().environment;
    *lab.weather.borrow_mut() = Weather {
        environment,
        ..Weather::fair()
    };
    world.replace_disk(Left::Synced);
    lab.book.notes().may_lose = false;
    let up = world
        .begin()
        .map_err(|error| format!("the last start: {error}"))?;
    while up.containers.borrow().len() < lab.towns.len() {
        lab.sleep(1_000).await;
    }
    mend(&lab, &up).await?;
    lab.book.say(|| "---- calm".to_owned());
    settles(&lab, &up).await?;
    ended(&lab, &up).await?;
    silence(&lab, &up).await?;
    up.host.stop().await;
    world.over(&up);
    world.verify()
}

/// People set everything right and go home.
async fn mend(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    let by = || Who::named("ann");
    for town in &lab.towns {
        let policy = TownPolicy::default();
        for input in [
            TownInput::SetPolicy {
                policy,
                by: rig::Who::named("somebody"),
            },
            TownInput::Resume {
                by: rig::Who::named("somebody"),
            },
        ] {
            let told = lab.tell_town(up, town, input).await;
            told.map_err(|error| format!("mending {town}: {error}"))?;
        }
    }
    for (n, rig) in lab.rigs.iter().enumerate() {
        let config = {
            let mut rng = lab.rng.borrow_mut();
            people::config(&mut rng, &lab.town_of(n), rig, true)
        };
        let inputs = [
            Input::Configure(config),
            Input::SetPolicy(Policy::default()),
            Input::SetBudget {
                budget: Budget::default(),
                by: by(),
            },
            Input::Resume { by: by() },
        ];
        for input in inputs {
            let told = lab.tell(up, rig, input).await;
            // A deleted rig refuses.
            let _ = told.map_err(|error| format!("mending {rig}: {error}"))?;
        }
    }
    Ok(())
}

/// Waits until nothing is under way.
async fn settles(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    let mut left = String::new();
    for hour in 0..CALM_HOURS {
        lab.sleep(if hour == 0 { 600_000 } else { HOUR_MS }).await;
        if lab.book.is_broken() {
            return Ok(());
        }
        left = unsettled(lab, up).await;
        if left.is_empty() {
            return Ok(());
        }
    }
    Err(format!(
        "liveness: after {CALM_HOURS} hours of calm: {left}"
    ))
}

/// What is still under way, in words; nothing if nothing is.
async fn unsettled(lab: &Rc<Lab>, up: &Rc<Up>) -> String {
    let mut left = Vec::new();
    for rig in &lab.rigs {
        let of_rig = lab.look(up, rig, rig_unsettled).await;
        left.extend(of_rig.unwrap_or_else(|| vec![format!("{rig} does not answer")]));
    }
    for town in &lab.towns {
        let of_town = lab.look_town(up, town, town_unsettled).await;
        left.extend(of_town.unwrap_or_else(|| vec![format!("{town} does not answer")]));
    }
    if let Ok(count) = up.host.effects_pending().await
        && count > 0
    {
        left.push(format!("{count} messages in outboxes"));
    }
    left.join("; ")
}

fn rig_unsettled(rig: &Rig) -> Vec<String> {
    let waits = rig.unfinished().filter(|bead| {
        let is_of_people = matches!(
            bead.phase,
            Phase::Open | Phase::Held | Phase::InReview { .. }
        );
        // A deleted rig keeps what it had.
        !is_of_people && (!rig.is_deleted() || bead.run().is_some())
    });
    let (now, record) = (rig.record().latest_at, rig.record());
    waits
        .map(|bead| {
            let why = rig.explain(bead, now);
            format!(
                "{} is {:?} ({why:?}; hold {:?}, breaker {:?}, readiness {:?})",
                bead.id, bead.phase, record.hold, record.breaker.state, record.readiness
            )
        })
        .collect()
}

fn town_unsettled(town: &Town) -> Vec<String> {
    let taken = town
        .taken()
        .map(|(entry, _)| format!("{} is taken", entry.dispatch));
    let untold = town.entries().filter(|entry| entry.is_untold());
    taken
        .chain(untold.map(|entry| format!("{} is untold", entry.dispatch)))
        .collect()
}

/// Nothing is left: no session, no work in no place, no alarm but those that tell people again.
async fn ended(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    if lab.book.is_broken() {
        return Ok(());
    }
    let lost = lab.trees.borrow().lost();
    if let Some(lost) = lost.first() {
        return Err(lost.clone());
    }
    let live = lab.book.notes().processes.count();
    if live > 0 {
        return Err(format!("{live} sessions live with nothing to do"));
    }
    // A cooldown, an offer or a probe may still run out.
    lab.sleep(2 * HOUR_MS).await;
    alarms(lab, up).await
}

/// A step may be on its way to disk in just this moment: what it set is there a second later.
async fn alarms(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    if alarms_now(lab, up).await.is_ok() {
        return Ok(());
    }
    lab.sleep(1_000).await;
    alarms_now(lab, up).await
}

/// Every alarm on disk is the one of the last step, and it has a reason.
async fn alarms_now(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    let pending = up.host.alarms_pending().await;
    let pending = pending.map_err(|error| format!("the alarms: {error}"))?;
    let now = lab.now();
    for (namespace, id, at) in &pending {
        let is = |known: Option<Timestamp>| known == Some(Timestamp(*at));
        let known = {
            let notes = lab.book.notes();
            match namespace.as_str() {
                "rig" => notes
                    .rigs
                    .get(id.as_str())
                    .is_some_and(|it| it.has_alarm(is)),
                _ => notes
                    .towns
                    .get(id.as_str())
                    .is_some_and(|it| it.has_alarm(is)),
            }
        };
        if !known {
            return Err(format!(
                "I3: the alarm of {id} is {at} on disk and not by its state"
            ));
        }
        if *at < now - 60_000 {
            return Err(format!(
                "I3: the alarm of {id} is overdue: {at}, it is {now}"
            ));
        }
        let has_reason = match namespace.as_str() {
            "rig" => tells_again(lab, up, id).await,
            _ => false,
        };
        if !has_reason {
            return Err(format!(
                "an alarm without a reason: {namespace} {id} at {at}"
            ));
        }
    }
    Ok(())
}

async fn tells_again(lab: &Rc<Lab>, up: &Rc<Up>, id: &ObjectId) -> bool {
    let Some(rig) = lab.rigs.iter().find(|rig| rig.as_str() == id.as_str()) else {
        return false;
    };
    let tells = |rig: &Rig| {
        let waits = rig.unfinished().next().is_some();
        let mut open = rig.open_escalations();
        waits
            || open.any(|bead| {
                bead.alert
                    .as_ref()
                    .is_some_and(|alert| alert.again.is_some())
            })
    };
    lab.look(up, rig, tells).await.unwrap_or(false)
}

/// A day without a dispatch, and people are told again only so often.
async fn silence(lab: &Rc<Lab>, up: &Rc<Up>) -> Result<(), String> {
    if lab.book.is_broken() {
        return Ok(());
    }
    let before = lab.book.notes().dispatched_at;
    // A machine that is awake all day long takes its time, here too: most of them sleep.
    let is_awake = lab.chance(100);
    for _ in 0..4 {
        if is_awake {
            lab.sleep(6 * HOUR_MS).await;
        } else {
            lab.clock.borrow().slept(NAP_MS);
            lab.sleep(HOUR_MS / 2).await;
        }
    }
    let after = lab.book.notes().dispatched_at;
    if after != before {
        return Err("silence: a dispatch with nothing to do".to_owned());
    }
    alarms(lab, up).await?;
    let left = unsettled(lab, up).await;
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("silence: {left}"))
    }
}
