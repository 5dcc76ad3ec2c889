//! News of breakers for whoever listens: hosts, dashboards, tests.
//!
//! Owns the channel. It is a convenience: what it tells is durable elsewhere, in the rigs' events
//! and the towns' records, and a listener that is too slow misses some and may look there.

use rig::{Failure, RigId, Scope, Timestamp, TownId};
use tokio::sync::broadcast;

/// A listener may be so many behind before it misses some.
const NEWS_KEPT: usize = 256;

/// What became of a breaker.
#[derive(Clone, Debug, PartialEq)]
pub enum Turned {
    /// It opened.
    Tripped {
        /// Why.
        failure: Failure,
        /// When it is looked at again.
        next_probe_at: Timestamp,
    },
    /// It closed.
    Closed,
}

/// A breaker opened or closed.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerNews {
    /// Whose town.
    pub town: TownId,
    /// Whose rig: that whose report moved it.
    pub rig: RigId,
    /// The shared scope; none for the rig's own breaker.
    pub scope: Option<Scope>,
    /// What became of it.
    pub turned: Turned,
}

/// Both ends of the channel.
#[derive(Clone, Debug)]
pub(crate) struct Newsroom(broadcast::Sender<BreakerNews>);

impl Newsroom {
    pub(crate) fn new() -> Self {
        Self(broadcast::channel(NEWS_KEPT).0)
    }

    pub(crate) fn tell(&self, news: BreakerNews) {
        // Nobody has to listen.
        let _ = self.0.send(news);
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<BreakerNews> {
        self.0.subscribe()
    }
}
