//! Counts of durations in buckets of about 1.5 %: cheap to fill, good for percentiles.
//!
//! It knows microseconds and nothing of what was measured.

const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const BUCKETS: usize = 64 * 40;

pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }

    pub(crate) fn add(&mut self, us: u64) {
        let place = bucket(us).min(BUCKETS - 1);
        self.counts[place] += 1;
        self.total += 1;
        self.max = self.max.max(us);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The upper end of the bucket below which that many per mille lie.
    pub(crate) fn per_mille(&self, wanted: u64) -> u64 {
        let rank = (self.total * wanted).div_ceil(1_000);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return upper(place).min(self.max);
            }
        }
        self.max
    }
}

/// Exact below 64, then 64 buckets per doubling.
fn bucket(us: u64) -> usize {
    let shift = us.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    let place = u64::from(shift) * STEPS + (us >> shift);
    usize::try_from(place).unwrap_or(usize::MAX)
}

fn upper(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    let shift = (place / STEPS).saturating_sub(1);
    ((place - shift * STEPS + 1) << shift) - 1
}
