//! The effects of one object that no receiver has acknowledged yet.
//!
//! Pure bookkeeping: which effect may leave now, which waits and until when. It neither sends
//! nor stores; the disk holds the same set, minus acknowledgements under way.

use std::collections::BTreeMap;

use crate::DeadLetter;
use crate::letters::{self, Letters, Refusals};

const RETRY_MS_FIRST: i64 = 2_000;
const RETRY_MS_MAX: i64 = 300_000;

#[derive(Debug)]
struct Pending<E> {
    effect: E,
    attempts: u32,
    /// What is stored of it, or on its way to disk.
    refused: Option<Refusals>,
    state: State,
}

/// The refusal after which an effect is not sent any more.
#[derive(Debug)]
struct Last {
    at: i64,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its turn is not durable yet.
    Uncommitted,
    /// A dead letter until its retry is durable.
    Returning,
    Ready,
    InFlight,
    Waiting {
        until: i64,
    },
    /// Refused too often: it becomes a dead letter as soon as its object can be told.
    Condemned,
}

/// What a sleeping object's effects wait for: number, attempts so far, time of the next one.
pub(crate) type Retries = Box<[(u64, u32, i64)]>;

/// Unacknowledged effects by their number.
#[derive(Debug)]
pub(crate) struct Outbox<E> {
    pending: BTreeMap<u64, Pending<E>>,
    in_flight: usize,
    condemned: BTreeMap<u64, Last>,
    /// The dead letters beside it.
    pub(crate) letters: Letters,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self {
            pending: BTreeMap::new(),
            in_flight: 0,
            condemned: BTreeMap::new(),
            letters: Letters::default(),
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

    /// How often an effect found on disk was refused; false if there is no such effect.
    pub(crate) fn restore_tries(&mut self, seq: u64, refused: Refusals) -> bool {
        let pending = self.pending.get_mut(&seq);
        pending
            .map(|pending| pending.refused = Some(refused))
            .is_some()
    }

    /// A dead letter whose retry is on its way to disk; it begins anew.
    pub(crate) fn give_back(&mut self, seq: u64, effect: E) {
        self.letters.remove(seq);
        self.insert(seq, effect, State::Returning);
    }

    /// That is durable.
    pub(crate) fn returned(&mut self, seq: u64) {
        if let Some(pending) = self.pending.get_mut(&seq)
            && pending.state == State::Returning
        {
            pending.state = State::Ready;
        }
    }

    fn insert(&mut self, seq: u64, effect: E, state: State) {
        self.pending.insert(
            seq,
            Pending {
                effect,
                attempts: 0,
                refused: None,
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

    /// The receiver has accepted it, or it is a dead letter: it is gone. None if it was not
    /// pending, otherwise whether refusals of it are stored.
    pub(crate) fn gone(&mut self, seq: u64) -> Option<bool> {
        let removed = self.pending.remove(&seq);
        self.condemned.remove(&seq);
        self.landed(removed.as_ref().map(|pending| pending.state));
        removed.map(|pending| pending.refused.is_some())
    }

    /// The attempt failed: it waits 2 s doubling to 5 min.
    pub(crate) fn failed(&mut self, seq: u64, now: i64) {
        self.condemned.remove(&seq);
        let before = self.tried_mut(seq).map(|pending| {
            let until = now.saturating_add(retry_ms(pending.attempts));
            pending.attempts = pending.attempts.saturating_add(1);
            std::mem::replace(&mut pending.state, State::Waiting { until })
        });
        self.landed(before);
    }

    /// What its next refusal makes of its count; none if it is not pending.
    pub(crate) fn next_refusal(&self, seq: u64, now: i64) -> Option<Refusals> {
        let pending = self.pending.get(&seq).filter(|p| p.may_be_tried())?;
        Some(Refusals::one_more(pending.refused, now))
    }

    /// The attempt was refused for good: it waits as after any failure, and is counted.
    pub(crate) fn refused(&mut self, seq: u64, now: i64, refused: Refusals) {
        if let Some(pending) = self.tried_mut(seq) {
            pending.refused = Some(refused);
        }
        self.failed(seq, now);
    }

    /// The attempt was refused for the last time: it is not sent any more.
    pub(crate) fn condemn(&mut self, seq: u64, at: i64, reason: &str) {
        let Some(pending) = self.tried_mut(seq) else {
            return;
        };
        let before = std::mem::replace(&mut pending.state, State::Condemned);
        let reason = letters::shortened(reason);
        self.condemned.insert(seq, Last { at, reason });
        self.landed(Some(before));
    }

    /// The lowest effect whose move to the dead letters is outstanding.
    pub(crate) fn condemned(&self) -> Option<u64> {
        self.condemned.keys().next().copied()
    }

    /// What becomes of a condemned effect.
    pub(crate) fn letter(&self, seq: u64) -> Option<DeadLetter<E>> {
        let (pending, last) = (self.pending.get(&seq)?, self.condemned.get(&seq)?);
        let refused = Refusals::one_more(pending.refused, last.at);
        Some(DeadLetter {
            seq,
            effect: pending.effect.clone(),
            reason: last.reason.clone(),
            tries: refused.tries,
            first_tried_at: refused.first_at,
            last_tried_at: last.at,
        })
    }

    /// An effect that a failure can be about: what is not durable yet was not sent by this outbox,
    /// and late news of an earlier life's attempt do not hurry it.
    fn tried_mut(&mut self, seq: u64) -> Option<&mut Pending<E>> {
        let pending = self.pending.get_mut(&seq);
        pending.filter(|pending| pending.may_be_tried())
    }

    fn landed(&mut self, before: Option<State>) {
        if before == Some(State::InFlight) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
    }

    /// What to remember while the object sleeps; None while an effect has not been tried, is
    /// under way, or is to become a dead letter.
    pub(crate) fn rest(&self) -> Option<Retries> {
        let waiting = |(seq, pending): (&u64, &Pending<E>)| match pending.state {
            State::Waiting { until } => Some((*seq, pending.attempts, until)),
            _ => None,
        };
        self.pending.iter().map(waiting).collect()
    }

    /// What to remember of those that have been tried, if the rest is read again; one that is
    /// under way or condemned counts as failed until it is heard of, or tried once more.
    pub(crate) fn tried(&self, now: i64) -> Retries {
        let tried = |(seq, pending): (&u64, &Pending<E>)| {
            let attempts = pending.attempts;
            match pending.state {
                State::Waiting { until } => Some((*seq, attempts, until)),
                State::InFlight | State::Condemned => {
                    let until = now.saturating_add(retry_ms(attempts));
                    Some((*seq, attempts.saturating_add(1), until))
                }
                State::Uncommitted | State::Returning | State::Ready => None,
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
            _ => None,
        };
        self.pending.values().filter_map(until).min()
    }
}

impl<E> Pending<E> {
    fn may_be_tried(&self) -> bool {
        !matches!(self.state, State::Uncommitted | State::Returning)
    }

    fn is_ready(&self, now: i64) -> bool {
        match self.state {
            State::Ready => true,
            State::Waiting { until } => until <= now,
            _ => false,
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
        assert_eq!(again.gone(2), Some(false));
        assert_eq!(again.next_retry(), Some(2_100));
    }

    #[test]
    fn a_condemned_one_is_not_sent_and_does_not_sleep() {
        let mut outbox = Outbox::default();
        outbox.restore(1, 'a');
        outbox.restore(2, 'b');
        outbox.take_ready(0, 9);
        let once = outbox.next_refusal(1, 5).unwrap();
        outbox.refused(1, 5, once);
        assert_eq!(seqs(&outbox.take_ready(2_005, 9)), [1]);
        outbox.condemn(1, 2_010, "no such place");
        outbox.failed(2, 2_010);
        assert!(!outbox.is_busy(1), "it is under way no more");
        assert_eq!(outbox.rest(), None);
        assert_eq!(seqs(&outbox.take_ready(i64::MAX, 9)), [2]);
        let letter = outbox.letter(1).unwrap();
        assert_eq!((letter.tries, letter.effect), (2, 'a'));
        assert_eq!((letter.first_tried_at, letter.last_tried_at), (5, 2_010));
        assert_eq!(outbox.gone(1), Some(true));
        assert_eq!((outbox.condemned(), outbox.letter(1)), (None, None));
    }

    #[test]
    fn a_retried_one_leaves_after_its_own_commit_only() {
        let mut outbox = Outbox::default();
        outbox.add(9, 'z');
        outbox.give_back(3, 'c');
        outbox.committed(9);
        // Of an attempt before its death.
        outbox.failed(3, -9_000);
        outbox.condemn(3, -9_000, "late");
        assert_eq!(outbox.next_refusal(3, 0), None);
        assert_eq!(seqs(&outbox.take_ready(0, 9)), [9]);
        outbox.returned(3);
        assert_eq!(seqs(&outbox.take_ready(0, 9)), [3]);
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
        assert_eq!(outbox.gone(2), Some(false));
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
        outbox.gone(2);
        assert_eq!(seqs(&outbox.take_ready(2_100, 1)), [1]);
        outbox.failed(1, 2_100);
        assert_eq!(outbox.next_retry(), Some(6_100));
        assert_eq!(retry_ms(u32::MAX), RETRY_MS_MAX);
    }
}
