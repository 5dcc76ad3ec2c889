//! Messages that could not be delivered, however often they were tried: listed, sent again, or
//! dropped by a person.
//!
//! Owns what of them is shown. That they are kept, and when one becomes a dead letter, is
//! `durable`'s.

use durable::{DeadLetter, Namespace, Object, ObjectId};
use rig::{Effect, Timestamp, town::TownEffect};
use serde::Serialize;

use crate::{Error, rig_actor::RigActor, town_actor::TownActor};

/// A message that was given up after many tries; nothing of it is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Letter {
    /// `rig` or `town`.
    pub sender: &'static str,
    /// Which one.
    pub id: String,
    /// Its number there.
    pub seq: u64,
    /// What kind of message.
    pub what: &'static str,
    /// What its receiver said.
    pub reason: String,
    /// How often it was refused.
    pub tries: u32,
    /// When first.
    pub first_tried_at: Timestamp,
    /// When last.
    pub last_tried_at: Timestamp,
}

/// The dead letters of all rigs and towns.
#[derive(Clone)]
pub(crate) struct Letters {
    pub(crate) rigs: Namespace<RigActor>,
    pub(crate) towns: Namespace<TownActor>,
}

impl Letters {
    pub(crate) async fn all(&self) -> Result<Vec<Letter>, Error> {
        let mut all = of_kind(&self.rigs, "rig", name_of).await?;
        let named = |mail: &crate::town_actor::TownMail| name_of_town(&mail.clone().into());
        all.extend(of_kind(&self.towns, "town", named).await?);
        Ok(all)
    }

    /// Sends one again, or drops it; whether there was one.
    pub(crate) async fn settle(
        &self,
        sender: &str,
        id: &str,
        seq: u64,
        again: bool,
    ) -> Result<bool, Error> {
        match sender {
            "rig" => settle(&self.rigs, id, seq, again).await,
            "town" => settle(&self.towns, id, seq, again).await,
            _ => Ok(false),
        }
    }
}

async fn of_kind<O: Object>(
    objects: &Namespace<O>,
    sender: &'static str,
    name: impl Fn(&O::Effect) -> &'static str,
) -> Result<Vec<Letter>, Error> {
    let mut all = Vec::new();
    for id in objects.dead_lettered().await? {
        for letter in objects.stub(&id).dead_letters().await? {
            let what = name(&letter.effect);
            all.push(shown(sender, &id, what, letter));
        }
    }
    Ok(all)
}

fn shown<E>(
    sender: &'static str,
    id: &ObjectId,
    what: &'static str,
    letter: DeadLetter<E>,
) -> Letter {
    Letter {
        sender,
        id: id.as_str().to_owned(),
        seq: letter.seq,
        what,
        reason: letter.reason,
        tries: letter.tries,
        first_tried_at: Timestamp(letter.first_tried_at),
        last_tried_at: Timestamp(letter.last_tried_at),
    }
}

async fn settle<O: Object>(
    objects: &Namespace<O>,
    id: &str,
    seq: u64,
    again: bool,
) -> Result<bool, Error> {
    let stub = objects.stub(&ObjectId::from_name(id)?);
    let settled = if again {
        stub.retry_dead_letter(seq).await
    } else {
        stub.drop_dead_letter(seq).await
    };
    Ok(settled?)
}

/// What kind of message of a rig.
pub(crate) fn name_of(effect: &Effect) -> &'static str {
    match effect {
        Effect::Dispatch(_) => "dispatch",
        Effect::StopAgent { .. } => "stop_agent",
        Effect::Nudge { .. } => "nudge",
        Effect::ResetScopes { .. } => "reset_scopes",
        Effect::Preflight { .. } => "check",
        Effect::BreakerTripped { .. } => "breaker_tripped",
        Effect::BreakerClosed { .. } => "breaker_closed",
    }
}

/// What kind of message of a town.
pub(crate) fn name_of_town(effect: &TownEffect) -> &'static str {
    match effect {
        TownEffect::Report { .. } => "report",
        TownEffect::Offer { .. } => "offer",
        TownEffect::Notify { .. } => "notice",
        TownEffect::CheckScope { .. } => "check_scope",
        TownEffect::AnswerOffline { .. } => "answer_offline",
        TownEffect::EndSession { .. } => "end_session",
    }
}
