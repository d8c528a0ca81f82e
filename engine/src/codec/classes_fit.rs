//! Classes, learnt from a chunk: cheap guesses that cost bytes when wrong, never correctness.

use crate::codec::classes::{CLASSES_MAX, Class, Classes, RICE_MAX};
use crate::codec::leading::{ESCAPE, Shifts};
use crate::codec::word::Word;

/// The classes are learnt from one lane in this many of a large chunk.
const LEARN_STRIDE: usize = 4;
/// A chunk with fewer lanes is learnt from whole.
const LEARN_ALL_BELOW: usize = 1 << 14;
/// What a Huffman table and the heads of a stream take, in bits.
const STREAM_BITS: f32 = 8.0 * 48.0;
/// What a sparse class takes beside its gaps and values, in bits.
const SPARSE_BITS: f32 = 8.0 * 4.0;
/// Huffman codes waste this much against the entropy.
const HUFFMAN_WASTE: f32 = 1.01;
/// Rice codes of gaps waste this much against the entropy of where the changes are.
const RICE_WASTE: f32 = 1.04;

/// One sparse class is decoded at the speed of a copy, so a chain of such records may be long and
/// needs a record that stands alone more seldom: that is worth this much in length.
const PATCH_WORTH: f32 = 1.4;
/// With more changes than this, in hundredths of the lanes, a patch is no faster.
const PATCH_CHANGES_MAX: u32 = 10;

/// Classes that were learnt, and what coding by them takes.
#[derive(Clone, Debug)]
pub(crate) struct ClassesFit {
    pub(crate) classes: Classes,
    /// Estimated bits per lane.
    pub(crate) bits: f32,
}

/// Neighbouring keys with one shift, and the leading bytes of their words.
#[derive(Clone)]
struct Segment {
    first_key: u8,
    shift: u8,
    counts: Box<[u32; 256]>,
    total: u32,
    /// Low bits and escapes, which no table makes shorter.
    raw_bits: f32,
    coded_bits: f32,
    is_sparse: bool,
}

/// Learns classes for residual words of a base; `None` for too few.
#[expect(
    clippy::cast_precision_loss,
    reason = "lanes of a chunk are far below 2^24"
)]
pub(crate) fn learn<W: Word>(words: &[W], base: &[u8]) -> Option<ClassesFit> {
    if words.is_empty() || base.len() != size_of_val(words) {
        return None;
    }
    let stride = if words.len() < LEARN_ALL_BELOW {
        1
    } else {
        LEARN_STRIDE
    };
    let scale = words.len().div_ceil(stride) as f32 / words.len() as f32;
    let shifts = Shifts::learn(words, base);
    let mut segments = segments(words, base, &shifts, stride, scale);
    let patch = patch_of(&segments, scale);
    merge_neighbours(&mut segments, scale);
    let mut bits = segments
        .iter()
        .map(|s| s.coded_bits + s.raw_bits)
        .sum::<f32>();
    if let Some(patch) = patch.filter(|p| p.coded_bits + p.raw_bits <= bits * PATCH_WORTH) {
        bits = patch.coded_bits + patch.raw_bits;
        segments = vec![patch];
    }
    let class = |(place, s): (usize, &Segment)| Class {
        first_key: if place == 0 { 0 } else { s.first_key },
        shift: s.shift,
        rice: s.is_sparse.then(|| rice_of(s.total, s.counts[0])),
    };
    Some(ClassesFit {
        classes: Classes(segments.iter().enumerate().map(class).collect()),
        bits: bits / scale / words.len() as f32,
    })
}

/// A segment for each key that occurs.
fn segments<W: Word>(
    words: &[W],
    base: &[u8],
    shifts: &Shifts,
    stride: usize,
    scale: f32,
) -> Vec<Segment> {
    let mut place = [u16::MAX; 256];
    let mut counts: Vec<Box<[u32; 256]>> = Vec::new();
    let lanes = words
        .iter()
        .zip(base.chunks_exact(W::BYTES))
        .step_by(stride);
    for (word, b) in lanes {
        let key = W::load(b).key();
        let slot = &mut place[usize::from(key)];
        if *slot == u16::MAX {
            *slot = u16::try_from(counts.len()).unwrap_or(0);
            counts.push(Box::new([0; 256]));
        }
        let leading = (word.to_u64() >> shifts.of(key)).min(ESCAPE.into());
        if let Some(counts) = counts.get_mut(usize::from(*slot)) {
            counts[usize::from(leading.to_le_bytes()[0])] += 1;
        }
    }
    let width = u32::try_from(W::BYTES).unwrap_or(8) * 8;
    let segment = |(key, slot): (u8, u16)| {
        let counts = counts.get(usize::from(slot))?;
        let shift = shifts.of(key);
        let total: u32 = counts.iter().sum();
        let escapes = counts[usize::from(ESCAPE)];
        let raw = u64::from(escapes * width) + u64::from(total - escapes) * u64::from(shift);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let mut segment = Segment {
            first_key: key,
            shift: u8::try_from(shift).unwrap_or(0),
            counts: counts.clone(),
            total,
            raw_bits: raw as f32,
            coded_bits: 0.0,
            is_sparse: false,
        };
        segment.judge(scale);
        Some(segment)
    };
    (0u8..=255).zip(place).filter_map(segment).collect()
}

impl Segment {
    /// The cheaper of a stream of its own and gaps.
    fn judge(&mut self, scale: f32) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let number = |n: u32| n as f32;
        let n_log_n = |n: f32| if n > 0.0 { n * n.log2() } else { 0.0 };
        let (zeros, total) = (number(self.counts[0]), number(self.total));
        let others = total - zeros;
        let (_, nonzero) = self.counts.split_at(1);
        let of_nonzero: f32 = nonzero
            .iter()
            .filter(|n| **n > 0)
            .map(|n| n_log_n(number(*n)))
            .sum();
        let entropy = n_log_n(total) - n_log_n(zeros) - of_nonzero;
        let is_constant = zeros == total;
        let floor = if is_constant { 0.0 } else { total };
        let dense = (entropy * HUFFMAN_WASTE).max(floor) + STREAM_BITS * scale;
        let places = n_log_n(total) - n_log_n(zeros) - n_log_n(others);
        let values = (n_log_n(others) - of_nonzero).max(others.min(64.0));
        let sparse = places * RICE_WASTE + values * HUFFMAN_WASTE + SPARSE_BITS * scale;
        self.is_sparse = self.shift == 0 && sparse < dense;
        self.coded_bits = if self.is_sparse { sparse } else { dense };
    }

    fn joined(&self, next: &Self, scale: f32) -> Option<Self> {
        if self.shift != next.shift {
            return None;
        }
        let mut joined = self.clone();
        for (count, more) in joined.counts.iter_mut().zip(next.counts.iter()) {
            *count += more;
        }
        joined.total += next.total;
        joined.raw_bits += next.raw_bits;
        joined.judge(scale);
        Some(joined)
    }
}

/// All segments as one sparse class, if few lanes change.
fn patch_of(segments: &[Segment], scale: f32) -> Option<Segment> {
    let (first, rest) = segments.split_first()?;
    let mut all = first.clone();
    for segment in rest {
        all = all.joined(segment, scale)?;
    }
    let changes = all.total - all.counts[0];
    (all.is_sparse && changes * 100 <= all.total * PATCH_CHANGES_MAX).then_some(all)
}

/// Joins neighbours while that makes the whole shorter, the best first, and until there are few
/// enough.
fn merge_neighbours(segments: &mut Vec<Segment>, scale: f32) {
    let gain = |pair: &[Segment]| -> Option<(f32, Segment)> {
        let [a, b] = pair else { return None };
        let joined = a.joined(b, scale)?;
        Some((a.coded_bits + b.coded_bits - joined.coded_bits, joined))
    };
    let mut gains: Vec<_> = segments.windows(2).map(gain).collect();
    loop {
        let best = gains
            .iter()
            .enumerate()
            .filter_map(|(at, g)| Some((at, g.as_ref()?.0)));
        let Some((at, most)) = best.max_by(|a, b| a.1.total_cmp(&b.1)) else {
            break;
        };
        if most <= 0.0 && segments.len() <= CLASSES_MAX {
            break;
        }
        let Some((_, joined)) = gains.remove(at) else {
            break;
        };
        segments.remove(at + 1);
        if let Some(slot) = segments.get_mut(at) {
            *slot = joined;
        }
        for near in [at.checked_sub(1), Some(at)].into_iter().flatten() {
            if let (Some(slot), Some(pair)) = (gains.get_mut(near), segments.get(near..near + 2)) {
                *slot = gain(pair);
            }
        }
    }
    // Shifts that differ keep segments apart: those beyond the limit join the last.
    while segments.len() > CLASSES_MAX {
        segments.pop();
    }
}

/// The Rice parameter for gaps between so few that are not zero (Kiely, 2004).
fn rice_of(total: u32, zeros: u32) -> u8 {
    let mean = f64::from(zeros) / f64::from(total - zeros + 1);
    let best = (mean * std::f64::consts::LN_2 + 1.0).log2().round();
    (0..=RICE_MAX)
        .rev()
        .find(|k| f64::from(*k) <= best)
        .unwrap_or(0)
}
