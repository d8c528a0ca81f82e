//! Sparse (format-spec.md section 10.4.6): the words that are not zero, and the gaps between
//! them.
//!
//! Where most lanes are those of the base, or zero, their places cost more than a Huffman code of
//! at least one bit for each byte can say, and the planes of the others are dense again.

use crate::codec::choose;
use crate::codec::histogram::{self, Histogram};
use crate::codec::nonzero;
use crate::codec::planes;
use crate::codec::residual;
use crate::codec::simd;
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
/// One block in so many is compared, to see whether the others are worth it.
const SAMPLED_OF: usize = 16;

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

/// The words that are not zero, and where they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parted {
    pub(crate) gaps: Vec<u8>,
    /// One after the other, each as long as there are words.
    pub(crate) planes: Vec<u8>,
    pub(crate) words: usize,
    /// Lanes of the whole chunk.
    pub(crate) lanes: usize,
}

impl Parted {
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            words: self.words,
            gaps: self.gaps.len(),
        }
    }

    /// The planes of the words; none if all are zero.
    pub(crate) fn planes(&self) -> impl Iterator<Item = &[u8]> {
        self.planes.chunks_exact(self.words.max(1))
    }
}

/// Takes words in the order of their lanes.
struct Parting<W> {
    gaps: Vec<u8>,
    kept: Vec<W>,
    next: usize,
}

impl<W: Word> Parting<W> {
    const NEW: Self = Self {
        gaps: Vec::new(),
        kept: Vec::new(),
        next: 0,
    };

    #[inline(always)]
    fn take(&mut self, lane: usize, word: W) {
        let mut gap = lane - self.next;
        while gap >= usize::from(GAP_GOES_ON) {
            self.gaps.push(GAP_GOES_ON);
            gap -= usize::from(GAP_GOES_ON);
        }
        self.gaps.extend(u8::try_from(gap));
        self.kept.push(word);
        self.next = lane + 1;
    }

    fn finish(self, lanes: usize) -> Parted {
        let words = self.kept.len();
        let mut planes = vec![0; words * W::BYTES];
        if words > 0 {
            planes::scatter(&self.kept, 0, words, &mut planes);
        }
        Parted {
            gaps: self.gaps,
            planes,
            words,
            lanes,
        }
    }
}

/// Takes out the words that are not zero.
pub(crate) fn part<W: Word>(words: &[W]) -> Parted {
    let mut parting = Parting::NEW;
    nonzero::each(words, |lane, word| parting.take(lane, word));
    parting.finish(words.len())
}

/// The residual words of the lanes that differ from the base; `None` if they are too many for a
/// patch.
fn part_few<W: Word>(transform: Transform, raw: &[u8], base: &[u8]) -> Option<Parted> {
    let lanes = raw.len() / W::BYTES;
    let most = lanes * PATCH_SHARE_MAX / 100;
    if !may_be_patch::<W>(raw, base) {
        return None;
    }
    let mut parting = Parting::NEW;
    simd::widest(
        #[inline(always)]
        || {
            nonzero::each_difference::<W>(raw, base, |lane, x, b| {
                parting.take(lane, transform.forward(x, b));
                parting.kept.len() <= most
            });
        },
    );
    (parting.kept.len() <= most).then(|| parting.finish(lanes))
}

/// Whether a sample of a chunk has few lanes that differ from the base.
fn may_be_patch<W: Word>(raw: &[u8], base: &[u8]) -> bool {
    let len = nonzero::BLOCK * W::BYTES;
    let blocks = raw.chunks(len).zip(base.chunks(len)).step_by(SAMPLED_OF);
    let (mut changed, mut lanes) = (0, 0);
    for (raw, base) in blocks {
        changed += residual::changed::<W>(raw, base);
        lanes += (raw.len() / W::BYTES) as u64;
    }
    // Twice as many, since a sample may be unlucky.
    changed * 100 <= lanes * 2 * PATCH_SHARE_MAX as u64
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
#[derive(Clone, Debug)]
pub(crate) struct SparseFit {
    /// Estimated bits per lane.
    pub(crate) bits: f32,
    pub(crate) is_patch: bool,
    pub(crate) parted: Parted,
}

/// Judges a chunk by all of its words, but only if a sample of them has zeros enough.
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
    Some(fit(part(&words)))
}

/// The same of a chunk with so few lanes that differ from its base that it is a patch of that.
pub(crate) fn judge_patch<W: Word>(
    transform: Transform,
    raw: &[u8],
    base: &[u8],
) -> Option<SparseFit> {
    part_few::<W>(transform, raw, base).map(fit)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "lanes of a chunk are far below 2^24"
)]
fn fit(parted: Parted) -> SparseFit {
    let bits =
        |stream: &[u8]| choose::stream_bits(&Histogram::of(&histogram::sample_lanes(1, stream)));
    let of_gaps = bits(&parted.gaps) * parted.gaps.len() as f32;
    let of_planes: f32 = parted.planes().map(bits).sum();
    let streams = STREAM_BITS * parted.planes.len() / parted.words.max(1);
    let total = streams as f32 + of_gaps + of_planes * parted.words as f32;
    SparseFit {
        bits: total / parted.lanes.max(1) as f32,
        is_patch: parted.counts().is_patch(parted.lanes),
        parted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Layout, Workspace};
    use crate::dtype::Lane;
    use crate::format::store_file::Level;

    fn there_and_back(words: &[u32]) -> Counts {
        let parted = part(words);
        let counts = parted.counts();
        let planes: Vec<&[u8]> = match counts.words {
            0 => vec![&[]; 4],
            _ => parted.planes().collect(),
        };
        let mut out = vec![0x55; words.len() * 4];
        merge::<u32>(Transform::Identity, &parted.gaps, &planes, &[], &mut out).unwrap();
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

    /// Lanes that differ lie side by side, at the chunk's beginning or its end, or all over it.
    #[test]
    fn a_patch_is_parted_as_all_words_are_or_not_at_all() {
        const LANES: usize = 20_000;
        let base: Vec<u8> = (0..=250).cycle().take(LANES * 4).collect();
        for changed in [0, 1, 300, 1000, 1999, 2000, 2001, 3000, LANES] {
            let apart = LANES / changed.max(1);
            for (first, apart) in [(0, 1), (LANES - changed, 1), (0, apart), (apart - 1, apart)] {
                let mut raw = base.clone();
                (0..changed).for_each(|n| raw[(first + n * apart) * 4] ^= 1);
                let transform = Transform::FloatSubtract;
                let all = part(&histogram::residuals_of::<u32>(transform, &raw, &base));
                assert_eq!(all.words, changed);
                let found = part_few::<u32>(transform, &raw, &base);
                assert_eq!(found.is_some(), changed <= 2000, "{changed}, {apart} apart");
                let Some(found) = found else { continue };
                assert_eq!((found.words, found.lanes), (changed, LANES));
                assert_eq!((found.gaps, found.planes), (all.gaps, all.planes));
            }
        }
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
