//! The handle of a town: what a host asks of it and tells it.
//!
//! Owns the mapping from calls to the core's inputs. Decides nothing.

use durable::Stub;
use rig::{
    PauseMode, Scopes, Timestamp, Who,
    town::{Town, TownInput, TownPolicy, TownReply},
};

use crate::{
    Error,
    town_actor::{LookTown, TellTown, TownActor},
};

/// A town: the breakers that its rigs share, its slots, budget and pause. Cheap to clone.
#[derive(Clone)]
pub struct TownStub {
    stub: Stub<TownActor>,
}

impl TownStub {
    pub(crate) fn new(stub: Stub<TownActor>) -> Self {
        Self { stub }
    }

    pub(crate) async fn tell(&self, input: TownInput) -> Result<TownReply, Error> {
        Ok(self.stub.send(TellTown(input)).await?)
    }

    /// Looks at the state as of now; what is shown is durable.
    ///
    /// # Errors
    /// The store can not answer.
    pub async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Town, Timestamp) -> R + Send + 'static,
    ) -> Result<R, Error> {
        Ok(self.stub.send(LookTown(Box::new(look))).await?)
    }

    /// Sets slots, budget and cooldowns.
    ///
    /// # Errors
    /// `Invalid` names the first field that is out of its range.
    pub async fn set_policy(&self, policy: TownPolicy) -> Result<(), Error> {
        let policy = policy.validate().map_err(|errors| {
            let first = errors.into_iter().next();
            Error::Invalid {
                field: first.as_ref().map_or("policy", |error| error.field),
                reason: first.map_or_else(String::new, |error| error.rule),
            }
        })?;
        self.tell(TownInput::SetPolicy { policy }).await.map(drop)
    }

    /// Holds every dispatch of the town back until [`TownStub::resume`]; a stop also ends what
    /// runs, and continues it after the resume. It outlasts restarts.
    ///
    /// # Errors
    /// The store can not answer.
    pub async fn pause(
        &self,
        mode: PauseMode,
        by: Who,
        reason: Option<String>,
    ) -> Result<(), Error> {
        let input = TownInput::Pause { mode, by, reason };
        self.tell(input).await.map(drop)
    }

    /// Lets dispatch go on.
    ///
    /// # Errors
    /// The store can not answer.
    pub async fn resume(&self) -> Result<(), Error> {
        self.tell(TownInput::Resume).await.map(drop)
    }

    /// Has the breakers of these scopes, or all of them, looked at again at once.
    ///
    /// # Errors
    /// The store can not answer.
    pub async fn reset_breakers(&self, scopes: Option<Scopes>) -> Result<(), Error> {
        self.tell(TownInput::Reset { scopes }).await.map(drop)
    }
}

impl std::fmt::Debug for TownStub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TownStub")
    }
}
