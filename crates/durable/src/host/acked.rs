//! Effects that their receiver has accepted and that are still on disk.
//!
//! They stay known until the batch that removes them is durable: if it is refused, the next life
//! finds them on disk again and must not send them again. It neither stores nor sends.

/// Accepted effects by number: those to be removed, and those whose removal is under way.
#[derive(Debug, Default)]
pub(super) struct Acked {
    waiting: Vec<u64>,
    /// Number of the batch, number of the effect.
    under_way: Vec<(u64, u64)>,
}

impl Acked {
    pub(super) fn add(&mut self, seq: u64) {
        self.waiting.push(seq);
    }

    /// Nothing has to be removed that is not on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything that the batch of that number has to remove; batches up to `committed` are
    /// durable.
    pub(super) fn take(&mut self, batch: u64, committed: u64) -> Vec<u64> {
        self.under_way.retain(|(batch, _)| *batch > committed);
        let taken = std::mem::take(&mut self.waiting);
        self.under_way.extend(taken.iter().map(|seq| (batch, *seq)));
        taken
    }

    /// Batches beyond `committed` will never be durable: what they had to remove waits again.
    pub(super) fn give_back(&mut self, committed: u64) {
        let lost = self
            .under_way
            .drain(..)
            .filter(|(batch, _)| *batch > committed);
        self.waiting.extend(lost.map(|(_, seq)| seq));
    }

    pub(super) fn waiting(&self) -> &[u64] {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_was_refused_waits_again() {
        let mut acked = Acked::default();
        acked.add(7);
        assert_eq!(acked.take(1, 0), [7]);
        acked.add(8);
        assert_eq!(acked.take(2, 1), [8]);
        assert!(acked.is_empty());
        acked.give_back(1);
        assert_eq!(acked.waiting(), [8]);
        assert_eq!(acked.take(3, 1), [8]);
        acked.give_back(3);
        assert!(acked.is_empty());
    }
}
