//! A scripted model gateway on the loopback interface: what `kilo serve` needs from the Kilo
//! gateway, with answers that are known beforehand.
//!
//! It lets the demo and the tests of this project, and of its users, drive the real program
//! without an account, a network or a bill. It knows nothing of rigs, beads or sessions beyond the
//! headers that it is sent.
//!
//! ```no_run
//! # async fn run() -> Result<(), wellhead::gateway::Error> {
//! use secrecy::SecretString;
//! use wellhead::gateway::{Gateway, GatewaySettings, Script};
//!
//! let token = SecretString::from("a-token");
//! let gateway = Gateway::start(Script::default(), GatewaySettings::new(token)).await?;
//! // KILO_API_URL = gateway.url(), model = kilo / scripted/commit
//! gateway.stop().await;
//! # Ok(())
//! # }
//! ```

mod behaviour;
mod error;
mod log;
mod reply;
mod request;
mod routes;
mod script;
mod server;
mod wire;
mod work;

pub use behaviour::{Behaviour, UnknownBehaviour};
pub use error::Error;
pub use log::{Counters, RequestLog};
pub use request::{ChatMessage, ChatRequest};
pub use script::Script;
pub use server::{Gateway, GatewaySettings};
