//! Who looks on while rigs and towns decide: for simulations. There is none in production.
//!
//! Owns the trait alone. A witness decides nothing. It sees a step before it is durable: a crash
//! may undo what was seen, and then the object is loaded again without it.

use durable::ObjectId;
use rig::{
    Input, Refused, Rig, Step, Timestamp,
    town::{Town, TownInput, TownStep},
};

/// Sees every step of the objects of one kind: state, input, decision.
pub trait Witness<S, I, D>: Send + Sync {
    /// An instance was read from disk.
    fn loaded(&self, id: &ObjectId, state: &S);
    /// It has decided; its state is still the one before.
    fn decided(&self, id: &ObjectId, state: &S, input: &I, decision: &D, now: Timestamp);
    /// What it decided is in its memory, and in the batch, with the alarm that is set then.
    fn applied(&self, id: &ObjectId, state: &S, alarm: Option<Timestamp>, now: Timestamp);
}

/// A witness of rigs.
pub type RigWitness = dyn Witness<Rig, Input, Result<Step, Refused>>;

/// A witness of towns.
pub type TownWitness = dyn Witness<Town, TownInput, TownStep>;
