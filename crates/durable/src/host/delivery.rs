//! How an object's effects leave: after their commit, bounded, repeated until acknowledged. What
//! becomes of those that are refused for good is in `burial`.
//!
//! The outbox on disk is its own index: at start every object that has one is woken, so a crash
//! strands no effect and no wake time has to be written beside each effect.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use futures_util::FutureExt;

use super::acked::Accepted;
use super::actor::{Flushed, Landed, ObjectActor};
use super::call::{caught, panic_text};
use super::core::Core;
use crate::clock::BoxFuture;
use crate::commit::Slot;
use crate::storage::Op;
use crate::timers::Kind;
use crate::{Envelope, NotDelivered, Object};

/// While anything is unacknowledged the object is woken this often: if its actor has died with
/// effects under way, the next one finds them on disk.
const LOOK_AGAIN_MS: i64 = 60_000;

impl<O: Object> ObjectActor<O> {
    pub(super) fn on_flushed(&mut self, flushed: Flushed, addr: &Addr<Self>) {
        match (&mut self.outbox, flushed) {
            (Some(outbox), Flushed::UpTo(seq)) => outbox.committed(seq),
            (Some(outbox), Flushed::Retried(seq)) => outbox.returned(seq),
            (None, _) => {}
        }
        self.pump(addr);
    }

    /// Begins as many deliveries as may be under way and sets the time of the next repetition.
    pub(super) fn pump(&mut self, addr: &Addr<Self>) {
        self.bury(addr);
        let core = std::sync::Arc::clone(&self.shared.core);
        let Some(outbox) = &mut self.outbox else {
            return;
        };
        let ready = outbox.take_ready(core.now(), core.settings.deliveries_max);
        let look_again = core.now().saturating_add(LOOK_AGAIN_MS);
        // Without a place for it, an overdue one would wake the object again and again.
        let busy = outbox.is_busy(core.settings.deliveries_max);
        let next = match outbox.next_retry().filter(|_| !busy) {
            None if outbox.len() > 0 => Some(look_again),
            next => next.map(|at| at.min(look_again)),
        };
        for (seq, effect) in ready {
            self.launch(seq, effect, addr.clone());
        }
        match next {
            Some(at) => core.timers.hold(self.target(Kind::Outbox), at),
            None => core.timers.clear(&self.target(Kind::Outbox)),
        }
    }

    fn launch(&self, seq: u64, effect: O::Effect, addr: Addr<Self>) {
        let namespace = O::NAMESPACE.to_owned();
        let envelope = Envelope {
            namespace,
            from: self.id.clone(),
            seq,
            effect,
        };
        // Called in here, not in the task: first attempts begin in order.
        let attempt = caught(|| self.shared.deliver.deliver(envelope));
        let timeout = Duration::from_millis(self.shared.core.settings.deliver_timeout_ms);
        actix::spawn(async move {
            let result = match attempt {
                Ok(attempt) => landed(attempt, timeout).await,
                Err(panic) => Err(NotDelivered::poison(panic)),
            };
            addr.do_send(Landed { seq, result });
        });
    }

    pub(super) fn on_landed(&mut self, landed: Landed, addr: &Addr<Self>) {
        let Landed { seq, result } = landed;
        let now = self.shared.core.now();
        let Some(outbox) = &mut self.outbox else {
            // It is being read again, and will not have this one.
            if result.is_ok() {
                self.acked.add(seq, true);
            }
            return;
        };
        match result {
            Ok(()) => {
                if let Some(refused) = outbox.gone(seq) {
                    self.acked.add(seq, refused);
                }
            }
            Err(error) if error.is_poison() => self.on_refused(seq, error.reason()),
            Err(error) => {
                tracing::debug!(object = %self.id, seq, %error, "an effect will be sent again");
                outbox.failed(seq, now);
            }
        }
        self.forget_acked();
        self.pump(addr);
        self.wake_to_bury(addr);
    }

    /// Removes acknowledged effects from disk; without a place in the queue the next turn does.
    pub(super) fn forget_acked(&mut self) {
        let shared = std::sync::Arc::clone(&self.shared);
        if self.acked.is_empty() {
            return;
        }
        if let Some(slot) = shared.core.spare_slot() {
            let gone = self.take_acked();
            self.submit(slot, None, gone, drop);
        }
    }

    /// Removes acknowledged effects with the next batch that is submitted.
    pub(super) fn take_acked(&mut self) -> Vec<Op> {
        let committed = self.committed.load(Ordering::Acquire);
        let acked = self.acked.take(self.submitted + 1, committed);
        let mut gone = Vec::with_capacity(acked.len());
        for Accepted { seq, refused } in acked {
            let key = self.keys.effect(seq);
            gone.push(Op::Delete { key });
            if refused {
                let key = self.keys.tries(seq);
                gone.push(Op::Delete { key });
            }
        }
        gone
    }
}

impl Core {
    /// A place for a batch that nobody waits for: none while the disk is full, since a refused
    /// write ends the lives of all objects.
    pub(super) fn spare_slot(&self) -> Option<Slot<'_>> {
        if self.committer.full().borrow().is_some() {
            return None;
        }
        self.committer.reserve().ok()
    }
}

fn landed(
    attempt: BoxFuture<'static, Result<(), NotDelivered>>,
    timeout: Duration,
) -> impl Future<Output = Result<(), NotDelivered>> {
    let attempt = std::panic::AssertUnwindSafe(attempt).catch_unwind();
    async move {
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(NotDelivered::poison(panic_text(&*panic))),
            Err(_) => Err(NotDelivered::new("the delivery took too long")),
        }
    }
}
