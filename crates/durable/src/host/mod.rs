//! The object host: threads, registries and actors behind `Host`, `Namespace` and `Stub`.
//!
//! ```text
//! Stub ──► Registry (one per arbiter and namespace) ──► ObjectActor (one per live id)
//!   ▲                                                     │ step, then one batch
//!   └──────────── reply ◄── Committer (one thread) ◄──────┘
//! ```
//! Where all of this runs is the `executor`'s matter: on threads of its own, or on the caller's.

mod acked;
mod actor;
mod burial;
mod call;
mod chance;
mod core;
mod delivery;
mod executor;
mod handle;
mod inline;
mod jumps;
mod load;
mod namespace;
mod project;
mod recovery;
mod registry;
mod renew;
mod settings;
mod step;
mod strikes;
mod threads;

pub use executor::Pace;
pub use handle::{Host, Quarantined};
pub use inline::InlineHost;
pub use namespace::{Namespace, Stub};
pub use project::View;
pub use settings::Settings;
