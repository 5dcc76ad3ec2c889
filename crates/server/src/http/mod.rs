//! The HTTP facade: routes, envelopes, who may call, and the mapping of refusals to status codes.
//!
//! Owns everything that is HTTP. It knows handles (`Runtime`, `RigStub`, `Directory`) and never an
//! actor's address; it decides nothing about beads, agents or dispatches.
//!
//! ```text
//! request ─► outer (id, host, headers, panics) ─► admit (who, origin, scope) ─► handler ─► Runtime
//!                                                        ▲
//!                                                 table (default-deny)
//! ```

mod access;
mod answer;
mod api;
mod ctx;
pub mod facade;
mod failure;
mod input;
mod mapping;
mod once;
mod outer;
mod state;
mod table;
mod view;

pub use access::{SecretError, TOKEN_LIFE};
pub use table::{Access, RouteInfo, routes};
