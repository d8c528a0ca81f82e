//! Sparse (format-spec.md section 10.4.6): the words that are not zero, and the gaps between
//! them.
//!
//! Where most lanes are those of the base, or zero, their places cost more than a Huffman code of
//! at least one bit for each byte can say, and the planes of the others are dense again.

use crate::codec::choose;
use crate::codec::histogram::{self, Histogram};
use crate::codec::nonzero;
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};

/// A byte of the gaps that says: so many lanes, and the gap goes on.
pub(crate) const GAP_GOES_ON: u8 = 255;
/// With more words than this that are not zero, in hundredths, planes are as good.
const SHARE_MAX: usize = 75;
/// What the head and the table of a stream take, in bits.
const STREAM_BITS: usize = 8 * 20;
/// With fewer changes than this, in hundredths, decoding is as fast as a copy.
const PATCH_SHARE_MAX: usize = 10;

/// How much a record of this layout holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Words that are stored.
    pub(crate) words: usize,
    /// Bytes of the gaps.
    pub(crate) gaps: usize,
}

impl Counts {
    pub(crate) const PARAMS_LEN: usize = 8;

    pub(crate) fn to_params(self) -> Vec<u8> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut w = Writer::new();
        w.u32(count(self.words)).u32(count(self.gaps));
        w.finish()
    }

    /// Reads the parameters of a record of so many lanes.
    pub(crate) fn from_params(params: &[u8], lanes: usize) -> Result<Self> {
        let bad = || Error::corrupt("sparse-params", "a record's counts break their rules");
        if params.len() != Self::PARAMS_LEN {
            return Err(bad());
        }
        let mut r = Reader::new(params, 0);
        let (words, gaps) = (r.u32()? as usize, r.u32()? as usize);
        let longest = words + lanes / usize::from(GAP_GOES_ON);
        if words > lanes || gaps < words || gaps > longest {
            return Err(bad());
        }
        Ok(Self { words, gaps })
    }

    /// Whether most lanes are copied.
    pub(crate) const fn is_patch(self, lanes: usize) -> bool {
        self.words * 100 <= lanes * PATCH_SHARE_MAX
    }
}

/// Takes out the words that are not zero: they go to `kept`, the gaps before each to `gaps`.
pub(crate) fn split<W: Word>(words: &[W], gaps: &mut Vec<u8>, kept: &mut Vec<W>) -> Counts {
    gaps.clear();
    kept.clear();
    let mut next = 0;
    nonzero::each(words, |at, word| {
        let mut gap = at - next;
        while gap >= usize::from(GAP_GOES_ON) {
            gaps.push(GAP_GOES_ON);
            gap -= usize::from(GAP_GOES_ON);
        }
        gaps.extend(u8::try_from(gap));
        kept.push(word);
        next = at + 1;
    });
    Counts {
        words: kept.len(),
        gaps: gaps.len(),
    }
}

/// Puts the lanes together: those of the base, or zeros, and at the gaps' ends those of the
/// planes.
pub(crate) fn merge<W: Word>(
    transform: Transform,
    gaps: &[u8],
    planes: &[&[u8]],
    base: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let bad = || Error::corrupt("sparse-gaps", "a record's gaps do not lead to its words");
    if transform.needs_base() {
        out.copy_from_slice(base);
    } else {
        out.fill(0);
    }
    let words = planes.first().map_or(0, |plane| plane.len());
    let (mut at, mut found, mut goes_on) = (0, 0, false);
    for gap in gaps {
        at += usize::from(*gap);
        goes_on = *gap == GAP_GOES_ON;
        if goes_on {
            continue;
        }
        let lane = out.get_mut(at * W::BYTES..(at + 1) * W::BYTES);
        let lane = lane.ok_or_else(bad)?;
        let mut word = W::ZERO;
        for (index, plane) in planes.iter().enumerate() {
            word = word.with_byte(index, *plane.get(found).ok_or_else(bad)?);
        }
        // A lane that is not changed yet holds the base.
        let b = if transform.needs_base() {
            W::load(lane)
        } else {
            W::ZERO
        };
        transform.inverse(word, b).store(lane);
        (at, found) = (at + 1, found + 1);
    }
    if goes_on || found != words {
        return Err(bad());
    }
    Ok(())
}

/// What coding a chunk this way takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SparseFit {
    /// Estimated bits per lane.
    pub(crate) bits: f32,
    pub(crate) is_patch: bool,
}

/// Judges a chunk by all of its words, but only if a sample of them has zeros enough.
#[expect(
    clippy::cast_precision_loss,
    reason = "lanes of a chunk are far below 2^24"
)]
pub(crate) fn judge<W: Word>(
    transform: Transform,
    raw: &[u8],
    base: &[u8],
    sample: (&[u8], &[u8]),
) -> Option<SparseFit> {
    let sampled: Vec<W> = histogram::residuals_of(transform, sample.0, sample.1);
    let zeros = sampled.iter().filter(|word| **word == W::ZERO).count();
    if (sampled.len() - zeros) * 100 > sampled.len() * SHARE_MAX {
        return None;
    }
    let words: Vec<W> = histogram::residuals_of(transform, raw, base);
    let (mut gaps, mut kept) = (Vec::new(), Vec::new());
    let counts = split(&words, &mut gaps, &mut kept);
    let of_gaps = choose::stream_bits(&Histogram::of(&histogram::sample_lanes(1, &gaps)));
    let sampled = histogram::sample_lanes(W::BYTES, bytemuck::cast_slice(&kept));
    let planes = histogram::planes_of(W::BYTES, Transform::Identity, &sampled, &[]);
    let of_word: f32 = planes.iter().map(choose::stream_bits).sum();
    let streams = (STREAM_BITS * W::BYTES) as f32;
    let total = streams + of_gaps * gaps.len() as f32 + of_word * kept.len() as f32;
    Some(SparseFit {
        bits: total / words.len().max(1) as f32,
        is_patch: counts.is_patch(words.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Layout, Workspace};
    use crate::dtype::Lane;
    use crate::format::store_file::Level;

    fn there_and_back(words: &[u32]) -> Counts {
        let (mut gaps, mut kept) = (Vec::new(), Vec::new());
        let counts = split(words, &mut gaps, &mut kept);
        let planes: Vec<Vec<u8>> = (0..4)
            .map(|index| kept.iter().map(|word| word.byte(index)).collect())
            .collect();
        let planes: Vec<&[u8]> = planes.iter().map(Vec::as_slice).collect();
        let mut out = vec![0x55; words.len() * 4];
        merge::<u32>(Transform::Identity, &gaps, &planes, &[], &mut out).unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(out, expected);
        assert_eq!(
            Counts::from_params(&counts.to_params(), words.len()).unwrap(),
            counts
        );
        counts
    }

    #[test]
    fn gaps_of_every_length_lead_back() {
        for gap in [0, 1, 254, 255, 256, 509, 510, 511, 1000] {
            let mut words = vec![0; gap];
            words.push(7);
            words.extend(vec![0; gap]);
            words.push(u32::MAX);
            words.extend([0; 3]);
            let counts = there_and_back(&words);
            assert_eq!((counts.words, counts.gaps), (2, 2 + 2 * (gap / 255)));
        }
        assert_eq!(there_and_back(&[0; 600]).gaps, 0, "zeros alone");
        assert_eq!(there_and_back(&[5; 600]).gaps, 600, "no zeros");
    }

    #[test]
    fn gaps_that_lead_nowhere_are_refused() {
        let refused = |gaps: &[u8], words: usize| {
            let plane = vec![1; words];
            let mut out = [0; 300];
            merge::<u8>(Transform::Identity, gaps, &[&plane], &[], &mut out).is_err()
        };
        assert!(!refused(&[255, 44], 1), "the last lane");
        assert!(refused(&[255, 45], 1), "behind the last lane");
        assert!(refused(&[255], 0), "a gap that goes on and does not end");
        assert!(refused(&[3], 0), "more gaps than words");
        assert!(refused(&[3], 2), "more words than gaps");
    }

    /// One value in so many changes a little, or one lane in so many is not zero: the record is
    /// near the entropy of where that is and of what is there.
    #[test]
    fn rare_values_cost_their_places_and_themselves() {
        let mut state = 3u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(9);
            u32::try_from(state >> 33).unwrap()
        };
        for every in [2, 5, 20, 100] {
            let (mut base, mut moved, mut rare) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..65_536 {
                let value = 0x3c00_0000 + random() % (1 << 24);
                let hit = random() % every == 0;
                base.extend(value.to_le_bytes());
                moved.extend((value + if hit { random() % (1 << 16) } else { 0 }).to_le_bytes());
                rare.extend(if hit { value } else { 0 }.to_le_bytes());
            }
            let share = 1.0 / f64::from(every);
            let places = -share * share.log2() - (1.0 - share) * (1.0 - share).log2();
            let best = |bits: f64| (places + share * bits) * 65_536.0 / 8.0;
            costs_about(&moved, Some(&base), best(16.0));
            costs_about(&rare, None, best(24.0));
        }
    }

    fn costs_about(raw: &[u8], base: Option<&[u8]>, best: f64) {
        let lane = Lane {
            width: 4,
            float: true,
        };
        let estimate = match base {
            Some(base) => codec::estimate(raw, base, lane),
            None => codec::estimate_alone(raw, lane),
        };
        assert_eq!(estimate.method.layout, Layout::Sparse, "best: {best:.0}");
        let (method, mut record) = (estimate.method, Vec::new());
        let (level, mut workspace) = (Level::Fast, Workspace::default());
        codec::encode(raw, base, lane, method, level, &mut workspace, &mut record).unwrap();
        let len = record.len() as f64;
        assert!(len < best * 1.06 + 200.0, "{len} bytes, {best:.0} at best");
        let guess = estimate.stored_len as f64 / len;
        assert!((0.9..1.1).contains(&guess), "an estimate of {guess:.2}");
    }
}
