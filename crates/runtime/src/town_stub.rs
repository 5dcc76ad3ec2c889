//! The handle of a town: what a host asks of it and tells it.
//!
//! Owns the mapping from calls to the core's inputs. Decides nothing.

use durable::Stub;
use rig::{
    Limit, PauseMode, Scopes, Timestamp, Who,
    town::{Town, TownInput, TownPolicy, TownReply},
};

use crate::{
    Error,
    once::{self, Json, Once, Said},
    town_actor::{LookTown, SetDay, TellTown, TellTownOnce, TownActor},
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

    /// Tells the town something and shows its state as of that very step. With a key it is carried
    /// out once: the same request again gets the same answer, also after a restart, for a day.
    ///
    /// # Errors
    /// `KeyReused` for another request under the same key; `KeysFull`; the store can not answer.
    pub async fn tell_once(
        &self,
        input: TownInput,
        once: Option<Once>,
        show: impl FnOnce(&Town, Timestamp) -> Json + Send + 'static,
    ) -> Result<Json, Error> {
        let key = once.as_ref().map(|once| once.key.clone());
        let show = Box::new(show);
        let told = TellTownOnce { input, once, show };
        match (self.stub.send(told).await??, key) {
            (Said::Now(answer), _) => Ok(answer),
            (Said::Before, Some(key)) => Ok(Json::of(&once::answer(&self.stub, &key).await?)),
            (Said::Before, None) => Err(Error::NotFound("no key was given".to_owned())),
        }
    }

    /// Sets the limit of the day alone; nothing else of the policy moves.
    ///
    /// # Errors
    /// `Invalid` where the limit is no amount.
    pub async fn set_day(&self, day: Limit, by: Who) -> Result<(), Error> {
        let field = "day";
        day.validate()
            .map_err(|reason| Error::Invalid { field, reason })?;
        Ok(self.stub.send(SetDay(day, by)).await?)
    }

    /// Sets slots, budget and cooldowns.
    ///
    /// # Errors
    /// `Invalid` names the first field that is out of its range.
    pub async fn set_policy(&self, policy: TownPolicy, by: Who) -> Result<(), Error> {
        let policy = policy.validate().map_err(|errors| {
            let first = errors.into_iter().next();
            Error::Invalid {
                field: first.as_ref().map_or("policy", |error| error.field),
                reason: first.map_or_else(String::new, |error| error.rule),
            }
        })?;
        self.tell(TownInput::SetPolicy { policy, by })
            .await
            .map(drop)
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
    pub async fn resume(&self, by: Who) -> Result<(), Error> {
        self.tell(TownInput::Resume { by }).await.map(drop)
    }

    /// Has the breakers of these scopes, or all of them, looked at again at once.
    ///
    /// # Errors
    /// The store can not answer.
    pub async fn reset_breakers(&self, scopes: Option<Scopes>, by: Who) -> Result<(), Error> {
        self.tell(TownInput::Reset { scopes, by }).await.map(drop)
    }
}

impl std::fmt::Debug for TownStub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TownStub")
    }
}
