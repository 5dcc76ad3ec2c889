//! The durable objects themselves, for a program that brings its own containers: a simulation, or
//! a host with an agent runtime of its own.
//!
//! Owns nothing but this door. Programs with our containers use [`Runtime`](crate::Runtime), which
//! wires all of it.

pub use crate::{
    rig_actor::{Glance, Look, RigActor, RigEnv, Tell},
    town_actor::{LookTown, TellTown, TownActor, TownEnv, TownGlance, TownMail},
    witness::{RigWitness, TownWitness, Witness},
};
