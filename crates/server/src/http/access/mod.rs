//! Who calls, from where, and what they may do.
//!
//! Owns credentials, sessions, host and origin rules, and the scope of an agent's token. Knows no
//! route by name: `table` says what each route asks for.

mod admit;
mod caller;
mod hosts;
mod jwt;
mod keys;
mod secret_file;
mod sessions;

pub(crate) use admit::admit;
pub(crate) use caller::{Caller, identify};
pub(crate) use hosts::{Hosts, check_host};
pub(crate) use jwt::Claims;
pub use jwt::TOKEN_LIFE;
pub(crate) use keys::{Keys, admin_token_file, viewer_token_file};
pub use secret_file::SecretError;
pub(crate) use sessions::{SESSION_LIFE, Sessions};
