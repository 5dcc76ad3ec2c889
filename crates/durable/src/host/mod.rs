//! The object host: threads, registries and actors behind `Host`, `Namespace` and `Stub`.
//!
//! ```text
//! Stub ──► Registry (one per arbiter and namespace) ──► ObjectActor (one per live id)
//!   ▲                                                     │ step, then one batch
//!   └──────────── reply ◄── Committer (one thread) ◄──────┘
//! ```

mod acked;
mod actor;
mod call;
mod core;
mod delivery;
mod handle;
mod jumps;
mod load;
mod namespace;
mod project;
mod recovery;
mod registry;
mod renew;
mod settings;
mod step;
mod threads;

pub use handle::{Host, Quarantined};
pub use namespace::{Namespace, Stub};
pub use project::View;
pub use settings::Settings;
