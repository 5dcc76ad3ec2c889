//! The durable object around the pure core: one per rig.
//!
//! Owns how a rig's records are kept and that each step is one batch: changes, effects and the
//! alarm together. Takes no decision; [`rig::Rig::step`] does. Knows no container: effects leave
//! by the outbox to whatever port they were given.

use durable::{AlarmFailed, Handle, Message, Object, ObjectId, Records, Turn};
use rig::{Beat, Change, Effect, Env, Input, Refused, Reply, Rig, RigRecord, Step, Timestamp};
use tokio::sync::watch;

use crate::rig_desk::progress_at;

#[cfg(test)]
mod tests;

const RIG_KEY: &str = "rig";
const BEAD_PREFIX: &str = "bead/";
const AGENT_PREFIX: &str = "agent/";
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

/// One input for the core.
pub(crate) struct Tell(pub(crate) Input);

impl Message for Tell {
    type Reply = Result<Reply, Refused>;
}

/// Life signs of a session; the age becomes a time of the rig's own clock.
pub(crate) struct Pulse {
    pub(crate) beat: Beat,
    pub(crate) progress_age_ms: Option<i64>,
}

impl Message for Pulse {
    type Reply = Result<Reply, Refused>;
}

/// A look at the state; it changes nothing.
pub(crate) struct Look<R>(pub(crate) Glance<R>);

/// What a look does with the state.
pub(crate) type Glance<R> = Box<dyn FnOnce(&Rig, Timestamp) -> R + Send>;

impl<R: Send + 'static> Message for Look<R> {
    type Reply = R;
}

/// A rig as a durable object.
pub(crate) struct RigActor {
    rig: Rig,
    changes: Changes,
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
        } = self.rig.step(input, env)?;
        if changes.is_empty() && effects.is_empty() {
            return Ok(reply);
        }
        self.rig.apply(&changes);
        for change in &changes {
            write(turn, change);
        }
        for effect in effects {
            turn.send(effect);
        }
        self.set_alarm(turn, env.now);
        self.changes.bump();
        Ok(reply)
    }

    /// The only place that sets the alarm: it is a function of the state.
    fn set_alarm(&self, turn: &mut Turn<'_, Effect>, now: Timestamp) {
        match self.rig.next_alarm(now) {
            Some(at) => turn.set_alarm(at.0),
            None => turn.delete_alarm(),
        }
    }
}

fn write(turn: &mut Turn<'_, Effect>, change: &Change) {
    match change {
        Change::Rig(record) => turn.put(RIG_KEY, record),
        Change::Bead(bead) => turn.put(&format!("{BEAD_PREFIX}{}", bead.id), bead),
        Change::BeadDeleted(id) => turn.delete(&format!("{BEAD_PREFIX}{id}")),
        Change::Agent(agent) => turn.put(&format!("{AGENT_PREFIX}{}", agent.id), agent),
        Change::Event(event) => turn.put(&format!("{EVENT_PREFIX}{:020}", event.no), event),
    }
}

impl Object for RigActor {
    const NAMESPACE: &'static str = "rig";
    type Env = Changes;
    type Effect = Effect;

    fn load(_id: &ObjectId, records: &Records<'_>, env: &Changes) -> Result<Self, durable::Error> {
        let record = records.get::<RigRecord>(RIG_KEY)?.unwrap_or_default();
        let beads = records
            .all::<rig::Bead>(BEAD_PREFIX)?
            .into_iter()
            .map(|(_, bead)| bead);
        let agents = records
            .all::<rig::Agent>(AGENT_PREFIX)?
            .into_iter()
            .map(|(_, agent)| agent);
        Ok(Self {
            rig: Rig::from_records(record, beads, agents),
            changes: env.clone(),
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
}

impl Handle<Tell> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, Tell(input): Tell) -> Result<Reply, Refused> {
        self.advance(turn, input)
    }
}

impl Handle<Pulse> for RigActor {
    fn handle(&mut self, turn: &mut Turn<'_, Effect>, pulse: Pulse) -> Result<Reply, Refused> {
        let progress_at = progress_at(Timestamp(turn.now()), pulse.progress_age_ms);
        self.advance(
            turn,
            Input::Heartbeat(Beat {
                progress_at,
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
