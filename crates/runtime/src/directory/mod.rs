//! Who owns which town and which rig: one durable object for the whole data directory.
//!
//! Owns the handle; `rows` holds the shapes, `actor` the rules. A rig's own object gets its
//! configuration from here, through the outbox, so that the two can not drift apart. Knows no bead
//! and no agent.

mod actor;
mod rows;

use std::sync::Arc;

use durable::{ObjectId, Stub};
use rig::{CredentialSource, Input, RigConfig, RigId, TownId};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Error,
    once::{self, Once, Said},
    rig_stub::RigStub,
    vault::Vault,
};

pub(crate) use actor::DirectoryActor;
use actor::{AddRig, AddTown, Ask, ChangeRig, Look, RemoveRig, RemoveTown};
pub(crate) use rows::Configured;
pub use rows::{RigPatch, RigRow, Town};

/// The handle of the directory.
#[derive(Clone, Debug)]
pub struct Directory {
    stub: Stub<DirectoryActor>,
    rigs: durable::Namespace<crate::rig_actor::RigActor>,
    vault: Arc<Vault>,
}

impl Directory {
    pub(crate) fn new(
        stub: Stub<DirectoryActor>,
        rigs: durable::Namespace<crate::rig_actor::RigActor>,
        vault: Arc<Vault>,
    ) -> Self {
        Self { stub, rigs, vault }
    }

    /// Makes a town.
    pub async fn create_town(&self, owner: &str, name: &str) -> Result<Town, Error> {
        self.create_town_once(owner, name, None).await
    }

    /// Makes a town; with a key once, however often it is asked for.
    pub async fn create_town_once(
        &self,
        owner: &str,
        name: &str,
        once: Option<Once>,
    ) -> Result<Town, Error> {
        let key = once.as_ref().map(|once| once.key.clone());
        let (owner, name) = (owner.to_owned(), name.to_owned());
        let said = self.stub.send(AddTown { owner, name, once }).await??;
        self.answer(said, key).await
    }

    /// Removes a town without rigs.
    ///
    /// # Errors
    /// [`Error::Conflict`] names the rigs that it still has.
    pub async fn delete_town(&self, owner: &str, town: &TownId) -> Result<(), Error> {
        let (owner, town) = (owner.to_owned(), town.clone());
        self.stub.send(RemoveTown { owner, town }).await?
    }

    /// The answer to that request, if it was carried out before.
    pub async fn rig_made_before(&self, once: &Once) -> Result<Option<RigRow>, Error> {
        if !self.stub.send(Ask(once.clone())).await?? {
            return Ok(None);
        }
        let key = Some(once.key.clone());
        self.answer(Said::Before, key).await.map(Some)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        said: Said,
        key: Option<String>,
    ) -> Result<T, Error> {
        let value = match (said, key) {
            (Said::Now(value), _) => value,
            (Said::Before, Some(key)) => once::answer(&self.stub, &key).await?,
            (Said::Before, None) => Value::Null,
        };
        serde_json::from_value(value).map_err(|error| {
            let (object, key) = (self.stub.id().as_str().to_owned(), "answer".to_owned());
            let reason = error.to_string();
            Error::Store(durable::Error::Corrupt {
                object,
                key,
                reason,
            })
        })
    }

    /// The towns of a user, oldest first.
    pub async fn towns(&self, owner: &str) -> Result<Vec<Town>, Error> {
        let owner = owner.to_owned();
        let mut towns = self
            .look(move |all| {
                let own = all
                    .towns
                    .values()
                    .filter(|town| town.owner_user_id == owner);
                own.cloned().collect::<Vec<_>>()
            })
            .await?;
        towns.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(towns)
    }

    /// A town of a user.
    pub async fn town(&self, owner: &str, id: &TownId) -> Result<Option<Town>, Error> {
        let (owner, id) = (owner.to_owned(), id.clone());
        self.look(move |all| {
            all.towns
                .get(&id)
                .filter(|town| town.owner_user_id == owner)
                .cloned()
        })
        .await
    }

    /// Makes a rig and configures it; its work is dispatched from then on.
    pub async fn create_rig(&self, owner: &str, config: RigConfig) -> Result<RigRow, Error> {
        self.create_rig_once(owner, config, None).await
    }

    /// The same; with a key once, however often it is asked for.
    pub async fn create_rig_once(
        &self,
        owner: &str,
        config: RigConfig,
        once: Option<Once>,
    ) -> Result<RigRow, Error> {
        let key = once.as_ref().map(|once| once.key.clone());
        let owner = owner.to_owned();
        let add = AddRig {
            owner,
            config,
            once,
        };
        let said = self.stub.send(add).await??;
        let is_new = matches!(said, Said::Now(_));
        let row: RigRow = self.answer(said, key).await?;
        if is_new {
            // A repetition must not bring back what was changed since.
            self.configure(&row).await?;
        }
        Ok(row)
    }

    /// Deletes a rig: its row goes, its sessions are stopped, a tombstone stays. Its clone with all
    /// work stays on disk.
    pub async fn delete_rig(&self, owner: &str, rig: &RigId) -> Result<(), Error> {
        let remove = RemoveRig {
            owner: owner.to_owned(),
            rig: rig.clone(),
        };
        let row = self.stub.send(remove).await??;
        self.end(rig).await?;
        self.forget_token(&row.config.credentials).await;
        Ok(())
    }

    /// Puts the tombstone up before the answer; the outbox does the same if this is cut short.
    async fn end(&self, rig: &RigId) -> Result<(), Error> {
        let id = ObjectId::from_name(rig.as_str())?;
        let rig = RigStub::new(self.rigs.stub(&id));
        rig.tell(Input::DeleteRig).await.map(drop)
    }

    /// Removes a stored token that no row refers to any more.
    async fn forget_token(&self, source: &CredentialSource) {
        let CredentialSource::Stored { id } = source else {
            return;
        };
        let used = source.clone();
        let is_used = self
            .look(move |all| all.rigs.values().any(|row| row.config.credentials == used))
            .await;
        if is_used.is_ok_and(|is_used| !is_used)
            && let Err(error) = self.vault.remove(id).await
        {
            tracing::warn!(%error, "a token that nobody uses was not removed");
        }
    }

    /// Changes a rig and configures it anew.
    pub async fn update_rig(
        &self,
        owner: &str,
        rig: &RigId,
        patch: RigPatch,
    ) -> Result<RigRow, Error> {
        let change = ChangeRig {
            owner: owner.to_owned(),
            rig: rig.clone(),
            patch,
        };
        let before = self
            .rig(owner, rig)
            .await?
            .map(|row| row.config.credentials);
        let row = self.stub.send(change).await??;
        self.configure(&row).await?;
        self.forget_replaced(before, &row).await;
        Ok(row)
    }

    /// Removes a token that the row does not refer to any more; sessions that run hold their own.
    async fn forget_replaced(&self, before: Option<CredentialSource>, row: &RigRow) {
        if let Some(CredentialSource::Stored { id }) = before
            && row.config.credentials != (CredentialSource::Stored { id: id.clone() })
            && let Err(error) = self.vault.remove(&id).await
        {
            tracing::warn!(%error, "a replaced token was not removed");
        }
    }

    /// A rig of a user.
    pub async fn rig(&self, owner: &str, id: &RigId) -> Result<Option<RigRow>, Error> {
        let (owner, id) = (owner.to_owned(), id.clone());
        self.look(move |all| {
            all.rigs
                .get(&id)
                .filter(|row| row.owner_user_id == owner)
                .cloned()
        })
        .await
    }

    /// The rigs of a user's town, oldest first.
    pub async fn rigs(&self, owner: &str, town: &TownId) -> Result<Vec<RigRow>, Error> {
        let (owner, town) = (owner.to_owned(), town.clone());
        let mut rows = self.all_rigs().await?;
        rows.retain(|row| row.owner_user_id == owner && row.config.town_id == town);
        Ok(rows)
    }

    /// All rigs, oldest first.
    pub async fn all_rigs(&self) -> Result<Vec<RigRow>, Error> {
        let mut rows = self
            .look(|all| all.rigs.values().cloned().collect::<Vec<_>>())
            .await?;
        rows.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(rows)
    }

    /// All towns.
    pub async fn all_towns(&self) -> Result<Vec<Town>, Error> {
        self.look(|all| all.towns.values().cloned().collect()).await
    }

    /// Brings a rig its newest configuration.
    pub(crate) async fn bring(&self, rig: &RigId) -> Result<(), Error> {
        let id = rig.clone();
        match self.look(move |all| all.rigs.get(&id).cloned()).await? {
            Some(row) => self.configure(&row).await,
            // Only rigs with a row are ever named: this one was deleted.
            None => self.end(rig).await,
        }
    }

    /// Configures the rig before the answer; the outbox does the same if this is cut short.
    async fn configure(&self, row: &RigRow) -> Result<(), Error> {
        let id = ObjectId::from_name(row.id.as_str())?;
        let rig = RigStub::new(self.rigs.stub(&id));
        rig.tell(Input::Configure(row.config.clone()))
            .await
            .map(drop)
    }

    async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&DirectoryActor) -> R + Send + 'static,
    ) -> Result<R, Error> {
        Ok(self.stub.send(Look(Box::new(look))).await?)
    }
}
