//! A town's container: takes dispatches, runs agents in `kilo serve` children, reports outcomes.
//!
//! Owns wiring only. `actor` takes the messages, `ledger` remembers dispatches durably, `servers`
//! keeps the child processes, `sight` shows who is on board, `kit` is what every agent needs. Must not know rigs: it reports to a
//! port.

mod actor;
mod kit;
mod ledger;
mod servers;
mod sight;

pub(crate) use actor::{Aboards, ContainerActor, Crew, Drain};
pub(crate) use kit::{Kit, marker, marker_of};
pub(crate) use ledger::{
    Boot, Finish, Ledger, LedgerEffect, NoteSession, Place, Survey, Told, Untold,
};
pub(crate) use servers::{ServerLease, Servers};
pub(crate) use sight::Sight;
pub use sight::{Aboard, ContainerView};
