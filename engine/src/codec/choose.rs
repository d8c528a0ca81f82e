//! Which transform and which coders, from a sample: cheap guesses that cost bytes when wrong,
//! never correctness.

use crate::codec::coder::ZstdMode;
use crate::codec::histogram::{self, Histogram};
use crate::codec::transform::Transform;
use crate::dtype::Lane;
use crate::format::store_file::Level;

/// Above this many bits per byte a plane is stored raw and never tried.
const INCOMPRESSIBLE_BITS: f32 = 7.92;
/// Above this share of one symbol, runs pay more than Huffman codes of at least one bit.
const RUNS_PEAK: f32 = 0.85;

/// What is worth trying on one stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum StreamPlan {
    Raw,
    Zstd(ZstdMode),
}

/// The transforms that may pay for a lane.
pub(crate) fn candidates(lane: Lane, with_base: bool) -> &'static [Transform] {
    match (lane.float, with_base) {
        (true, false) if lane.width > 1 => &[Transform::Rotate],
        (_, false) => &[Transform::Identity],
        (true, true) => &[Transform::FloatSubtract, Transform::RotatedXor],
        (false, true) => &[Transform::IntSubtract, Transform::Xor],
    }
}

/// The transform with the fewest estimated bits per lane, and those bits.
pub(crate) fn best_transform(lane: Lane, raw: &[u8], base: Option<&[u8]>) -> (Transform, f32) {
    let mut best = (Transform::Identity, f32::INFINITY);
    for transform in candidates(lane, base.is_some()) {
        let histograms = histogram::sample(lane.width, *transform, raw, base.unwrap_or_default());
        let bits = histograms.iter().map(stream_bits).sum();
        if bits < best.1 {
            best = (*transform, bits);
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
    // Huffman codes waste a little against the entropy; runs waste more of very little.
    let overhead = if histogram.peak() > RUNS_PEAK {
        1.1
    } else {
        1.005
    };
    (entropy * overhead).min(8.0)
}

/// How to code each plane.
pub(crate) fn stream_plans(
    lane: Lane,
    transform: Transform,
    raw: &[u8],
    base: &[u8],
    level: Level,
) -> Vec<StreamPlan> {
    let plan = |histogram: &Histogram| {
        if histogram.entropy() > INCOMPRESSIBLE_BITS && level != Level::Archive {
            return StreamPlan::Raw;
        }
        // Integers repeat in ways that order-0 counts do not show.
        if histogram.peak() > RUNS_PEAK || !lane.float {
            return StreamPlan::Zstd(ZstdMode::Level(match level {
                Level::Fast => 1,
                Level::Balanced => 3,
                Level::Archive => 19,
            }));
        }
        StreamPlan::Zstd(ZstdMode::Huffman)
    };
    histogram::sample(lane.width, transform, raw, base)
        .iter()
        .map(plan)
        .collect()
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
        let (_, alone) = best_transform(F32, &raw, None);
        let (transform, delta) = best_transform(F32, &raw, Some(&base));
        assert_eq!(transform, Transform::FloatSubtract);
        assert!(delta < alone * 0.9, "{delta} against {alone}");
    }

    #[test]
    fn noise_is_planned_raw_and_sparse_as_runs() {
        let raw = floats(1.0, 0.0);
        let plans = stream_plans(F32, Transform::Rotate, &raw, &[], Level::Fast);
        assert_eq!(
            plans.first(),
            Some(&StreamPlan::Raw),
            "the low mantissa byte is noise"
        );
        let mut changed = raw.clone();
        changed[400] ^= 1;
        let plans = stream_plans(F32, Transform::FloatSubtract, &changed, &raw, Level::Fast);
        assert_eq!(plans, [StreamPlan::Zstd(ZstdMode::Level(1)); 4]);
    }
}
