//! Effects that their receiver has accepted and that are still on disk.
//!
//! They stay known until the batch that removes them is durable: if it is refused, the next life
//! finds them on disk again and must not send them again. It neither stores nor sends.

/// An accepted effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) seq: u64,
    /// Refusals of it may be on disk beside it.
    pub(super) refused: bool,
}

/// Accepted effects: those to be removed, and those whose removal is under way.
#[derive(Debug, Default)]
pub(super) struct Acked {
    waiting: Vec<Accepted>,
    /// With the number of the batch.
    under_way: Vec<(u64, Accepted)>,
}

impl Acked {
    pub(super) fn add(&mut self, seq: u64, refused: bool) {
        self.waiting.push(Accepted { seq, refused });
    }

    /// Nothing has to be removed that is not on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Everything that the batch of that number has to remove; batches up to `committed` are
    /// durable.
    pub(super) fn take(&mut self, batch: u64, committed: u64) -> Vec<Accepted> {
        self.under_way.retain(|(batch, _)| *batch > committed);
        let taken = std::mem::take(&mut self.waiting);
        self.under_way
            .extend(taken.iter().map(|effect| (batch, *effect)));
        taken
    }

    /// Batches beyond `committed` will never be durable: what they had to remove waits again.
    pub(super) fn give_back(&mut self, committed: u64) {
        let lost = self
            .under_way
            .drain(..)
            .filter(|(batch, _)| *batch > committed);
        self.waiting.extend(lost.map(|(_, effect)| effect));
    }

    pub(super) fn waiting(&self) -> &[Accepted] {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(accepted: &[Accepted]) -> Vec<u64> {
        accepted.iter().map(|effect| effect.seq).collect()
    }

    #[test]
    fn a_removal_that_was_refused_waits_again() {
        let mut acked = Acked::default();
        acked.add(7, false);
        assert_eq!(numbers(&acked.take(1, 0)), [7]);
        acked.add(8, true);
        assert_eq!(numbers(&acked.take(2, 1)), [8]);
        assert!(acked.is_empty());
        acked.give_back(1);
        assert_eq!(numbers(acked.waiting()), [8]);
        assert!(acked.take(3, 1).iter().all(|effect| effect.refused));
        acked.give_back(3);
        assert!(acked.is_empty());
    }
}
