//! Wellhead as a library: towns of coding agents that lose none of their work.
//!
//! A host program starts a [`Runtime`] on a data directory and holds [`RigStub`]s. Rigs are durable
//! objects (`durable`) around a pure core (`rig`); agents live in `kilo serve` children (`kilo`).
//! This crate owns what lies between: the actors, the messages, worktrees, credentials, and the
//! order of start and end. It must not know HTTP status codes or HTML.
//!
//! ```text
//! Runtime ─► RigStub ─► RigActor ──outbox──► mail ──► ContainerActor ─► Agent ─► kilo
//!                          ▲                                │ TownActor grants
//!                          └──────── RigDesk ◄──── reports ─┘
//! ```

mod agent;
pub mod backup;
pub mod checkup;
mod container;
mod containers;
mod data_dir;
mod directory;
mod error;
mod mail;
pub mod messages;
mod news;
pub mod objects;
mod once;
mod preflight;
mod rig_actor;
mod rig_desk;
mod rig_stub;
mod runtime;
mod settings;
mod threads;
mod town_actor;
mod town_stub;
mod vault;
mod witness;
mod workspace;

pub use container::{Aboard, ContainerView};
pub use data_dir::{DataDir, DataDirError, DirFacts};
pub use directory::{Directory, RigPatch, RigRow, Town};
pub use error::Error;
pub use news::{BreakerNews, Turned};
pub use once::{Json, KEYS_MAX, ONCE_MS, Once};
pub use rig_stub::RigStub;
pub use runtime::{Runtime, StartError, processes_with};
pub use settings::Settings;
pub use town_stub::TownStub;
pub use vault::Environment;

/// Why the store could not do something; handles pass it on.
pub use durable::Error as StoreError;
/// The words of the rules, as hosts need them with the handles.
pub use rig;
