//! Which transform, layout and coders, from a sample: cheap guesses that cost bytes when wrong,
//! never correctness.

use crate::codec::Layout;
use crate::codec::coder::ZstdMode;
use crate::codec::histogram::{self, Histogram};
use crate::codec::leading::{self, Shifts};
use crate::codec::transform::Transform;
use crate::codec::word::Word;
use crate::dtype::Lane;
use crate::format::store_file::Level;

/// Above this many bits per byte a plane is stored raw and never tried.
const INCOMPRESSIBLE_BITS: f32 = 7.96;
/// Above this share of one symbol, runs pay more than Huffman codes of at least one bit.
const RUNS_PEAK: f32 = 0.85;

/// How a chunk's words are made and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// What is done to each lane.
    pub transform: Transform,
    /// How the words become streams.
    pub layout: Layout,
}

/// What is worth trying on one stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StreamPlan {
    Raw,
    Zstd(ZstdMode),
}

/// The methods that may pay for a lane, simplest first.
pub(crate) fn candidates(lane: Lane, with_base: bool) -> Vec<Method> {
    let transforms: &[Transform] = match (lane.float, with_base) {
        (true, false) if lane.width > 1 => &[Transform::Rotate],
        (_, false) => &[Transform::Identity],
        (true, true) => &[Transform::FloatSubtract, Transform::RotatedXor],
        (false, true) => &[Transform::IntSubtract, Transform::Xor],
    };
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
    planes.chain(leading).collect()
}

/// The method with the fewest estimated bits per lane, and those bits.
pub(crate) fn best_method(lane: Lane, raw: &[u8], base: Option<&[u8]>) -> (Method, f32) {
    let raw = histogram::sample_lanes(lane.width, raw);
    let base = base.map(|b| histogram::sample_lanes(lane.width, b));
    let none = Method {
        transform: Transform::Identity,
        layout: Layout::Planes,
    };
    let mut best = (none, f32::INFINITY);
    for method in candidates(lane, base.is_some()) {
        let base = base.as_deref().unwrap_or_default();
        let bits = match method.layout {
            Layout::Leading => leading_bits(lane.width, method.transform, &raw, base),
            _ => histogram::planes_of(lane.width, method.transform, &raw, base)
                .iter()
                .map(stream_bits)
                .sum(),
        };
        if bits < best.1 {
            best = (method, bits);
        }
    }
    best
}

/// Bits per symbol that a stream will take.
fn stream_bits(histogram: &Histogram) -> f32 {
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
    let coded: Histogram = streams.leading.iter().copied().collect();
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

/// How to code the stream of leading bytes.
pub(crate) fn leading_plan(leading: &[u8], level: Level) -> StreamPlan {
    let sample = histogram::sample_lanes(1, leading);
    stream_plan(&sample.iter().copied().collect(), true, level)
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
        let (_, alone) = best_method(F32, &raw, None);
        let (method, delta) = best_method(F32, &raw, Some(&base));
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
            best_method(F32, &moved, Some(&base)).0.layout,
            Layout::Leading
        );
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
