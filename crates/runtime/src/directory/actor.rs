//! The directory as a durable object: what is stored, and what each request changes.
//!
//! Owns the rules of towns and rigs: who owns what, what may be removed, and that every change of a
//! rig's row leaves an effect that brings it to the rig. Knows no handle.

use std::collections::BTreeMap;

use durable::{AlarmFailed, Handle, Message, Object, ObjectId, Records, Turn};
use rig::{RigConfig, RigId, Timestamp, TownId};
use serde_json::{Value, json};

use super::rows::{Configured, RigPatch, RigRow, Town};
use crate::{
    Error,
    once::{Memory, Once, Said},
};

const TOWN_PREFIX: &str = "town/";
const RIG_PREFIX: &str = "rig/";
/// A refusal names no more rigs than this.
const NAMED_MAX: usize = 10;

/// The durable object.
pub(crate) struct DirectoryActor {
    pub(super) towns: BTreeMap<TownId, Town>,
    pub(super) rigs: BTreeMap<RigId, RigRow>,
    pub(super) memory: Memory,
}

pub(super) struct AddTown {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) once: Option<Once>,
}

pub(super) struct AddRig {
    pub(super) owner: String,
    pub(super) config: RigConfig,
    pub(super) once: Option<Once>,
}

pub(super) struct RemoveTown {
    pub(super) owner: String,
    pub(super) town: TownId,
}

pub(super) struct RemoveRig {
    pub(super) owner: String,
    pub(super) rig: RigId,
}

/// Whether a request came before.
pub(super) struct Ask(pub(super) Once);

pub(super) struct ChangeRig {
    pub(super) owner: String,
    pub(super) rig: RigId,
    pub(super) patch: RigPatch,
}

pub(super) type Read<R> = Box<dyn FnOnce(&DirectoryActor) -> R + Send>;
pub(super) struct Look<R>(pub(super) Read<R>);

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
