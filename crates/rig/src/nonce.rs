//! Fresh bits for one step, made from its nonce alone, so that a replay draws the same.
//!
//! Owns the mixing. Knows no source of randomness: the nonce reaches the core as an argument.

/// Draws from one step's nonce.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nonce {
    seed: u128,
    drawn: u64,
}

impl Nonce {
    pub(crate) fn new(seed: u128) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(crate) fn draw(&mut self) -> u128 {
        self.drawn += 1;
        let low = splitmix(u64::try_from(self.seed & u128::from(u64::MAX)).unwrap_or(0));
        let high = u64::try_from(self.seed >> 64).unwrap_or(0);
        let mixed = splitmix(low ^ splitmix(high).wrapping_add(self.drawn));
        (u128::from(mixed) << 64) | u128::from(splitmix(mixed ^ high))
    }

    pub(crate) fn random(&mut self) -> u64 {
        u64::try_from(self.draw() >> 64).unwrap_or(0)
    }
}

/// The finaliser of the `SplitMix64` generator: a bijection that spreads every bit.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
