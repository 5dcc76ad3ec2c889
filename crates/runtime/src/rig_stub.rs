//! The handle of one rig: what hosts and the facade hold instead of an actor's address.
//!
//! Owns the typed calls and the reads. `Clone + Send + Sync`; every answer is durable.

use durable::{Order, Stub};
use rig::{
    Agent, AgentEvent, AgentId, Bead, BeadEvent, BeadId, Completion, DispatchId, DoneReport, Input,
    NewBead, Policy, Reply, Report, Rig, Timestamp,
};
use serde::de::DeserializeOwned;

use crate::{
    Error,
    once::{self, Json, Once, Said},
    rig_actor::{EVENT_PREFIX, Look, RigActor, Tell, TellOnce, agent_event_prefix},
};

/// The handle of one rig. It need not exist: the first write makes it.
#[derive(Clone, Debug)]
pub struct RigStub {
    stub: Stub<RigActor>,
}

impl RigStub {
    pub(crate) fn new(stub: Stub<RigActor>) -> Self {
        Self { stub }
    }

    /// Tells the rig something; the answer comes when everything about it is on disk.
    ///
    /// # Errors
    /// [`Error::Refused`] when nothing has changed, [`Error::Store`] as its text says.
    pub async fn tell(&self, input: Input) -> Result<Reply, Error> {
        Ok(self.stub.send(Tell(input)).await??)
    }

    /// Tells the rig something and shows the answer as of that very step. With a key it is carried
    /// out once: the same request again gets the same answer, also after a restart, for a day.
    ///
    /// # Errors
    /// [`Error::Refused`], which no key remembers; [`Error::KeyReused`] for another request under
    /// the same key; [`Error::KeysFull`]; [`Error::Store`].
    pub async fn tell_once(
        &self,
        input: Input,
        once: Option<Once>,
        show: impl FnOnce(&Rig, &Reply, Timestamp) -> Json + Send + 'static,
    ) -> Result<Json, Error> {
        let key = once.as_ref().map(|once| once.key.clone());
        let show = Box::new(show);
        let told = TellOnce { input, once, show };
        match (self.stub.send(told).await??, key) {
            (Said::Now(answer), _) => Ok(answer),
            (Said::Before, Some(key)) => Ok(Json::of(&once::answer(&self.stub, &key).await?)),
            (Said::Before, None) => Err(Error::NotFound("no key was given".to_owned())),
        }
    }

    /// Looks at the state in memory, as of everything that was told before.
    ///
    /// # Errors
    /// [`Error::Refused`] when the rig was deleted, [`Error::Store`] as its text says.
    pub async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Rig, Timestamp) -> R + Send + 'static,
    ) -> Result<R, Error> {
        let look = |rig: &Rig, now| (!rig.is_deleted()).then(|| look(rig, now));
        let seen = self.stub.send(Look(Box::new(look))).await?;
        seen.ok_or_else(|| rig::Refused::Deleted.into())
    }

    /// Makes a bead.
    pub async fn create_bead(&self, new: NewBead) -> Result<Bead, Error> {
        self.tell(Input::CreateBead(new)).await.and_then(bead_of)
    }

    /// Makes a bead, finds or makes an idle polecat, and hooks it: one step.
    pub async fn sling(&self, new: NewBead) -> Result<(Bead, Agent), Error> {
        match self.tell(Input::Sling(new)).await? {
            Reply::Slung { bead, agent } => Ok((*bead, *agent)),
            other => Err(unexpected(&other)),
        }
    }

    /// A bead.
    pub async fn bead(&self, id: &BeadId) -> Result<Option<Bead>, Error> {
        let id = id.clone();
        self.look(move |rig, _| rig.bead(&id).cloned()).await
    }

    /// All beads, newest first.
    pub async fn beads(&self) -> Result<Vec<Bead>, Error> {
        self.look(|rig, _| rig.beads().rev().cloned().collect())
            .await
    }

    /// All agents, oldest first.
    pub async fn agents(&self) -> Result<Vec<Agent>, Error> {
        self.look(|rig, _| rig.agents().cloned().collect()).await
    }

    /// Replaces the policy, which has to be valid.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        let policy = policy.validate().map_err(|errors| {
            let first = errors.into_iter().next();
            let (field, reason) = first.map_or(("policy", String::new()), |e| {
                (e.field, format!("must be {}", e.rule))
            });
            Error::Invalid { field, reason }
        })?;
        self.tell(Input::SetPolicy(policy)).await.map(drop)
    }

    /// The agent says that it is done; see [`Input::Done`].
    pub async fn done(
        &self,
        agent: &AgentId,
        dispatch: Option<&DispatchId>,
        report: DoneReport,
    ) -> Result<(), Error> {
        let (agent, dispatch) = (agent.clone(), dispatch.cloned());
        self.tell(Input::Done {
            agent,
            dispatch,
            report,
        })
        .await
        .map(drop)
    }

    /// An external caller says that the agent's session ended; see [`Input::Completed`].
    pub async fn completed(
        &self,
        agent: &AgentId,
        dispatch: Option<&DispatchId>,
        completion: Completion,
    ) -> Result<(), Error> {
        let (agent, dispatch) = (agent.clone(), dispatch.cloned());
        self.tell(Input::Completed {
            agent,
            dispatch,
            completion,
        })
        .await
        .map(drop)
    }

    /// A container's report that a dispatch is over; see [`Input::AgentDone`].
    pub async fn agent_done(&self, report: Report) -> Result<Reply, Error> {
        self.tell(Input::AgentDone(report)).await
    }

    /// Events from the number `from` on, oldest first, at most `limit`. Read from disk; wakes
    /// nothing.
    pub async fn events(&self, from: u64, limit: usize) -> Result<Vec<BeadEvent>, Error> {
        let from = format!("{EVENT_PREFIX}{from:020}");
        let found = self
            .stub
            .scan(EVENT_PREFIX, Some(&from), limit, Order::Ascending)
            .await?;
        found
            .into_iter()
            .map(|(key, value)| event_of(self.stub.id().as_str(), key, value))
            .collect()
    }

    /// An agent's own events from the number `from` on, oldest first, at most `limit`. Read from
    /// disk; wakes nothing.
    ///
    /// # Errors
    /// [`Error::Store`] as its text says.
    pub async fn agent_events(
        &self,
        agent: &AgentId,
        from: u64,
        limit: usize,
    ) -> Result<Vec<AgentEvent>, Error> {
        let prefix = agent_event_prefix(agent);
        let from = format!("{prefix}{from:020}");
        let found = self
            .stub
            .scan(&prefix, Some(&from), limit, Order::Ascending)
            .await?;
        found
            .into_iter()
            .map(|(key, value)| event_of(self.stub.id().as_str(), key, value))
            .collect()
    }
}

fn event_of<T: DeserializeOwned>(
    id: &str,
    key: String,
    value: serde_json::Value,
) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| {
        let (object, reason) = (id.to_owned(), error.to_string());
        Error::Store(durable::Error::Corrupt {
            object,
            key,
            reason,
        })
    })
}

fn bead_of(reply: Reply) -> Result<Bead, Error> {
    match reply {
        Reply::Bead(bead) => Ok(*bead),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(reply: &Reply) -> Error {
    Error::NotFound(format!("the rig gave another kind of answer: {reply:?}"))
}
