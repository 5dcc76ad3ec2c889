//! The durable object around the pure core of a town: one per town, beside its container.
//!
//! Owns how a town's records are kept and that each step is one batch: changes, effects and the
//! alarm together. Takes no decision; [`rig::town::Town::step`] does. Knows no process and no
//! session; the container runs what the town grants.

use std::sync::Arc;

use durable::{
    AlarmFailed, ClockJump, DeadLetter, Handle, Message, Object, ObjectId, Records, Turn,
};
use rig::{
    Env, Limit, Report, RigId, Timestamp, Who,
    town::{
        Entry, Town, TownChange, TownEffect, TownInput, TownPolicy, TownRecord, TownReply, TownStep,
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    Error,
    letters::name_of_town,
    once::{Json, Memory, Once, Said},
    rig_actor::Changes,
    witness::TownWitness,
};

const RECORD_KEY: &str = "town";
const ENTRY_PREFIX: &str = "dispatch/";

/// What every town of a runtime shares.
#[derive(Clone, Default)]
pub struct TownEnv {
    changes: Option<Changes>,
    witness: Option<Arc<TownWitness>>,
}

impl TownEnv {
    /// With somebody who looks on at every step.
    pub fn seen_by(witness: Arc<TownWitness>) -> Self {
        Self {
            witness: Some(witness),
            ..Self::default()
        }
    }

    /// Tells those who watch that something has changed.
    pub(crate) fn told_by(changes: Changes) -> Self {
        Self {
            changes: Some(changes),
            ..Self::default()
        }
    }
}

impl std::fmt::Debug for TownEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TownEnv").finish_non_exhaustive()
    }
}

/// A town as a durable object.
#[derive(Debug)]
pub struct TownActor {
    town: Town,
    memory: Memory,
    env: TownEnv,
}

/// One input for the core.
#[derive(Debug)]
pub struct TellTown(pub TownInput);

impl Message for TellTown {
    type Reply = TownReply;
}

/// One input for the core, whose answer is shown in the same step; with a key it is carried out
/// once.
pub(crate) struct TellTownOnce {
    pub(crate) input: TownInput,
    pub(crate) once: Option<Once>,
    pub(crate) show: ShowTown,
}

/// What an answer looks like, from the state right after the step.
pub(crate) type ShowTown = Box<dyn FnOnce(&Town, Timestamp) -> Json + Send>;

impl Message for TellTownOnce {
    type Reply = Result<Said<Json>, Error>;
}

/// The limit of the day alone; the rest of the policy stays.
pub(crate) struct SetDay(pub(crate) Limit, pub(crate) Who);

impl Message for SetDay {
    type Reply = ();
}

/// A look at the state; it changes nothing.
pub struct LookTown<R>(pub TownGlance<R>);

/// What a look does with the state.
pub type TownGlance<R> = Box<dyn FnOnce(&Town, Timestamp) -> R + Send>;

impl<R: Send + 'static> Message for LookTown<R> {
    type Reply = R;
}

impl<R> std::fmt::Debug for LookTown<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LookTown")
    }
}

/// An effect as it lies in the outbox. Earlier versions knew reports alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TownMail {
    /// As the core names it.
    Effect(TownEffect),
    /// A report of an earlier version.
    Report {
        /// Whose bead.
        rig: RigId,
        /// How it ended.
        report: Box<Report>,
    },
}

impl From<TownMail> for TownEffect {
    fn from(mail: TownMail) -> Self {
        match mail {
            TownMail::Effect(effect) => effect,
            TownMail::Report { rig, report } => TownEffect::Report { rig, report },
        }
    }
}

impl TownActor {
    /// Decides, applies and hands everything to the turn's one batch.
    fn advance(&mut self, turn: &mut Turn<'_, TownMail>, input: TownInput) -> TownReply {
        let env = Env {
            now: Timestamp(turn.now()),
            nonce: turn.nonce(),
        };
        let TownStep {
            changes,
            effects,
            reply,
        } = self.decide(turn.id(), input, env);
        if changes.is_empty() && effects.is_empty() {
            return reply;
        }
        for change in &changes {
            match change {
                TownChange::Record(record) => turn.put(RECORD_KEY, record),
                TownChange::Entry(entry) => turn.put(&key(entry), entry),
            }
        }
        self.town.apply(changes);
        for effect in effects {
            turn.send(TownMail::Effect(effect));
        }
        // The only place that sets the alarm: it is a function of the state.
        match self.town.next_alarm(env.now) {
            Some(at) => turn.set_alarm(at.0),
            None => turn.delete_alarm(),
        }
        if let Some(witness) = &self.env.witness {
            let alarm = turn.alarm().map(Timestamp);
            witness.applied(turn.id(), &self.town, alarm, env.now);
        }
        if let Some(changes) = &self.env.changes {
            changes.bump();
        }
        reply
    }

    fn decide(&self, id: &ObjectId, input: TownInput, env: Env) -> TownStep {
        let Some(witness) = &self.env.witness else {
            return self.town.step(input, env);
        };
        let step = self.town.step(input.clone(), env);
        witness.decided(id, &self.town, &input, &step, env.now);
        step
    }
}

fn key(entry: &Entry) -> String {
    format!("{ENTRY_PREFIX}{}", entry.key())
}

impl Object for TownActor {
    const NAMESPACE: &'static str = "container";
    type Env = TownEnv;
    type Effect = TownMail;

    fn load(id: &ObjectId, records: &Records<'_>, env: &TownEnv) -> Result<Self, durable::Error> {
        let record = records.get::<TownRecord>(RECORD_KEY)?.unwrap_or_default();
        let entries = records.all::<Entry>(ENTRY_PREFIX)?;
        let entries = entries.into_iter().map(|(_, entry)| entry);
        let town = Town::from_records(record, entries);
        if let Some(witness) = &env.witness {
            witness.loaded(id, &town);
        }
        Ok(Self {
            town,
            memory: Memory::load(records)?,
            env: env.clone(),
        })
    }

    fn alarm(
        &mut self,
        turn: &mut Turn<'_, TownMail>,
        _alarm: durable::Alarm,
    ) -> Result<(), AlarmFailed> {
        self.advance(turn, TownInput::Alarm);
        Ok(())
    }

    fn dead_letter(&mut self, turn: &mut Turn<'_, TownMail>, letter: DeadLetter<TownMail>) {
        // Kept in the list; whoever waits for it has a deadline of its own and asks again.
        let what = name_of_town(&letter.effect.into());
        tracing::error!(town = %turn.id(), what, reason = letter.reason, "a message was given up");
    }

    fn clock_jumped(&mut self, turn: &mut Turn<'_, TownMail>, _jump: ClockJump) {
        self.advance(turn, TownInput::ClockJumped);
    }
}

impl Handle<TellTown> for TownActor {
    fn handle(&mut self, turn: &mut Turn<'_, TownMail>, TellTown(input): TellTown) -> TownReply {
        self.advance(turn, input)
    }
}

impl Handle<TellTownOnce> for TownActor {
    fn handle(
        &mut self,
        turn: &mut Turn<'_, TownMail>,
        told: TellTownOnce,
    ) -> Result<Said<Json>, Error> {
        let TellTownOnce { input, once, show } = told;
        if let Some(once) = &once
            && self.memory.is_repeated(once, turn.now())?
        {
            return Ok(Said::Before);
        }
        self.advance(turn, input);
        let mut answer = show(&self.town, Timestamp(turn.now()));
        if let Some(once) = once {
            let kept = answer.value();
            self.memory.note(turn, once, &kept);
            // To the byte what the same request will get from disk.
            answer = Json::of(&kept);
        }
        Ok(Said::Now(answer))
    }
}

impl Handle<SetDay> for TownActor {
    fn handle(&mut self, turn: &mut Turn<'_, TownMail>, SetDay(day, by): SetDay) {
        let policy = self.town.record().policy.clone();
        let policy = TownPolicy { day, ..policy };
        self.advance(turn, TownInput::SetPolicy { policy, by });
    }
}

impl<R: Send + 'static> Handle<LookTown<R>> for TownActor {
    fn handle(&mut self, turn: &mut Turn<'_, TownMail>, LookTown(look): LookTown<R>) -> R {
        look(&self.town, Timestamp(turn.now()))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::Arc, time::Duration};

    use durable::{BoxFuture, Deliver, Envelope, Host, NotDelivered, Store};
    use rig::{
        BeadId, Class, DispatchId, Outcome, RigConfig, Scopes, TownId,
        town::{Ask, Found, Place, Taken},
    };
    use tokio::sync::mpsc;

    use super::*;

    /// Takes every effect and passes it on.
    struct Post(mpsc::UnboundedSender<TownEffect>);

    impl Deliver<TownMail> for Post {
        fn deliver(
            &self,
            envelope: Envelope<TownMail>,
        ) -> BoxFuture<'static, Result<(), NotDelivered>> {
            self.0.send(envelope.effect.into()).unwrap();
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn ask() -> Ask {
        let config = RigConfig {
            town_id: TownId::new("town").unwrap(),
            name: "rig".to_owned(),
            git_url: "/repo".to_owned(),
            default_branch: "main".to_owned(),
            model: None,
            review: rig::ReviewMode::Off,
            credentials: rig::CredentialSource::Environment,
        };
        Ask {
            scopes: Scopes::default(),
            config,
            prompts: 1,
        }
    }

    /// A9: whoever was at work when the process died is reported, with the session to go on with.
    #[tokio::test]
    async fn a_new_life_reports_what_was_taken_as_lost() {
        let host = Host::start(Store::memory().unwrap(), durable::Settings::default()).unwrap();
        let (post, mut mail) = mpsc::unbounded_channel();
        let towns = host.namespace::<TownActor>(TownEnv::default(), Arc::new(Post(post)));
        let town = towns.stub(&ObjectId::from_name("town").unwrap());
        let rig = RigId::new("rig").unwrap();
        let bead = BeadId::new("bead").unwrap();
        let dispatch = DispatchId { bead, no: 1 };
        let take = TownInput::Take {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
            ask: ask(),
        };
        let taken = town.send(TellTown(take)).await.unwrap();
        assert_eq!(taken, TownReply::Taken(Taken::Fresh));
        let place = Place {
            boot_id: "boot".to_owned(),
            pid: 1,
            start_time: 2,
            port: 3,
            worktree: PathBuf::from("tree"),
        };
        let note = TownInput::NoteSession {
            rig: rig.clone(),
            dispatch: dispatch.clone(),
            session: "ses_1".to_owned(),
            place: Some(place.clone()),
        };
        town.send(TellTown(note)).await.unwrap();
        let found = town.send(TellTown(TownInput::Survey)).await.unwrap();
        let expected = Found {
            unreported: vec![(rig, dispatch.clone())],
            places: vec![place],
        };
        assert_eq!(found, TownReply::Found(expected));
        town.send(TellTown(TownInput::Boot)).await.unwrap();
        let told = tokio::time::timeout(Duration::from_secs(20), mail.recv()).await;
        let Some(TownEffect::Report { report, .. }) = told.expect("a report") else {
            panic!("no report");
        };
        assert_eq!(report.dispatch, dispatch);
        assert_eq!(report.session.as_deref(), Some("ses_1"));
        let is_lost = matches!(&report.outcome, Outcome::Failed { failure, .. }
            if failure.class == Class::Lost);
        assert!(is_lost, "{report:?}");
        host.stop().await;
    }

    #[test]
    fn records_of_the_first_version_are_read() {
        let taken = r#"{"rig":"r","dispatch":{"bead":"b","no":3},
            "state":{"is":"taken","session":"ses_1"}}"#;
        let entry: Entry = serde_json::from_str(taken).unwrap();
        let berth = entry.berth().unwrap();
        assert_eq!(berth.session.as_deref(), Some("ses_1"));
        let mail = r#"{"rig":"r","report":{"dispatch":{"bead":"b","no":3},
            "outcome":{"kind":"never_started"},"session":null,"output":false,
            "usage":{"input_tokens":0,"output_tokens":0,"cost_usd":0.0}}}"#;
        let mail: TownMail = serde_json::from_str(mail).unwrap();
        assert!(matches!(mail.into(), TownEffect::Report { .. }));
    }
}
