//! Which transform, layout and coders, from a sample: cheap guesses that cost bytes when wrong,
//! never correctness.

use crate::codec::classes_fit::{self, ClassesFit};
use crate::codec::coder::ZstdMode;
use crate::codec::grid_fit::{self, Fit};
use crate::codec::histogram::{self, Histogram};
use crate::codec::leading::{self, Shifts};
use crate::codec::palette::{self, PaletteFit};
use crate::codec::sparse::{self, SparseFit};
use crate::codec::transform::Transform;
use crate::codec::word::{Word, with_word};
use crate::codec::{Form, Layout, Rows};
use crate::dtype::Lane;
use crate::format::store_file::Level;

/// Above this many bits per byte a plane is stored raw and never tried.
const INCOMPRESSIBLE_BITS: f32 = 7.96;
/// Above this share of one symbol, runs pay more than Huffman codes of at least one bit.
const RUNS_PEAK: f32 = 0.85;

/// A grid must gain a little over the simpler layouts, which are faster to decode.
const GRID_HANDICAP: f32 = 1.003;

/// What a patch of wide lanes may take more than another layout, in bits a lane: it restores in a
/// fraction of the time, which leaves room for more records behind it. Of narrow lanes it would be
/// most of what they take (`docs/decisions/0014-rows-that-were-touched.md`).
const PATCH_ALLOWANCE: f32 = 1.12;
/// Bytes of lanes that are wide.
const WIDE_LANE: usize = 4;

/// How a chunk's words are made and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// What is done to each lane.
    pub transform: Transform,
    /// How the words become streams.
    pub layout: Layout,
}

impl Method {
    /// Bytes as they are.
    pub(crate) const WHOLE: Self = Self {
        transform: Transform::Identity,
        layout: Layout::Whole,
    };

    /// Whether it needs a base.
    #[must_use]
    pub const fn needs_base(self) -> bool {
        self.transform.needs_base() || matches!(self.layout, Layout::GridDelta)
    }
}

/// What is worth trying on one stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StreamPlan {
    Raw,
    Zstd(ZstdMode),
}

/// The transforms that may pay, the best for most chunks first.
const fn transforms(lane: Lane, with_base: bool) -> &'static [Transform] {
    match (lane.float, with_base) {
        (true, false) if lane.width > 1 => &[Transform::Rotate],
        (_, false) => &[Transform::Identity],
        (true, true) => &[Transform::FloatSubtract, Transform::RotatedXor],
        (false, true) => &[Transform::IntSubtract, Transform::Xor],
    }
}

/// Whether exponents may tell how much of a short float changes.
const fn has_classes(lane: Lane) -> bool {
    lane.float && lane.width <= 2
}

/// The methods that may pay for a form, simplest first.
pub(crate) fn candidates(form: Form, with_base: bool) -> Vec<Method> {
    let lane = form.lane;
    let transforms = transforms(lane, with_base);
    let planes = transforms.iter().map(|t| Method {
        transform: *t,
        layout: Layout::Planes,
    });
    let subtracted = transforms
        .first()
        .filter(|_| with_base && lane.float && lane.width > 1);
    let leading = subtracted.map(|t| Method {
        transform: *t,
        layout: Layout::Leading,
    });
    let grid = form
        .rows
        .filter(|_| lane.float && lane.width > 1)
        .map(|_| Method {
            transform: Transform::Rotate,
            layout: if with_base {
                Layout::GridDelta
            } else {
                Layout::Grid
            },
        });
    let classes = transforms
        .first()
        .filter(|_| with_base && has_classes(lane));
    let classes = classes.map(|t| Method {
        transform: *t,
        layout: Layout::Classes,
    });
    let sparse = transforms.first().map(|t| Method {
        transform: *t,
        layout: Layout::Sparse,
    });
    let palette = Method {
        transform: Transform::Identity,
        layout: Layout::Palette,
    };
    let palette = Some(palette).filter(|_| !with_base);
    let others = leading.into_iter().chain(grid).chain(classes);
    planes.chain(others).chain(sparse).chain(palette).collect()
}

/// The method with the fewest estimated bits per lane, but for what a patch is allowed.
pub(crate) struct Choice {
    pub(crate) method: Method,
    pub(crate) bits: f32,
    /// What the method learnt.
    pub(crate) learnt: Option<Learnt>,
}

/// What a method learns of a whole chunk.
#[derive(Clone, Debug)]
pub(crate) enum Learnt {
    Grid(Fit),
    Classes(ClassesFit),
    Sparse(SparseFit),
    Palette(PaletteFit),
}

impl Learnt {
    /// Whether the record will be decoded by changing a few lanes of its base.
    pub(crate) fn is_patch(&self) -> bool {
        match self {
            Self::Classes(fit) => fit.classes.is_patch(),
            Self::Sparse(fit) => fit.is_patch,
            Self::Grid(_) | Self::Palette(_) => false,
        }
    }
}

/// Judges every candidate from a sample.
pub(crate) fn best_method(form: Form, raw: &[u8], base: Option<&[u8]>) -> Choice {
    let lane = form.lane;
    let sample = histogram::sample_lanes(lane.width, raw);
    let base_sample = base.map(|b| histogram::sample_lanes(lane.width, b));
    let base_sample = base_sample.as_deref().unwrap_or_default();
    let mut best = Choice {
        method: Method::WHOLE,
        bits: f32::INFINITY,
        learnt: None,
    };
    let mut least = f32::INFINITY;
    for method in candidates(form, base.is_some()) {
        let (bits, learnt) = match method.layout {
            Layout::Classes => {
                let fit = fit_classes(lane, method.transform, raw, base.unwrap_or_default());
                let bits = fit.as_ref().map_or(f32::INFINITY, |fit| fit.bits);
                (bits, fit.map(Learnt::Classes))
            }
            Layout::Leading => {
                let bits = leading_bits(lane.width, method.transform, &sample, base_sample);
                (bits, None)
            }
            Layout::Grid | Layout::GridDelta => {
                let pays = base.is_none() || !has_signs(lane, &sample);
                let rows = form.rows.filter(|_| pays);
                let fit = rows.and_then(|r| fit_grid(lane, r, raw, base.unwrap_or_default()));
                let bits = fit.as_ref().map(|fit| fit.bits * GRID_HANDICAP);
                (bits.unwrap_or(f32::INFINITY), fit.map(Learnt::Grid))
            }
            Layout::Sparse => {
                let samples = (sample.as_slice(), base_sample);
                let base = base.unwrap_or_default();
                let fit = judge_sparse(lane, method.transform, raw, base, samples);
                let bits = fit.as_ref().map_or(f32::INFINITY, |fit| fit.bits);
                (bits, fit.map(Learnt::Sparse))
            }
            Layout::Palette => {
                let fit = fit_palette(lane, raw);
                let bits = fit.as_ref().map_or(f32::INFINITY, |fit| fit.bits);
                (bits, fit.map(Learnt::Palette))
            }
            Layout::Whole | Layout::Planes => {
                let transform = method.transform;
                let planes = histogram::planes_of(lane.width, transform, &sample, base_sample);
                (planes.iter().map(stream_bits).sum(), None)
            }
        };
        let is_patch = learnt.as_ref().is_some_and(Learnt::is_patch);
        let judged = match is_patch && lane.width >= WIDE_LANE {
            true => bits - PATCH_ALLOWANCE,
            false => bits,
        };
        if judged < least {
            least = judged;
            best = Choice {
                method,
                bits,
                learnt,
            };
        }
    }
    best
}

/// Whether more than a few lanes are negative: a grid predicts magnitudes, and every sign would
/// cost a bit that a difference from the base does not.
fn has_signs(lane: Lane, sample: &[u8]) -> bool {
    let last = sample.iter().skip(lane.width - 1).step_by(lane.width);
    let negative = last.filter(|byte| **byte >= 128).count();
    negative * 64 > sample.len() / lane.width
}

/// The classes that fit a chunk best.
pub(crate) fn fit_classes(
    lane: Lane,
    transform: Transform,
    raw: &[u8],
    base: &[u8],
) -> Option<ClassesFit> {
    fn of<W: Word>(transform: Transform, raw: &[u8], base: &[u8]) -> Option<ClassesFit> {
        classes_fit::learn(&histogram::residuals_of::<W>(transform, raw, base), base)
    }
    with_word!(lane.width, W => of::<W>(transform, raw, base))
}

/// Whether a method that is of use to some chunks only may be of use to this one.
pub(crate) fn may_pay(method: Method, form: Form, raw: &[u8], base: Option<&[u8]>) -> bool {
    let lane = form.lane;
    match method.layout {
        Layout::Sparse => {
            let sample = histogram::sample_lanes(lane.width, raw);
            let base_sample = base.map(|b| histogram::sample_lanes(lane.width, b));
            let samples = (
                sample.as_slice(),
                base_sample.as_deref().unwrap_or_default(),
            );
            let base = base.unwrap_or_default();
            judge_sparse(lane, method.transform, raw, base, samples).is_some()
        }
        Layout::Palette => fit_palette(lane, raw).is_some(),
        _ => true,
    }
}

/// What leaving out zeros would take.
fn judge_sparse(
    lane: Lane,
    transform: Transform,
    raw: &[u8],
    base: &[u8],
    sample: (&[u8], &[u8]),
) -> Option<SparseFit> {
    with_word!(lane.width, W => sparse::judge::<W>(transform, raw, base, sample))
}

/// The best patch of a base, if few lanes differ from it.
pub(crate) fn patch(lane: Lane, raw: &[u8], base: &[u8]) -> Option<Choice> {
    let transform = *transforms(lane, true).first()?;
    let choice = |layout, bits, learnt| Choice {
        method: Method { transform, layout },
        bits,
        learnt: Some(learnt),
    };
    let fit = with_word!(lane.width, W => sparse::judge_patch::<W>(transform, raw, base))?;
    let sparse = choice(Layout::Sparse, fit.bits, Learnt::Sparse(fit));
    let classes = has_classes(lane).then(|| fit_classes(lane, transform, raw, base));
    let classes = classes.flatten().filter(|fit| fit.bits < sparse.bits);
    let classes = classes.map(|fit| choice(Layout::Classes, fit.bits, Learnt::Classes(fit)));
    Some(classes.unwrap_or(sparse))
}

/// The values of a chunk, if they are few.
pub(crate) fn fit_palette(lane: Lane, raw: &[u8]) -> Option<PaletteFit> {
    with_word!(lane.width, W => palette::learn::<W>(raw))
}

/// The grid that fits a chunk best, if it is a table.
pub(crate) fn fit_grid(lane: Lane, rows: Rows, raw: &[u8], base: &[u8]) -> Option<Fit> {
    match lane.width {
        2 => grid_fit::learn::<u16>(raw, base, rows),
        4 => grid_fit::learn::<u32>(raw, base, rows),
        8 => grid_fit::learn::<u64>(raw, base, rows),
        _ => None,
    }
}

/// Bits per symbol that a stream will take.
pub(crate) fn stream_bits(histogram: &Histogram) -> f32 {
    let entropy = histogram.entropy();
    if entropy > INCOMPRESSIBLE_BITS {
        return 8.0;
    }
    // Huffman codes waste a little against the entropy; runs waste more of very little, and a
    // code has at least one bit.
    if histogram.peak() > RUNS_PEAK {
        return (entropy * 1.25).min(1.0);
    }
    (entropy * 1.004 + 0.01).clamp(1.0, 8.0)
}

/// Bits per lane of the leading-bits layout.
fn leading_bits(width: usize, transform: Transform, raw: &[u8], base: &[u8]) -> f32 {
    match width {
        2 => leading_bits_of::<u16>(transform, raw, base),
        4 => leading_bits_of::<u32>(transform, raw, base),
        _ => leading_bits_of::<u64>(transform, raw, base),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sample's bytes are far below 2^24"
)]
fn leading_bits_of<W: Word>(transform: Transform, raw: &[u8], base: &[u8]) -> f32 {
    let words = histogram::residuals_of::<W>(transform, raw, base);
    let shifts = Shifts::learn(&words, base);
    let mut streams = leading::Streams::default();
    leading::split(&words, base, &shifts, &mut streams);
    let raw_bytes = (streams.low.len() + streams.escapes.len()) as f32;
    let coded = Histogram::of(&streams.leading);
    stream_bits(&coded) + raw_bytes * 8.0 / words.len().max(1) as f32
}

/// How to code each plane.
pub(crate) fn plane_plans(
    lane: Lane,
    transform: Transform,
    raw: &[u8],
    base: &[u8],
    level: Level,
) -> Vec<StreamPlan> {
    let raw = histogram::sample_lanes(lane.width, raw);
    let base = histogram::sample_lanes(lane.width, base);
    let histograms = histogram::planes_of(lane.width, transform, &raw, &base);
    histograms
        .iter()
        .map(|h| stream_plan(h, lane.float, level))
        .collect()
}

/// How to code a stream of symbols that floats were made into.
pub(crate) fn symbol_plan(symbols: &[u8], level: Level) -> StreamPlan {
    let sample = histogram::sample_lanes(1, symbols);
    stream_plan(&Histogram::of(&sample), true, level)
}

fn stream_plan(histogram: &Histogram, float: bool, level: Level) -> StreamPlan {
    if histogram.entropy() > INCOMPRESSIBLE_BITS && level != Level::Archive {
        return StreamPlan::Raw;
    }
    // Integers repeat in ways that order-0 counts do not show.
    if histogram.peak() > RUNS_PEAK || !float {
        return StreamPlan::Zstd(ZstdMode::Level(match level {
            Level::Fast => 1,
            Level::Balanced => 3,
            Level::Archive => 19,
        }));
    }
    StreamPlan::Zstd(ZstdMode::Huffman)
}

#[cfg(test)]
mod tests {
    use super::*;

    const F32: Lane = Lane {
        width: 4,
        float: true,
    };

    fn floats(scale: f32, shift: f32) -> Vec<u8> {
        let value = |i: u16| (f32::from(i) * 0.37).sin() * scale + shift;
        (0..20_000u16)
            .flat_map(|i| value(i).to_le_bytes())
            .collect()
    }

    #[test]
    fn a_close_base_is_worth_more_than_none() {
        let (raw, base) = (floats(1.0, 0.0), floats(1.0001, 0.0));
        let alone = best_method(F32.into(), &raw, None).bits;
        let Choice {
            method,
            bits: delta,
            ..
        } = best_method(F32.into(), &raw, Some(&base));
        assert_eq!(method.transform, Transform::FloatSubtract);
        assert!(delta < alone * 0.9, "{delta} against {alone}");
    }

    /// Every weight moves by about as much, whatever its size, as under Adam.
    #[test]
    fn leading_bits_win_where_steps_do_not_depend_on_the_weight() {
        let base = floats(1.0, 0.0);
        let step = |i: u16| (f32::from(i) * 1.7).cos() * 1e-4;
        let moved = base.chunks_exact(4).zip(0u16..).flat_map(|(b, i)| {
            let b = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            (b + step(i)).to_le_bytes()
        });
        let moved: Vec<u8> = moved.collect();
        assert_eq!(
            best_method(F32.into(), &moved, Some(&base)).method.layout,
            Layout::Leading
        );
    }

    /// Few lanes of a short chunk move by one place: the heads of a patch's streams make it longer
    /// than planes.
    #[test]
    fn a_patch_of_wide_lanes_may_be_a_little_longer() {
        let is_patch = |width: usize| {
            let base = floats(1.0, 0.0);
            let base = base.get(..700 * width).unwrap();
            let mut raw = base.to_vec();
            for at in (0..700).filter(|at| at * at % 37 < 3) {
                raw[at * width] ^= 1;
            }
            let lane = Lane { width, float: true };
            let learnt = best_method(lane.into(), &raw, Some(base)).learnt;
            learnt.is_some_and(|learnt| learnt.is_patch())
        };
        assert!(is_patch(4), "a bit a lane");
        assert!(!is_patch(2), "half a bit is most of what such a lane takes");
    }

    #[test]
    fn noise_is_planned_raw_and_sparse_as_runs() {
        let raw = floats(1.0, 0.0);
        let plans = plane_plans(F32, Transform::Rotate, &raw, &[], Level::Fast);
        assert_eq!(
            plans.first(),
            Some(&StreamPlan::Raw),
            "the low mantissa byte is noise"
        );
        let mut changed = raw.clone();
        changed[400] ^= 1;
        let plans = plane_plans(F32, Transform::FloatSubtract, &changed, &raw, Level::Fast);
        assert_eq!(plans, [StreamPlan::Zstd(ZstdMode::Level(1)); 4]);
    }
}
