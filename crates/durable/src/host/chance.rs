//! Where a host takes its random numbers from: the system, or a seed for runs that repeat.
//!
//! It knows nobody who asks.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use rand::distr::{Distribution, StandardUniform};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[derive(Debug)]
pub(super) enum Chance {
    System,
    Seeded(Box<Mutex<StdRng>>),
}

impl Chance {
    /// Each epoch has numbers of its own, or a second run on a store would repeat its nonces.
    pub(super) fn new(seed: Option<u64>, epoch: u64) -> Self {
        match seed {
            None => Self::System,
            Some(seed) => {
                let mut mixed = [0; 32];
                let (first, rest) = mixed.split_at_mut(8);
                first.copy_from_slice(&seed.to_be_bytes());
                if let Some(second) = rest.first_chunk_mut() {
                    *second = epoch.to_be_bytes();
                }
                Self::Seeded(Box::new(Mutex::new(StdRng::from_seed(mixed))))
            }
        }
    }

    pub(super) fn draw<T>(&self) -> T
    where
        StandardUniform: Distribution<T>,
    {
        match self {
            Self::System => rand::random(),
            Self::Seeded(numbers) => lock(numbers).random(),
        }
    }

    pub(super) fn within(&self, range: RangeInclusive<u64>) -> u64 {
        if range.is_empty() {
            return *range.end();
        }
        match self {
            Self::System => rand::rng().random_range(range),
            Self::Seeded(numbers) => lock(numbers).random_range(range),
        }
    }
}

fn lock(numbers: &Mutex<StdRng>) -> std::sync::MutexGuard<'_, StdRng> {
    numbers.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_an_epoch_does_not() {
        let first = |seed, epoch| Chance::new(seed, epoch).draw::<u128>();
        assert_eq!(first(Some(7), 1), first(Some(7), 1));
        assert_ne!(first(Some(7), 1), first(Some(7), 2));
        assert_ne!(first(Some(7), 1), first(Some(8), 1));
        assert_ne!(first(None, 1), first(None, 1));
    }

    #[test]
    fn an_empty_range_is_its_end() {
        let chance = Chance::new(Some(1), 1);
        assert_eq!(chance.within(RangeInclusive::new(3, 1)), 1);
        assert_eq!(chance.within(4..=4), 4);
    }
}
