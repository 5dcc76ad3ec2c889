//! The effects of one object that no receiver has acknowledged yet.
//!
//! Pure bookkeeping: which effect may leave now, which waits and until when. It neither sends
//! nor stores; the disk holds the same set, minus acknowledgements under way.

use std::collections::BTreeMap;

const RETRY_MS_FIRST: i64 = 2_000;
const RETRY_MS_MAX: i64 = 300_000;

#[derive(Debug)]
struct Pending<E> {
    effect: E,
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its turn is not durable yet.
    Uncommitted,
    Ready,
    InFlight,
    Waiting {
        until: i64,
    },
}

/// What a sleeping object's effects wait for: number, attempts so far, time of the next one.
pub(crate) type Retries = Box<[(u64, u32, i64)]>;

/// Unacknowledged effects by their number.
#[derive(Debug)]
pub(crate) struct Outbox<E> {
    pending: BTreeMap<u64, Pending<E>>,
    in_flight: usize,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            in_flight: 0,
        }
    }
}

impl<E: Clone> Outbox<E> {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// An effect of a turn that is on its way to disk.
    pub(crate) fn add(&mut self, seq: u64, effect: E) {
        self.insert(seq, effect, State::Uncommitted);
    }

    /// An effect found on disk.
    pub(crate) fn restore(&mut self, seq: u64, effect: E) {
        self.insert(seq, effect, State::Ready);
    }

    fn insert(&mut self, seq: u64, effect: E, state: State) {
        self.pending.insert(
            seq,
            Pending {
                effect,
                attempts: 0,
                state,
            },
        );
    }

    /// Everything up to `seq` is durable.
    pub(crate) fn committed(&mut self, seq: u64) {
        for (_, pending) in self.pending.range_mut(..=seq) {
            if pending.state == State::Uncommitted {
                pending.state = State::Ready;
            }
        }
    }

    /// Takes the lowest effects that may leave now, while fewer than `max` are under way.
    pub(crate) fn take_ready(&mut self, now: i64, max: usize) -> Vec<(u64, E)> {
        let room = max.saturating_sub(self.in_flight);
        let mut taken = Vec::new();
        for (seq, pending) in self
            .pending
            .iter_mut()
            .filter(|(_, p)| p.is_ready(now))
            .take(room)
        {
            pending.state = State::InFlight;
            taken.push((*seq, pending.effect.clone()));
        }
        self.in_flight += taken.len();
        taken
    }

    /// The receiver has accepted it. False if it was not pending.
    pub(crate) fn acknowledged(&mut self, seq: u64) -> bool {
        let removed = self.pending.remove(&seq);
        self.landed(removed.as_ref().map(|pending| pending.state));
        removed.is_some()
    }

    /// The attempt failed: it waits 2 s doubling to 5 min.
    pub(crate) fn failed(&mut self, seq: u64, now: i64) {
        let before = self.pending.get_mut(&seq).map(|pending| {
            let until = now.saturating_add(retry_ms(pending.attempts));
            pending.attempts = pending.attempts.saturating_add(1);
            std::mem::replace(&mut pending.state, State::Waiting { until })
        });
        self.landed(before);
    }

    fn landed(&mut self, before: Option<State>) {
        if before == Some(State::InFlight) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// What to remember while the object sleeps; None while an effect has not been tried, or is
    /// under way.
    pub(crate) fn rest(&self) -> Option<Retries> {
        let waiting = |(seq, pending): (&u64, &Pending<E>)| match pending.state {
            State::Waiting { until } => Some((*seq, pending.attempts, until)),
            State::Uncommitted | State::Ready | State::InFlight => None,
        };
        self.pending.iter().map(waiting).collect()
    }

    /// What to remember of those that have been tried, if the rest is read again; one that is
    /// under way counts as failed until it is heard of.
    pub(crate) fn tried(&self, now: i64) -> Retries {
        let tried = |(seq, pending): (&u64, &Pending<E>)| {
            let attempts = pending.attempts;
            match pending.state {
                State::Waiting { until } => Some((*seq, attempts, until)),
                State::InFlight => {
                    let until = now.saturating_add(retry_ms(attempts));
                    Some((*seq, attempts.saturating_add(1), until))
                }
                State::Uncommitted | State::Ready => None,
            }
        };
        self.pending.iter().filter_map(tried).collect()
    }

    /// Effects found on disk go on waiting as they did before the object slept.
    pub(crate) fn resume(&mut self, retries: &Retries) {
        for &(seq, attempts, until) in retries {
            if let Some(pending) = self.pending.get_mut(&seq) {
                pending.attempts = attempts;
                pending.state = State::Waiting { until };
            }
        }
    }

    /// Whether nothing may leave before something has landed.
    pub(crate) fn is_busy(&self, max: usize) -> bool {
        self.in_flight >= max
    }

    /// When the next waiting effect is due.
    pub(crate) fn next_retry(&self) -> Option<i64> {
        let until = |pending: &Pending<E>| match pending.state {
            State::Waiting { until } => Some(until),
            State::Uncommitted | State::Ready | State::InFlight => None,
        };
        self.pending.values().filter_map(until).min()
    }
}

impl<E> Pending<E> {
    fn is_ready(&self, now: i64) -> bool {
        match self.state {
            State::Ready => true,
            State::Waiting { until } => until <= now,
            State::Uncommitted | State::InFlight => false,
        }
    }
}

fn retry_ms(attempts: u32) -> i64 {
    (RETRY_MS_FIRST << attempts.min(8)).min(RETRY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_waits_when_it_is_read_again() {
        let mut outbox = Outbox::default();
        for (seq, effect) in (1..).zip("abc".chars()) {
            outbox.restore(seq, effect);
        }
        outbox.take_ready(0, 2);
        outbox.failed(1, 100);
        let mut again = Outbox::default();
        for (seq, effect) in (1..).zip("abc".chars()) {
            again.restore(seq, effect);
        }
        again.resume(&outbox.tried(1_000));
        assert_eq!(seqs(&again.take_ready(1_000, 9)), [3]);
        assert!(again.acknowledged(2));
        assert_eq!(again.next_retry(), Some(2_100));
    }

    #[test]
    fn waiting_goes_on_over_a_sleep() {
        let mut outbox = Outbox::default();
        outbox.restore(1, 'a');
        assert_eq!(outbox.rest(), None, "not tried yet");
        outbox.take_ready(0, 9);
        assert_eq!(outbox.rest(), None, "under way");
        outbox.failed(1, 100);
        let retries = outbox.rest().unwrap();
        let mut outbox = Outbox::default();
        outbox.restore(1, 'a');
        outbox.resume(&retries);
        assert!(outbox.take_ready(2_099, 9).is_empty());
        assert_eq!(outbox.take_ready(2_100, 9).len(), 1);
        outbox.failed(1, 2_100);
        assert_eq!(outbox.next_retry(), Some(6_100));
    }

    fn seqs(taken: &[(u64, char)]) -> Vec<u64> {
        taken.iter().map(|(seq, _)| *seq).collect()
    }

    #[test]
    fn effects_leave_after_their_commit_in_order_and_bounded() {
        let mut outbox = Outbox::default();
        for (seq, effect) in (1..).zip("abcd".chars()) {
            outbox.add(seq, effect);
        }
        assert!(outbox.take_ready(0, 9).is_empty());
        outbox.committed(3);
        assert_eq!(seqs(&outbox.take_ready(0, 2)), [1, 2]);
        assert!(outbox.take_ready(0, 2).is_empty());
        assert!(outbox.acknowledged(2));
        assert_eq!(seqs(&outbox.take_ready(0, 2)), [3]);
    }

    #[test]
    fn a_failed_one_waits_and_lets_others_pass() {
        let mut outbox = Outbox::default();
        outbox.restore(1, 'a');
        outbox.restore(2, 'b');
        assert_eq!(seqs(&outbox.take_ready(0, 1)), [1]);
        outbox.failed(1, 100);
        assert_eq!(outbox.next_retry(), Some(2_100));
        assert_eq!(seqs(&outbox.take_ready(2_099, 1)), [2]);
        outbox.acknowledged(2);
        assert_eq!(seqs(&outbox.take_ready(2_100, 1)), [1]);
        outbox.failed(1, 2_100);
        assert_eq!(outbox.next_retry(), Some(6_100));
        assert_eq!(retry_ms(u32::MAX), RETRY_MS_MAX);
    }
}
