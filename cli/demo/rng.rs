//! The random source of a training run: `SplitMix64`, whose whole state is one
//! word, so a checkpoint can carry it (Steele, Lea & Flood 2014, "Fast
//! Splittable Pseudorandom Number Generators").

/// The bytes of a saved generator state.
pub(crate) const STATE_BYTES: usize = 8;

pub(super) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A whole number in `0..bound`, or 0 where `bound` is 0. The bias of the
    /// remainder is far below anything a text of a few kilobytes can show.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let draw = (self.next() >> 32) as u32;
        (draw as usize).checked_rem(bound).unwrap_or(0)
    }

    /// A uniform draw from `[0, 1)`: 24 bits, so every value is exact in `f32`.
    pub(super) fn unit(&mut self) -> f32 {
        const STEP: f32 = 1.0 / 16_777_216.0;
        (self.next() >> 40) as f32 * STEP
    }

    pub(super) fn state(&self) -> [u8; STATE_BYTES] {
        self.state.to_le_bytes()
    }

    pub(super) fn from_state(state: [u8; STATE_BYTES]) -> Self {
        Self::new(u64::from_le_bytes(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_sequence() {
        let mut rng = SplitMix64::new(1_234_567);
        let drawn = [rng.next(), rng.next(), rng.next()];
        let published = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
        ];
        assert_eq!(drawn, published);
    }

    #[test]
    fn a_saved_state_continues_the_sequence() {
        let mut rng = SplitMix64::new(9);
        rng.next();
        let mut resumed = SplitMix64::from_state(rng.state());
        assert_eq!(rng.next(), resumed.next());
    }

    #[test]
    fn draws_stay_in_range() {
        let mut rng = SplitMix64::new(3);
        assert!((0..1000).all(|_| rng.below(7) < 7));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&rng.unit())));
        assert_eq!(rng.below(0), 0);
    }
}
