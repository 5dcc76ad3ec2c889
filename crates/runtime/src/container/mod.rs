//! A town's container: takes dispatches, runs agents in `kilo serve` children, reports outcomes.
//!
//! Owns wiring only. `actor` takes the messages, `checks` answers what needs no session, `servers`
//! keeps the child processes, `sight` shows who is on board, `kit` is what every agent needs. What
//! is granted is the town's word (`town_actor`). Must not know rigs: it reports to a port.

mod actor;
mod checks;
mod kit;
mod servers;
mod sight;

pub(crate) use actor::{Aboards, ContainerActor, Crew, Drain};
pub(crate) use kit::{Kit, marker, marker_of, scopes_of};
pub(crate) use servers::{ServerLease, Servers};
pub(crate) use sight::Sight;
pub use sight::{Aboard, ContainerView};
