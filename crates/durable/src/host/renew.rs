//! The end of an object's life that is not its own doing: a write was refused or has failed for
//! want of room, and memory may be ahead of the disk. The next life reads what is stored.
//!
//! No barrier is needed: the committer takes nothing more of a life that is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::actor::{ObjectActor, Phase};
use crate::Object;
use crate::commit::Origin;

impl<O: Object> ObjectActor<O> {
    /// Whether what this life still says is refused.
    pub(super) fn is_over(&self) -> bool {
        let lives = self.shared.core.committer.lives();
        lives.is_over(self.origin.activation)
    }

    /// Begins another life if this one is over. While one is being loaded or drained, the end of
    /// that looks again.
    pub(super) fn renew(&mut self) {
        if !self.is_over() || matches!(self.phase, Phase::Draining | Phase::Loading) {
            return;
        }
        self.drop_instance();
        self.phase = Phase::Cold;
        // It may hold effects of refused turns, and lack those of a turn that was stored after
        // all; what is delivered twice has the same number. What was tried goes on waiting: a
        // full disk must not make us send without a pause.
        if let Some(outbox) = self.outbox.take() {
            self.retries = outbox.tried(self.shared.core.now());
        }
        self.acked.give_back(self.committed.load(Ordering::Acquire));
        self.submitted = 0;
        self.committed = Arc::default();
        self.origin = Arc::new(Origin {
            namespace: O::NAMESPACE,
            id: self.id.clone(),
            activation: self.shared.core.next_activation(),
        });
    }
}
