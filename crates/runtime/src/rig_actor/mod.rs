//! The durable object around the pure core: one per rig.
//!
//! Owns how a rig's records are kept and that each step is one batch: changes, effects and the
//! alarm together. Takes no decision; [`rig::Rig::step`] does. Knows no container: effects leave
//! by the outbox to whatever port they were given.

use std::sync::Arc;

use durable::{AlarmFailed, Handle, Message, Object, ObjectId, Records, Turn};
use rig::{
    AgentId, Beat, Change, Counts, Effect, Env, Input, Refused, Reply, Rig, RigRecord, Step,
    Timestamp,
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::{
    Error,
    once::{Json, Memory, Once, Said},
    rig_desk::time_of_age,
    witness::RigWitness,
};

#[cfg(test)]
mod tests;

const RIG_KEY: &str = "rig";
/// The part of it that nearly every step moves, so that the rest is written when it changes.
const COUNTS_KEY: &str = "rig-counts";
const BEAD_PREFIX: &str = "bead/";
const AGENT_PREFIX: &str = "agent/";
const REVIEW_PREFIX: &str = "review/";
/// Undelivered mail; what is delivered moves below the other prefix and is not loaded again.
const MAIL_PREFIX: &str = "mail/";
const DELIVERED_PREFIX: &str = "mail-delivered/";
/// Events are numbered in 20 digits, so that the order of keys is the order of events.
pub(crate) const EVENT_PREFIX: &str = "event/";

/// Tells whoever watches that some rig has changed. Readers ask the rig, whose answer waits for
/// the flush, so nothing is seen before it is durable.
#[derive(Clone, Debug)]
pub(crate) struct Changes(watch::Sender<u64>);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(watch::channel(0).0)
    }

    fn bump(&self) {
        self.0
            .send_modify(|version| *version = version.wrapping_add(1));
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// What every rig of a runtime shares.
#[derive(Clone)]
pub struct RigEnv {
    pub(crate) changes: Changes,
    /// No new dispatch gets a lower number: see [`Rig::numbering_from`].
    pub(crate) numbers_from: u64,
    pub(crate) witness: Option<Arc<RigWitness>>,
}

impl RigEnv {
    /// For a host of its own: nobody watches, and numbers begin where the records do.
    pub fn alone() -> Self {
        Self::from(Changes::new())
    }

    /// With somebody who looks on at every step.
    #[must_use]
    pub fn seen_by(self, witness: Arc<RigWitness>) -> Self {
        let witness = Some(witness);
        Self { witness, ..self }
    }
}

impl std::fmt::Debug for RigEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RigEnv")
            .field("numbers_from", &self.numbers_from)
            .finish_non_exhaustive()
    }
}

impl From<Changes> for RigEnv {
    fn from(changes: Changes) -> Self {
        let numbers_from = 0;
        let witness = None;
        Self {
            changes,
            numbers_from,
            witness,
        }
    }
}

/// One input for the core.
#[derive(Debug)]
pub struct Tell(pub Input);

impl Message for Tell {
    type Reply = Result<Reply, Refused>;
}

/// One input for the core, whose answer is shown in the same step; with a key it is carried out
/// once.
pub(crate) struct TellOnce {
    pub(crate) input: Input,
    pub(crate) once: Option<Once>,
    pub(crate) show: Show,
}

/// What an answer looks like, from the state right after the step.
pub(crate) type Show = Box<dyn FnOnce(&Rig, &Reply, Timestamp) -> Json + Send>;

impl Message for TellOnce {
    type Reply = Result<Said<Json>, Error>;
}

/// Life signs of a session; the age becomes a time of the rig's own clock.
pub(crate) struct Pulse {
    pub(crate) beat: Beat,
    pub(crate) progress_age_ms: Option<i64>,
    pub(crate) tool_age_ms: Option<i64>,
}

impl Message for Pulse {
    type Reply = Result<Reply, Refused>;
}

/// A look at the state; it changes nothing.
pub struct Look<R>(pub Glance<R>);

/// What a look does with the state.
pub type Glance<R> = Box<dyn FnOnce(&Rig, Timestamp) -> R + Send>;

impl<R: Send + 'static> Message for Look<R> {
    type Reply = R;
}

impl<R> std::fmt::Debug for Look<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

/// A rig as a durable object.
#[derive(Debug)]
pub struct RigActor {
    rig: Rig,
    memory: Memory,
    env: RigEnv,
}

impl RigActor {
    /// Decides, applies and hands everything to the turn's one batch.
    fn advance(&mut self, turn: &mut Turn<'_, Effect>, input: Input) -> Result<Reply, Refused> {
        let env = Env {
            now: Timestamp(turn.now()),
            nonce: turn.nonce(),
        };
        let Step {
            changes,
            effects,
            reply,
        } = self.decide(turn.id(), input, env)?;
        if changes.is_empty() && effects.is_empty() {
            return Ok(reply);
        }
        for change in &changes {
            self.write(turn, change);
        }
        self.rig.apply(changes);
        for effect in effects {
            turn.send(effect);
        }
        self.set_alarm(turn, env.now);
        if let Some(witness) = &self.env.witness {
            let alarm = turn.alarm().map(Timestamp);
            witness.applied(turn.id(), &self.rig, alarm, env.now);
        }
        self.env.changes.bump();
        Ok(reply)
    }

    fn decide(&self, id: &ObjectId, input: Input, env: Env) -> Result<Step, Refused> {
        let Some(witness) = &self.env.witness else {
            return self.rig.step(input, env);
        };
        let step = self.rig.step(input.clone(), env);
        witness.decided(id, &self.rig, &input, &step, env.now);
        step
    }

    fn write(&self, turn: &mut Turn<'_, Effect>, change: &Change) {
        match change {
            Change::Rig(record) if self.rig.record().is_same_but_counts(record) => {
                turn.put(COUNTS_KEY, &record.counts());
            }
            other => write(turn, other),
        }
    }

    /// The only place that sets the alarm: it is a function of the state.
    fn set_alarm(&self, turn: &mut Turn<'_, Effect>, now: Timestamp) {
        match self.rig.next_alarm(now) {
            Some(at) => turn.set_alarm(at.0),
            None => turn.delete_alarm(),
        }
    }
}

/// Where an agent's own events lie, numbered like those of the rig.
pub(crate) fn agent_event_prefix(agent: &AgentId) -> String {
    format!("agent-event/{agent}/")
}

fn all<T: DeserializeOwned>(records: &Records<'_>, prefix: &str) -> Result<Vec<T>, durable::Error> {
    let found = records.all::<T>(prefix)?;
    Ok(found.into_iter().map(|(_, record)| record).collect())
}

fn write(turn: &mut Turn<'_, Effect>, change: &Change) {
    match change {
        Change::Rig(record) => turn.put(RIG_KEY, record),
        Change::Bead(bead) => turn.put(&format!("{BEAD_PREFIX}{}", bead.id), bead),
        Change::BeadDeleted(id) => turn.delete(&format!("{BEAD_PREFIX}{id}")),
        Change::Agent(agent) => turn.put(&format!("{AGENT_PREFIX}{}", agent.id), agent),
        Change::AgentDeleted(id) => turn.delete(&format!("{AGENT_PREFIX}{id}")),
        Change::Review(entry) => turn.put(&format!("{REVIEW_PREFIX}{}", entry.id), entry),
        Change::Mail(mail) if mail.delivered_at.is_none() => {
            turn.put(&format!("{MAIL_PREFIX}{}", mail.id), mail);
        }
        Change::Mail(mail) => {
            turn.delete(&format!("{MAIL_PREFIX}{}", mail.id));
            turn.put(&format!("{DELIVERED_PREFIX}{}", mail.id), mail);
        }
        Change::MailDeleted { id, .. } => turn.delete(&format!("{MAIL_PREFIX}{id}")),
        Change::Event(event) => turn.put(&format!("{EVENT_PREFIX}{:020}", event.no), event),
        Change::AgentEvent(event) => {
            let key = format!("{}{:020}", agent_event_prefix(&event.agent), event.no);
            turn.put(&key, event);
        }
    }
}

impl Object for RigActor {
    const NAMESPACE: &'static str = "rig";
    type Env = RigEnv;
    type Effect = Effect;

    fn load(id: &ObjectId, records: &Records<'_>, env: &RigEnv) -> Result<Self, durable::Error> {
        let mut record = records.get::<RigRecord>(RIG_KEY)?.unwrap_or_default();
        record.catch_up(records.get::<Counts>(COUNTS_KEY)?.unwrap_or_default());
        let kept = rig::Records {
            record,
            beads: all(records, BEAD_PREFIX)?,
            agents: all(records, AGENT_PREFIX)?,
            reviews: all(records, REVIEW_PREFIX)?,
            mail: all(records, MAIL_PREFIX)?,
        };
        let rig = Rig::from_records(kept).numbering_from(env.numbers_from);
        if let Some(witness) = &env.witness {
            witness.loaded(id, &rig);
        }
        Ok(Self {
            memory: Memory::load(records)?,
            rig,
            env: env.clone(),
        })
    }

    fn alarm(
        &mut self,
        turn: &mut Turn<'_, Effect>,
        _alarm: durable::Alarm,
    ) -> Result<(), AlarmFailed> {
        self.advance(turn, Input::Alarm)
            .map(drop)
            .map_err(|refused| AlarmFailed::new(refused.to_string()))
    }

    fn clock_jumped(&mut self, turn: &mut Turn<'_, Effect>, _jump: durable::ClockJump) {
        // A deleted rig refuses it, and has nothing to renew.
        let _ = self.advance(turn, Input::ClockJumped);
    }
}

impl Handle<Tell> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, Tell(input): Tell) -> Result<Reply, Refused> {
        self.advance(turn, input)
    }
}

impl Handle<TellOnce> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, told: TellOnce) -> Result<Said<Json>, Error> {
        let TellOnce { input, once, show } = told;
        if self.rig.is_deleted() {
            return Err(Refused::Deleted.into());
        }
        if let Some(once) = &once
            && self.memory.is_repeated(once, turn.now())?
        {
            return Ok(Said::Before);
        }
        let reply = self.advance(turn, input)?;
        let mut answer = show(&self.rig, &reply, Timestamp(turn.now()));
        if let Some(once) = once {
            let kept = answer.value();
            self.memory.note(turn, once, &kept);
            // To the byte what the same request will get from disk.
            answer = Json::of(&kept);
        }
        Ok(Said::Now(answer))
    }
}

impl Handle<Pulse> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, pulse: Pulse) -> Result<Reply, Refused> {
        let now = Timestamp(turn.now());
        let progress_at = time_of_age(now, pulse.progress_age_ms);
        let tool_since = time_of_age(now, pulse.tool_age_ms);
        self.advance(
            turn,
            Input::Heartbeat(Beat {
                progress_at,
                tool_since,
                ..pulse.beat
            }),
        )
    }
}

impl<R: Send + 'static> Handle<Look<R>> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, Look(look): Look<R>) -> R {
        look(&self.rig, Timestamp(turn.now()))
    }
}
