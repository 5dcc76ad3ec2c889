//! The simulated world around one rig: disk, container, network, clock and people.
//!
//! Wires the parts; each names in its head what it owns.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod container;
pub(crate) mod disk;
mod ends;
mod faults;
mod network;
pub(crate) mod observe;
pub(crate) mod people;
pub(crate) mod plan;
mod prompts;
pub(crate) mod rng;
pub(crate) mod stats;
mod town;
pub(crate) mod words;
pub(crate) mod world;
