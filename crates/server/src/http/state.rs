//! What every request can reach: the runtime, the keys, the sessions, the limits.
//!
//! Owns nothing of its own beyond the grouping. Made once by the facade's start.

use runtime::Runtime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    access::{Hosts, Keys, Sessions},
    once::Flights,
};

/// Long polls at one time; each holds a connection and nothing else.
const WAITS_MAX: usize = 64;

/// The shared state of the facade.
pub(crate) struct State {
    pub(crate) runtime: Runtime,
    pub(crate) hosts: Hosts,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    /// Ends long polls when the facade stops.
    pub(crate) stopping: CancellationToken,
    /// Bounds long polls.
    pub(crate) waits: Semaphore,
    /// Tells this life's snapshot versions from those of another one.
    pub(crate) life: String,
    /// The idempotency keys of requests that are being carried out.
    pub(crate) flights: Flights,
}

impl State {
    pub(crate) fn new(
        runtime: Runtime,
        hosts: Hosts,
        keys: Keys,
        sessions: Sessions,
        life: String,
    ) -> Self {
        Self {
            runtime,
            hosts,
            keys,
            sessions,
            stopping: CancellationToken::new(),
            waits: Semaphore::new(WAITS_MAX),
            life,
            flights: Flights::default(),
        }
    }
}
