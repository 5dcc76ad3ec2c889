//! Who owns which town and which rig: one durable object for the whole data directory.
//!
//! Owns the rows. A rig's own object gets its configuration from here, through the outbox, so that
//! the two can not drift apart. Knows no bead and no agent.

use std::{collections::BTreeMap, sync::Arc};

use durable::{AlarmFailed, Handle, Message, Object, ObjectId, Records, Stub, Turn};
use rig::{CredentialSource, Input, ReviewMode, RigConfig, RigId, Timestamp, TownId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Error,
    once::{self, Memory, Once, Said},
    rig_stub::RigStub,
    vault::Vault,
};

const TOWN_PREFIX: &str = "town/";
const RIG_PREFIX: &str = "rig/";
/// A refusal names no more rigs than this.
const NAMED_MAX: usize = 10;

/// A town: rigs that share a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Town {
    /// Its id.
    pub id: TownId,
    /// A name for people.
    pub name: String,
    /// Whose it is.
    pub owner_user_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A rig's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RigRow {
    /// Its id.
    pub id: RigId,
    /// Whose it is.
    pub owner_user_id: String,
    /// Its configuration.
    pub config: RigConfig,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What may be changed of a rig; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RigPatch {
    /// A name for people.
    pub name: Option<String>,
    /// The branch that work starts from.
    pub default_branch: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// Whether work is reviewed.
    pub review: Option<ReviewMode>,
    /// Where credentials come from.
    pub credentials: Option<CredentialSource>,
}

/// A rig's row has changed or is gone: the newest configuration, or the end, has to reach the rig.
/// Names the rig alone, so that a repetition can never bring back an older configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Configured {
    pub(crate) rig: RigId,
}

/// The durable object.
pub(crate) struct DirectoryActor {
    towns: BTreeMap<TownId, Town>,
    rigs: BTreeMap<RigId, RigRow>,
    memory: Memory,
}

struct AddTown {
    owner: String,
    name: String,
    once: Option<Once>,
}

struct AddRig {
    owner: String,
    config: RigConfig,
    once: Option<Once>,
}

struct RemoveTown {
    owner: String,
    town: TownId,
}

struct RemoveRig {
    owner: String,
    rig: RigId,
}

/// Whether a request came before.
struct Ask(Once);

struct ChangeRig {
    owner: String,
    rig: RigId,
    patch: RigPatch,
}

type Read<R> = Box<dyn FnOnce(&DirectoryActor) -> R + Send>;
struct Look<R>(Read<R>);

impl Message for AddTown {
    type Reply = Result<Said, Error>;
}
impl Message for AddRig {
    type Reply = Result<Said, Error>;
}
impl Message for RemoveTown {
    type Reply = Result<(), Error>;
}
impl Message for RemoveRig {
    type Reply = Result<RigRow, Error>;
}
impl Message for Ask {
    type Reply = Result<bool, Error>;
}
impl Message for ChangeRig {
    type Reply = Result<RigRow, Error>;
}
impl<R: Send + 'static> Message for Look<R> {
    type Reply = R;
}

impl Object for DirectoryActor {
    const NAMESPACE: &'static str = "directory";
    type Env = ();
    type Effect = Configured;

    fn load(_id: &ObjectId, records: &Records<'_>, _env: &()) -> Result<Self, durable::Error> {
        let towns = records.all::<Town>(TOWN_PREFIX)?.into_iter();
        let rigs = records.all::<RigRow>(RIG_PREFIX)?.into_iter();
        Ok(Self {
            towns: towns.map(|(_, town)| (town.id.clone(), town)).collect(),
            rigs: rigs.map(|(_, row)| (row.id.clone(), row)).collect(),
            memory: Memory::load(records)?,
        })
    }

    fn alarm(
        &mut self,
        _turn: &mut Turn<'_, Configured>,
        _alarm: durable::Alarm,
    ) -> Result<(), AlarmFailed> {
        Ok(())
    }
}

/// An id made of the turn's own randomness.
fn fresh_id(turn: &Turn<'_, Configured>) -> String {
    uuid::Builder::from_random_bytes(turn.nonce().to_be_bytes())
        .into_uuid()
        .to_string()
}

impl Handle<AddTown> for DirectoryActor {
    fn handle(&mut self, turn: &mut Turn<'_, Configured>, add: AddTown) -> Result<Said, Error> {
        let AddTown { owner, name, once } = add;
        if self.is_repeated(turn, once.as_ref())? {
            return Ok(Said::Before);
        }
        let now = Timestamp(turn.now());
        let id = TownId::new(fresh_id(turn)).map_err(|error| invalid("town_id", &error))?;
        let town = Town {
            id: id.clone(),
            name,
            owner_user_id: owner,
            created_at: now,
            updated_at: now,
        };
        turn.put(&format!("{TOWN_PREFIX}{id}"), &town);
        let answer = json!(town);
        self.towns.insert(id, town);
        self.note(turn, once, &answer);
        Ok(Said::Now(answer))
    }
}

impl Handle<Ask> for DirectoryActor {
    fn handle(&mut self, turn: &mut Turn<'_, Configured>, Ask(once): Ask) -> Result<bool, Error> {
        self.is_repeated(turn, Some(&once))
    }
}

impl Handle<RemoveTown> for DirectoryActor {
    fn handle(
        &mut self,
        turn: &mut Turn<'_, Configured>,
        RemoveTown { owner, town }: RemoveTown,
    ) -> Result<(), Error> {
        let own = self.towns.get(&town).filter(|t| t.owner_user_id == owner);
        if own.is_none() {
            return Err(Error::NotFound("Town not found".to_owned()));
        }
        let rigs = self.rigs.values().filter(|row| row.config.town_id == town);
        let ids: Vec<&str> = rigs.map(|row| row.id.as_str()).collect();
        if !ids.is_empty() {
            let named: Vec<&str> = ids.iter().take(NAMED_MAX).copied().collect();
            return Err(Error::Conflict(format!(
                "the town still has {} rigs; delete them first: {}",
                ids.len(),
                named.join(", ")
            )));
        }
        turn.delete(&format!("{TOWN_PREFIX}{town}"));
        self.towns.remove(&town);
        Ok(())
    }
}

impl Handle<RemoveRig> for DirectoryActor {
    fn handle(
        &mut self,
        turn: &mut Turn<'_, Configured>,
        RemoveRig { owner, rig }: RemoveRig,
    ) -> Result<RigRow, Error> {
        let own = self.rigs.get(&rig).filter(|row| row.owner_user_id == owner);
        let row = own
            .cloned()
            .ok_or_else(|| Error::NotFound("Rig not found".to_owned()))?;
        turn.delete(&format!("{RIG_PREFIX}{rig}"));
        turn.send(Configured { rig: rig.clone() });
        self.rigs.remove(&rig);
        Ok(row)
    }
}

impl DirectoryActor {
    fn is_repeated(&self, turn: &Turn<'_, Configured>, once: Option<&Once>) -> Result<bool, Error> {
        once.map_or(Ok(false), |once| self.memory.is_repeated(once, turn.now()))
    }

    fn note(&mut self, turn: &mut Turn<'_, Configured>, once: Option<Once>, answer: &Value) {
        if let Some(once) = once {
            self.memory.note(turn, once, answer);
        }
    }

    fn put_rig(&mut self, turn: &mut Turn<'_, Configured>, row: &RigRow) {
        turn.put(&format!("{RIG_PREFIX}{}", row.id), row);
        turn.send(Configured {
            rig: row.id.clone(),
        });
        self.rigs.insert(row.id.clone(), row.clone());
    }
}

impl Handle<AddRig> for DirectoryActor {
    fn handle(&mut self, turn: &mut Turn<'_, Configured>, add: AddRig) -> Result<Said, Error> {
        let now = Timestamp(turn.now());
        let AddRig {
            owner,
            config,
            once,
        } = add;
        if self.is_repeated(turn, once.as_ref())? {
            return Ok(Said::Before);
        }
        let town = self
            .towns
            .get(&config.town_id)
            .filter(|town| town.owner_user_id == owner);
        if town.is_none() {
            return Err(Error::NotFound(format!("no town {}", config.town_id)));
        }
        let id = RigId::new(fresh_id(turn)).map_err(|error| invalid("rig_id", &error))?;
        let row = RigRow {
            id,
            owner_user_id: owner,
            config,
            created_at: now,
            updated_at: now,
        };
        self.put_rig(turn, &row);
        let answer = json!(row);
        self.note(turn, once, &answer);
        Ok(Said::Now(answer))
    }
}

impl Handle<ChangeRig> for DirectoryActor {
    fn handle(
        &mut self,
        turn: &mut Turn<'_, Configured>,
        change: ChangeRig,
    ) -> Result<RigRow, Error> {
        let ChangeRig { owner, rig, patch } = change;
        let row = self.rigs.get(&rig).filter(|row| row.owner_user_id == owner);
        let mut row = row
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("no rig {rig}")))?;
        let config = &mut row.config;
        config.name = patch.name.unwrap_or_else(|| config.name.clone());
        config.default_branch = patch
            .default_branch
            .unwrap_or_else(|| config.default_branch.clone());
        config.model = patch.model.or_else(|| config.model.clone());
        config.review = patch.review.unwrap_or(config.review);
        config.credentials = patch
            .credentials
            .unwrap_or_else(|| config.credentials.clone());
        row.updated_at = row.updated_at.max(Timestamp(turn.now()));
        self.put_rig(turn, &row);
        Ok(row)
    }
}

impl<R: Send + 'static> Handle<Look<R>> for DirectoryActor {
    fn handle(&mut self, _turn: &mut Turn<'_, Configured>, Look(look): Look<R>) -> R {
        look(self)
    }
}

fn invalid(field: &'static str, error: &rig::IdError) -> Error {
    Error::Invalid {
        field,
        reason: error.to_string(),
    }
}

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
