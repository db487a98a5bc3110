//! A seeded source of random bits (splitmix64), so that a simulated run can be replayed.
//!
//! Used for jitter only. Nothing that must be hard to guess comes from here.

use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In [0, span).
    pub fn within(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.unit())
    }

    /// In [0, below); 0 where there is nothing to choose from.
    pub fn below(&mut self, below: u64) -> u64 {
        self.bits().checked_rem(below).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bits_and_units_stay_below_one() {
        let (mut a, mut b) = (Random::seeded(7), Random::seeded(7));
        for _ in 0..1000 {
            assert_eq!(a.bits(), b.bits());
            assert!((0.0..1.0).contains(&a.unit()));
            b.unit();
        }
        assert_eq!(a.below(0), 0);
        assert!(a.within(Duration::from_secs(2)) < Duration::from_secs(2));
    }
}
