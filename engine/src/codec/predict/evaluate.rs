//! The arithmetic of predictions, the same to the bit on every machine (format-spec.md section
//! 10.2.1).

use crate::codec::predict::{AdagradStep, AdamStep, LANE_LEN};
use crate::codec::simd;

/// The exponent bits of binary32: all set in infinities and NaNs, none in zeros and subnormals.
const EXPONENT: u32 = 0x7f80_0000;

/// The number of a lane; a subnormal one counts as zero, so that flushing it changes nothing.
#[inline(always)]
fn number(lane: &[u8; LANE_LEN]) -> f64 {
    f64::from(single(lane))
}

/// To binary32, ties to even; what would be subnormal is zero.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "this is the rounding")]
pub(super) fn round(x: f64) -> f32 {
    if x.abs() < f64::from(f32::MIN_POSITIVE) {
        0.0
    } else {
        x as f32
    }
}

/// A prediction that is no number, or infinite, gives way to the lane of the first input.
#[inline(always)]
fn or_first(predicted: f32, first: &[u8; LANE_LEN]) -> [u8; LANE_LEN] {
    let bits = predicted.to_bits();
    if bits & EXPONENT == EXPONENT {
        *first
    } else {
        bits.to_le_bytes()
    }
}

fn lanes(bytes: &[u8]) -> &[[u8; LANE_LEN]] {
    bytes.as_chunks().0
}

fn lanes_mut(bytes: &mut [u8]) -> &mut [[u8; LANE_LEN]] {
    bytes.as_chunks_mut().0
}

/// A product; of a mean that was scaled in place, rounded as its lane was.
#[inline(always)]
fn scaled<const ROUNDED: bool>(c: f64, x: f64) -> f64 {
    if ROUNDED {
        f64::from(round(c * x))
    } else {
        c * x
    }
}

/// `c[0] * x[0] + c[1] * x[1] + ..`, added from the left; the first product may be rounded.
pub(super) fn linear<const ROUNDED: bool>(coefficients: &[f64], inputs: &[&[u8]], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || linear_inline::<ROUNDED>(coefficients, inputs, out),
    );
}

#[inline(always)]
fn linear_inline<const ROUNDED: bool>(coefficients: &[f64], inputs: &[&[u8]], out: &mut [u8]) {
    let first = |c: &f64, x| scaled::<ROUNDED>(*c, number(x));
    match (coefficients, inputs) {
        ([a], [x]) => {
            for (p, x) in lanes_mut(out).iter_mut().zip(lanes(x)) {
                *p = or_first(round(first(a, x)), x);
            }
        }
        ([a, b], [x, y]) => {
            let inputs = lanes(x).iter().zip(lanes(y));
            for (p, (x, y)) in lanes_mut(out).iter_mut().zip(inputs) {
                *p = or_first(round(first(a, x) + b * number(y)), x);
            }
        }
        ([a, b, c], [x, y, z]) => {
            let inputs = lanes(x).iter().zip(lanes(y)).zip(lanes(z));
            for (p, ((x, y), z)) in lanes_mut(out).iter_mut().zip(inputs) {
                *p = or_first(round(first(a, x) + b * number(y) + c * number(z)), x);
            }
        }
        _ => linear_of_many::<ROUNDED>(coefficients, inputs, out),
    }
}

fn linear_of_many<const ROUNDED: bool>(coefficients: &[f64], inputs: &[&[u8]], out: &mut [u8]) {
    let mut terms = coefficients.iter().zip(inputs);
    let Some((c, first)) = terms.next() else {
        return;
    };
    for (at, (p, x)) in lanes_mut(out).iter_mut().zip(lanes(first)).enumerate() {
        let lane = |input: &&[u8]| lanes(input).get(at).map_or(0.0, number);
        let start = scaled::<ROUNDED>(*c, number(x));
        let sum = terms.clone().fold(start, |sum, (c, x)| sum + c * lane(x));
        *p = or_first(round(sum), x);
    }
}

/// `c[0] * v0 + c[1] * (m1 * m1) + c[2] * (m1 * m0) + c[3] * (m0 * m0)`, added from the left; the
/// first product may be rounded.
pub(super) fn second_moment<const ROUNDED: bool>(
    c: [f64; 4],
    v0: &[u8],
    m1: &[u8],
    m0: &[u8],
    out: &mut [u8],
) {
    simd::widest(
        #[inline(always)]
        || second_moment_inline::<ROUNDED>(c, v0, m1, m0, out),
    );
}

#[inline(always)]
fn second_moment_inline<const ROUNDED: bool>(
    c: [f64; 4],
    v0: &[u8],
    m1: &[u8],
    m0: &[u8],
    out: &mut [u8],
) {
    let [a, b, c, d] = c;
    let inputs = lanes(v0).iter().zip(lanes(m1)).zip(lanes(m0));
    for (p, ((v0, m1), m0)) in lanes_mut(out).iter_mut().zip(inputs) {
        let (kept, m1, m0) = (scaled::<ROUNDED>(a, number(v0)), number(m1), number(m0));
        let sum = kept + b * (m1 * m1) + c * (m1 * m0) + d * (m0 * m0);
        *p = or_first(round(sum), v0);
    }
}

/// A step of Adam as PyTorch takes it, each operation rounded to binary64 and then to binary32: of
/// normal numbers that is the same as to binary32 at once (Figueroa, "When is double rounding
/// innocuous?", 1995).
pub(super) fn adam(step: AdamStep, w0: &[u8], m1: &[u8], v1: &[u8], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || adam_inline(step, w0, m1, v1, out),
    );
}

/// Lanes that are worked out together in binary32.
const BLOCK: usize = 64;

/// In binary32, which is the same but where a result may be just below the least normal number:
/// a block with such a one is done in binary64.
#[inline(always)]
fn adam_inline(step: AdamStep, w0: &[u8], m1: &[u8], v1: &[u8], out: &mut [u8]) {
    let (w0, w0_rest) = lanes(w0).as_chunks::<BLOCK>();
    let (m1, m1_rest) = lanes(m1).as_chunks::<BLOCK>();
    let (v1, v1_rest) = lanes(v1).as_chunks::<BLOCK>();
    let (out, out_rest) = lanes_mut(out).as_chunks_mut::<BLOCK>();
    for (out, ((w0, m1), v1)) in out.iter_mut().zip(w0.iter().zip(m1).zip(v1)) {
        if !adam_single(step, w0, m1, v1, out) {
            adam_double(step, w0, m1, v1, out);
        }
    }
    adam_double(step, w0_rest, m1_rest, v1_rest, out_rest);
}

/// A subnormal number is zero.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(if bits & EXPONENT == 0 { 0 } else { bits })
}

#[inline(always)]
fn single(lane: &[u8; LANE_LEN]) -> f32 {
    flushed(f32::from_bits(u32::from_le_bytes(*lane)))
}

/// Whether it is the least normal number, as which one just below it may have been rounded.
#[inline(always)]
fn is_least(x: f32) -> bool {
    x.to_bits() << 1 == f32::MIN_POSITIVE.to_bits() << 1
}

/// False if a result may have to be rounded twice; what is in `out` is then of no meaning.
#[inline(always)]
fn adam_single(
    step: AdamStep,
    w0: &[[u8; LANE_LEN]; BLOCK],
    m1: &[[u8; LANE_LEN]; BLOCK],
    v1: &[[u8; LANE_LEN]; BLOCK],
    out: &mut [[u8; LANE_LEN]; BLOCK],
) -> bool {
    let mut least = [false; BLOCK];
    for (at, p) in out.iter_mut().enumerate() {
        let (m1, v1) = (single(&m1[at]), single(&v1[at]));
        let root = v1.sqrt();
        let scaled = flushed(root) / step.scale;
        let denominator = flushed(scaled) + step.epsilon;
        let product = step.step * m1;
        let update = flushed(product) / flushed(denominator);
        let kept = single(&w0[at]) * step.decay;
        let moved = flushed(kept) + flushed(update);
        *p = or_first(flushed(moved), &w0[at]);
        // A root is not so small, and a small sum of numbers is exact.
        least[at] = [scaled, product, update, kept]
            .iter()
            .fold(false, |any, x| any | is_least(*x));
    }
    !least.iter().fold(false, |any, one| any | one)
}

#[inline(always)]
fn adam_double(
    step: AdamStep,
    w0: &[[u8; LANE_LEN]],
    m1: &[[u8; LANE_LEN]],
    v1: &[[u8; LANE_LEN]],
    out: &mut [[u8; LANE_LEN]],
) {
    let once = |x: f64| f64::from(round(x));
    let (decay, rate) = (f64::from(step.decay), f64::from(step.step));
    let (scale, epsilon) = (f64::from(step.scale), f64::from(step.epsilon));
    let inputs = w0.iter().zip(m1).zip(v1);
    for (p, ((w0, m1), v1)) in out.iter_mut().zip(inputs) {
        let denominator = once(once(once(number(v1).sqrt()) / scale) + epsilon);
        let update = once(once(rate * number(m1)) / denominator);
        *p = or_first(round(once(number(w0) * decay) + update), w0);
    }
}

/// `s0 / (1 - d * d)` with `d = inverse_rate * (w1 - w0)`; backward, the product.
pub(super) fn sum_of_squares(step: AdagradStep, s0: &[u8], w1: &[u8], w0: &[u8], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || sum_of_squares_inline(step, s0, w1, w0, out),
    );
}

#[inline(always)]
fn sum_of_squares_inline(step: AdagradStep, s0: &[u8], w1: &[u8], w0: &[u8], out: &mut [u8]) {
    let inputs = lanes(s0).iter().zip(lanes(w1)).zip(lanes(w0));
    for (p, ((s0, w1), w0)) in lanes_mut(out).iter_mut().zip(inputs) {
        let moved = step.inverse_rate * (number(w1) - number(w0));
        let kept = 1.0 - moved * moved;
        let sum = number(s0);
        let other = if step.is_backward {
            sum * kept
        } else {
            sum / kept
        };
        *p = or_first(round(other), s0);
    }
}

/// Lanes of which `after` and `before` have the same bits stay as they were.
pub(super) fn keep_untouched(first: &[u8], after: &[u8], before: &[u8], out: &mut [u8]) {
    simd::widest(
        #[inline(always)]
        || keep_untouched_inline(first, after, before, out),
    );
}

#[inline(always)]
fn keep_untouched_inline(first: &[u8], after: &[u8], before: &[u8], out: &mut [u8]) {
    let inputs = lanes(first).iter().zip(lanes(after)).zip(lanes(before));
    for (p, ((first, after), before)) in lanes_mut(out).iter_mut().zip(inputs) {
        *p = if after == before { *first } else { *p };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Prediction;

    /// Bits that have caught others: every class of number, both signs, and noise.
    fn lanes_of(seed: u32) -> Vec<u8> {
        let edges = [
            0,
            1,
            0x007f_ffff,
            0x0080_0000,
            0x3f80_0000,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0x7fc0_0000,
            0x8000_0000,
            0x8000_0001,
            0xff80_0000,
            0xffc0_1234,
        ];
        let noise = (0..500u32).map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9).rotate_left(seed));
        let all = edges.iter().cycle().skip(seed as usize).take(40).copied();
        all.chain(noise).flat_map(u32::to_le_bytes).collect()
    }

    /// Results just below 2^-126, which binary32 rounds up to it: the quotient by the scale, the
    /// product with the step, their quotient, the product with the decay.
    #[test]
    fn what_is_rounded_twice_is_left_to_binary64() {
        let step = AdamStep {
            decay: 1.0,
            step: -1.0,
            scale: 1.0,
            epsilon: 1.0,
        };
        let odd = 0x00ff_ffff;
        let root = f32::from_bits((127 - 60) << 23 | 0x007f_ffff);
        let cases = [
            (
                AdamStep {
                    scale: 2f32.powi(67),
                    epsilon: 0.0,
                    ..step
                },
                [0, 0, (root * root).to_bits()],
            ),
            (AdamStep { step: -0.5, ..step }, [0, odd, 0]),
            (
                AdamStep {
                    epsilon: 2.0,
                    ..step
                },
                [0, odd, 0],
            ),
            (AdamStep { decay: 0.5, ..step }, [odd, 0, 0]),
        ];
        for (step, lanes) in cases {
            let [w0, m1, v1] = lanes.map(|bits: u32| [bits.to_le_bytes(); BLOCK]);
            assert!(
                !adam_single(step, &w0, &m1, &v1, &mut [[0; 4]; BLOCK]),
                "{step:?}"
            );
        }
    }

    /// Numbers whose products and quotients lie at the edge of the normal numbers, and others.
    #[test]
    fn a_block_of_adam_is_the_same_in_binary32_as_in_binary64() {
        let mut bits = 1u32;
        let mut next = || {
            bits = bits
                .wrapping_mul(0x9e37_79b9)
                .wrapping_add(0x7f4a_7c15)
                .rotate_left(13);
            bits
        };
        let (mut done, mut differing) = (0, 0);
        for round in 0..20_000 {
            let mut block = |around: u32| {
                let mut lane = || match around {
                    0 => next(),
                    around => {
                        (around << 23).wrapping_add(next() >> 5 & 0x07ff_ffff) ^ (next() & 1) << 31
                    }
                };
                std::array::from_fn::<_, BLOCK, _>(|_| lane().to_le_bytes())
            };
            let around = [
                [0, 0, 0],
                [1, 120, 120],
                [120, 1, 120],
                [120, 60, 10],
                [64, 64, 1],
            ];
            let [w0, m1, v1] = around[round % around.len()].map(&mut block);
            let v1 = v1.map(|v| (u32::from_le_bytes(v) & !(1 << 31)).to_le_bytes());
            let step = AdamStep {
                decay: [1.0, 0.5, 0.9999][round % 3],
                step: [-1e-3, -f32::MIN_POSITIVE, -1.0, -0.75][round % 4],
                scale: [1.0, 0.03, 3.0][round / 7 % 3],
                epsilon: [1e-8, 0.0, f32::MIN_POSITIVE][round / 5 % 3],
            };
            let (mut m1, mut v1) = (m1, v1);
            if step.step == -0.75 {
                // The product is 2^-126 - 2^-150, which rounds to 2^-126.
                (m1[0], v1[0]) = (0x00aa_aaaau32.to_le_bytes(), [0; 4]);
            }
            let (mut single, mut double) = ([[0; 4]; BLOCK], [[0; 4]; BLOCK]);
            adam_double(step, &w0, &m1, &v1, &mut double);
            match adam_single(step, &w0, &m1, &v1, &mut single) {
                true => assert_eq!(single, double, "{step:?} {w0:?} {m1:?} {v1:?}"),
                false => differing += u32::from(single != double),
            }
            done += 1;
        }
        assert!(done > differing && differing > 0, "{differing} of {done}");
    }

    #[test]
    fn binary32_arithmetic_is_followed_to_the_bit() {
        let (w0, m1, v1) = (lanes_of(3), lanes_of(7), lanes_of(11));
        let step = AdamStep {
            decay: 0.9999,
            step: -1.5e-3,
            scale: 0.97,
            epsilon: 1e-8,
        };
        let mut out = vec![0; w0.len()];
        adam(step, &w0, &m1, &v1, &mut out);
        let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        let mut compared = 0;
        for (at, p) in lanes(&out).iter().enumerate() {
            let (w, m, v) = (
                value(&lanes(&w0)[at]),
                value(&lanes(&m1)[at]),
                value(&lanes(&v1)[at]),
            );
            let parts = [
                w,
                m,
                v,
                v.sqrt(),
                v.sqrt() / step.scale,
                step.step * m,
                step.step * m / (v.sqrt() / step.scale + step.epsilon),
                w * step.decay,
            ];
            let plain = w * step.decay + step.step * m / (v.sqrt() / step.scale + step.epsilon);
            if parts.iter().chain([&plain]).all(|x| x.is_normal()) {
                assert_eq!(value(p).to_bits(), plain.to_bits(), "lane {at}");
                compared += 1;
            }
        }
        assert!(compared > 100, "{compared}");
    }

    #[test]
    fn what_is_no_number_gives_way_to_the_first_input() {
        let (x, y) = (lanes_of(3), lanes_of(5));
        let mut out = vec![0; x.len()];
        linear::<false>(&[1.0, 1.0], &[&x, &y], &mut out);
        for (at, p) in lanes(&out).iter().enumerate() {
            let sum = number(&lanes(&x)[at]) + number(&lanes(&y)[at]);
            if round(sum).is_finite() {
                assert!(f32::from_le_bytes(*p).is_finite());
            } else {
                assert_eq!(p, &lanes(&x)[at]);
            }
        }
    }

    type Sum = fn(&[f64], &[&[u8]], &mut [u8]);

    #[test]
    fn many_inputs_are_added_as_few_are() {
        let (x, y) = (lanes_of(3), lanes_of(5));
        for rounded in [false, true] {
            let (mut few, mut many) = (vec![0; x.len()], vec![0; x.len()]);
            let (linear, linear_of_many) = if rounded {
                (linear::<true> as Sum, linear_of_many::<true> as Sum)
            } else {
                (linear::<false> as Sum, linear_of_many::<false> as Sum)
            };
            linear(&[0.3, 3.0], &[&x, &y], &mut few);
            linear_of_many(&[0.3, 3.0], &[&x, &y], &mut many);
            assert_eq!(few, many);
        }
    }

    /// A mean and a moment as `mul_` and `add_` leave them: the first product has a rounding of its
    /// own, which is seen where the sum rounds the other way without it.
    #[test]
    fn what_is_scaled_in_place_is_rounded_first() {
        let (x, y) = (lanes_of(3), lanes_of(7));
        let (mut rounded, mut plain) = (vec![0; x.len()], vec![0; x.len()]);
        let (a, b) = (0.95f32, 0.25);
        linear::<true>(&[a.into(), b], &[&x, &y], &mut rounded);
        linear::<false>(&[a.into(), b], &[&x, &y], &mut plain);
        let value = |bytes: &[u8], at: usize| f32::from_le_bytes(lanes(bytes)[at]);
        let (mut compared, mut differing) = (0, 0);
        for at in 0..lanes(&x).len() {
            let (scaled, other) = (value(&x, at) * a, value(&y, at) * 0.25);
            let sum = scaled + other;
            if [value(&x, at), value(&y, at), scaled, other, sum]
                .iter()
                .all(|x| x.is_normal())
            {
                assert_eq!(value(&rounded, at).to_bits(), sum.to_bits(), "lane {at}");
                compared += 1;
                differing += u32::from(value(&plain, at) != sum);
            }
        }
        assert!(compared > 100 && differing > 0, "{differing} of {compared}");

        let mut moment = vec![0; x.len()];
        let zero = vec![0; x.len()];
        second_moment::<true>([a.into(), b, 0.0, 0.0], &x, &zero, &zero, &mut moment);
        linear::<true>(&[a.into()], &[&x], &mut rounded);
        assert_eq!(moment, rounded);
    }

    #[test]
    fn what_was_not_touched_stays_to_the_bit() {
        let (first, after) = (lanes_of(3), lanes_of(5));
        let mut before = after.clone();
        for lane in before.chunks_exact_mut(8) {
            lane[0] ^= 1;
        }
        let step = AdagradStep {
            is_backward: false,
            inverse_rate: 2.0,
        };
        for prediction in [
            Prediction::SparseSecondMoment([2.0, 1.0, 1.0, 1.0]),
            Prediction::SumOfSquares(step),
        ] {
            let mut out = vec![0; first.len()];
            prediction.predict(&[&first, &after, &before], &mut out);
            for (at, p) in lanes(&out).iter().enumerate().skip(1).step_by(2) {
                assert_eq!(p, &lanes(&first)[at], "lane {at}");
            }
            assert_ne!(out, first);
        }
    }

    /// Adagrad as PyTorch does it: the sum is told from the weight's way, forward and back.
    #[test]
    fn a_sum_of_squares_is_told_from_the_weight_s_way() {
        let (rate, s0, w0) = (0.01f32, 0.25f32, 0.05f32);
        for g in [0.001f32, -0.02, 0.3, 2.0] {
            let s1 = s0 + g * g;
            let w1 = w0 - rate * (g / (s1.sqrt() + 1e-10));
            let bytes = |x: f32| x.to_le_bytes();
            for (is_backward, from, to) in [(false, s0, s1), (true, s1, s0)] {
                let step = AdagradStep {
                    is_backward,
                    inverse_rate: 100.0,
                };
                let mut out = [0; 4];
                sum_of_squares(step, &bytes(from), &bytes(w1), &bytes(w0), &mut out);
                let off = (f32::from_le_bytes(out) / to - 1.0).abs();
                assert!(off < 1e-4, "{g}: off by {off}");
            }
        }
    }

    #[test]
    fn subnormal_results_are_zero() {
        assert_eq!(round(f64::from(f32::MIN_POSITIVE)), f32::MIN_POSITIVE);
        assert_eq!(round(f64::from(f32::MIN_POSITIVE) * 0.999_999_99), 0.0);
        assert_eq!(round(-1e-42).to_bits(), 0);
    }
}
