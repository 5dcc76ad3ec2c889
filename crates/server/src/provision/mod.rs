//! Installs the `kilo` program into a directory of ours, once, by the user's own npm.
//!
//! It owns that directory's `node_modules`, its lock and its staging directories. It knows nothing
//! of what the program is used for.

mod error;
mod install;
mod lock;
mod npm;
mod place;
#[cfg(test)]
mod tests;

pub use error::ProvisionError;
pub use install::{Install, Progress, ensure_kilo};
