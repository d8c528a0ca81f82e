//! Byte counts of a sample of lanes, and what an order-0 coder would make of them.

use std::ops::Range;
use std::sync::LazyLock;

use crate::codec::residual;
use crate::codec::transform::Transform;
use crate::codec::word::{Word, with_word};

/// Lanes of a sample: small against a chunk, large against 256 symbols.
pub(crate) const SAMPLE_LANES: usize = 4096;
/// Runs that a sample is taken in, spread over the chunk.
const SAMPLE_RUNS: usize = 8;

/// `n * log2(n)` for every count that a sample can hold.
static COUNT_LOG: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let n_log_n = |n: u16| {
        if n == 0 {
            0.0
        } else {
            f32::from(n) * f32::from(n).log2()
        }
    };
    (0..=4096u16).map(n_log_n).collect()
});

/// The byte counts of one plane of a sample.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: [u16; 256],
    total: u16,
}

impl Histogram {
    /// Bits per symbol of an order-0 coder, with the Miller-Madow correction for the sample's
    /// size (Miller 1955), at most 8.
    pub(crate) fn entropy(&self) -> f32 {
        if self.total == 0 {
            return 0.0;
        }
        let table = &*COUNT_LOG;
        let n_log_n = |count: u16| table.get(usize::from(count)).copied().unwrap_or_default();
        let total = f32::from(self.total);
        let sum: f32 = self.counts.iter().map(|c| n_log_n(*c)).sum();
        let distinct = self.counts.iter().fold(0u16, |n, c| n + u16::from(*c > 0));
        let correction = f32::from(distinct - 1) / (2.0 * total * std::f32::consts::LN_2);
        (total.log2() - sum / total + correction).min(8.0)
    }

    /// The share of the most frequent symbol.
    pub(crate) fn peak(&self) -> f32 {
        let most = self.counts.iter().copied().max().unwrap_or_default();
        f32::from(most) / f32::from(self.total.max(1))
    }
}

impl Histogram {
    /// Counts bytes, at most [`SAMPLE_LANES`] of them.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut histogram = Self {
            counts: [0; 256],
            total: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
        };
        // Two tables by turns: a count that was just written is slow to read again.
        let mut others = [0u16; 256];
        let (pairs, rest) = bytes.as_chunks::<2>();
        for [a, b] in pairs {
            histogram.counts[usize::from(*a)] += 1;
            others[usize::from(*b)] += 1;
        }
        for byte in rest {
            others[usize::from(*byte)] += 1;
        }
        let counts = histogram.counts.iter_mut().zip(others);
        counts.for_each(|(count, other)| *count += other);
        histogram
    }
}

/// Up to [`SAMPLE_LANES`] of so many lanes, in runs spread from the first lane to the last.
pub(crate) fn sample_runs(lanes: usize) -> impl Iterator<Item = Range<usize>> {
    let few = lanes <= SAMPLE_LANES;
    let (runs, run) = if few {
        (1, lanes)
    } else {
        (SAMPLE_RUNS, SAMPLE_LANES / SAMPLE_RUNS)
    };
    let start = move |index: usize| (lanes - run) * index / (SAMPLE_RUNS - 1);
    (0..runs).map(move |index| start(index)..start(index) + run)
}

/// The lanes of a slice that [`sample_runs`] names.
pub(crate) fn sample_lanes(width: usize, bytes: &[u8]) -> Vec<u8> {
    let runs = sample_runs(bytes.len() / width);
    let mut sample = Vec::with_capacity(bytes.len().min(SAMPLE_LANES * width));
    for run in runs {
        let range = run.start * width..run.end * width;
        sample.extend_from_slice(bytes.get(range).unwrap_or_default());
    }
    sample
}

/// The histograms of every plane of the residuals of sampled lanes.
pub(crate) fn planes_of(
    width: usize,
    transform: Transform,
    raw: &[u8],
    base: &[u8],
) -> Vec<Histogram> {
    with_word!(width, W => planes_of_words(&residuals_of::<W>(transform, raw, base)))
}

/// The residual words of a sample.
pub(crate) fn residuals_of<W: Word>(transform: Transform, raw: &[u8], base: &[u8]) -> Vec<W> {
    let mut words = vec![W::ZERO; raw.len() / W::BYTES];
    residual::residuals(transform, raw, base, &mut words);
    words
}

/// The histograms of every plane of at most [`SAMPLE_LANES`] words.
pub(crate) fn planes_of_words<W: Word>(words: &[W]) -> Vec<Histogram> {
    let none = Histogram {
        counts: [0; 256],
        total: u16::try_from(words.len()).unwrap_or(u16::MAX),
    };
    let mut planes = vec![none; W::BYTES];
    // Word by word: the counts of different planes do not wait for each other.
    for word in words {
        for (index, plane) in planes.iter_mut().enumerate() {
            plane.counts[usize::from(word.byte(index))] += 1;
        }
    }
    planes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_bytes_look_incompressible_and_constants_free() {
        let mut state = 9u64;
        let noise: Vec<u8> = (0..262_144)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56).to_le_bytes()[0]
            })
            .collect();
        for histogram in planes_of(4, Transform::Identity, &sample_lanes(4, &noise), &[]) {
            assert!(histogram.entropy() > 7.95, "{}", histogram.entropy());
        }
        for histogram in planes_of(2, Transform::Identity, &[7; 512], &[]) {
            assert!(histogram.entropy() < 0.001 && histogram.peak() > 0.999);
        }
    }

    #[test]
    fn the_sample_reaches_both_ends() {
        let mut raw = vec![0u8; 100_000];
        raw[99_999] = 1;
        raw[0] = 2;
        let counts = &planes_of(1, Transform::Identity, &sample_lanes(1, &raw), &[])[0].counts;
        assert_eq!((counts[1], counts[2]), (1, 1));
    }
}
