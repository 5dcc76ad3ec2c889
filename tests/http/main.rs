//! The HTTP facade against its contract: a real runtime on a temporary directory, a real listener,
//! and clients that are polite, wrong or hostile.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests are no tests to the lint"
)]

mod access;
mod agents;
mod beads;
mod breakers;
mod budget;
mod command;
mod container;
mod control;
mod desk;
mod disk;
mod due;
mod escalations;
mod events;
mod house;
mod input;
mod live;
mod once;
mod page;
mod removal;
mod restore;
mod rigs;
mod snapshot;
mod stage;
#[path = "../support/tiny.rs"]
mod tiny;
mod towns;
