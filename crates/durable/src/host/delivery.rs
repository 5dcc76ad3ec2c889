//! How an object's effects leave: after their commit, bounded, repeated until acknowledged.
//!
//! The outbox on disk is its own index: at start every object that has one is woken, so a crash
//! strands no effect and no wake time has to be written beside each effect.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use futures_util::FutureExt;

use super::actor::{Landed, ObjectActor};
use super::call::caught;
use crate::clock::BoxFuture;
use crate::storage::Op;
use crate::timers::Kind;
use crate::{Envelope, NotDelivered, Object};

/// While anything is unacknowledged the object is woken this often: if its actor has died with
/// effects under way, the next one finds them on disk.
const LOOK_AGAIN_MS: i64 = 60_000;

impl<O: Object> ObjectActor<O> {
    pub(super) fn on_flushed(&mut self, seq: u64, addr: &Addr<Self>) {
        if let Some(outbox) = &mut self.outbox {
            outbox.committed(seq);
        }
        self.pump(addr);
    }

    /// Begins as many deliveries as may be under way and sets the time of the next repetition.
    pub(super) fn pump(&mut self, addr: &Addr<Self>) {
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
                Err(panic) => Err(panic),
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
                self.acked.add(seq);
            }
            return;
        };
        match result {
            Ok(()) if outbox.acknowledged(seq) => self.acked.add(seq),
            Ok(()) => {}
            Err(reason) => {
                tracing::debug!(object = %self.id, seq, reason, "an effect will be sent again");
                outbox.failed(seq, now);
            }
        }
        self.forget_acked();
        self.pump(addr);
    }

    /// Removes acknowledged effects from disk; without a place in the queue the next turn does.
    pub(super) fn forget_acked(&mut self) {
        let shared = std::sync::Arc::clone(&self.shared);
        let is_full = shared.core.committer.full().borrow().is_some();
        if self.acked.is_empty() || is_full {
            return;
        }
        let Ok(slot) = shared.core.committer.reserve() else {
            return;
        };
        let acked = self.take_acked();
        let gone = acked
            .into_iter()
            .map(|seq| Op::Delete {
                key: self.keys.effect(seq),
            })
            .collect();
        self.submit(slot, None, gone, drop);
    }

    /// For the next batch that is submitted.
    pub(super) fn take_acked(&mut self) -> Vec<u64> {
        let committed = self.committed.load(Ordering::Acquire);
        self.acked.take(self.submitted + 1, committed)
    }
}

fn landed(
    attempt: BoxFuture<'static, Result<(), NotDelivered>>,
    timeout: Duration,
) -> impl Future<Output = Result<(), String>> {
    let attempt = std::panic::AssertUnwindSafe(attempt).catch_unwind();
    async move {
        match tokio::time::timeout(timeout, attempt).await {
            Ok(Ok(result)) => result.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("the delivery panicked".to_owned()),
            Err(_) => Err("the delivery took too long".to_owned()),
        }
    }
}
