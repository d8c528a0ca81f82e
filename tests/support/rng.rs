//! Reproducible pseudo-random numbers: SplitMix64, the same on every machine.

/// A generator; equal seeds give equal numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// Scatters the bits of a number.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator for one place among many: independent of how often others were asked.
    pub(crate) fn at(places: &[u64]) -> Self {
        Self(places.iter().fold(0, |seed, place| mix(seed ^ mix(*place))))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap_or_default()
    }

    /// Whether something that happens in that many of a hundred cases happens now.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}

#[test]
fn the_numbers_are_those_of_splitmix64() {
    let mut rng = Rng::new(1_234_567);
    let first: Vec<u64> = (0..3).map(|_| rng.next()).collect();
    assert_ne!(first[0], first[1]);
    let mut again = Rng::new(1_234_567);
    assert_eq!(first, (0..3).map(|_| again.next()).collect::<Vec<_>>());
    assert_ne!(Rng::at(&[1, 2]).next(), Rng::at(&[2, 1]).next());
}
