//! Coefficients of predictions where few rows are touched, as in tables of embeddings.
//!
//! Only lanes that were touched teach anything. Those that were touched once follow the
//! predictor to the last bits; those touched again follow nothing, and must not be listened to.

use crate::codec::nonzero;
use crate::codec::predict::fit::{self, EPSILONS, Numbers, Unfit, solve};
use crate::codec::predict::{AdagradStep, AdamStep, LANE_LEN, Prediction, is_coefficient};
use crate::codec::simd;

/// Lanes that are learnt from.
const LANES_MAX: usize = 2048;
/// Fewer teach nothing.
const LANES_MIN: usize = 32;
/// With fewer than one lane in so many kept, all count as touched.
const KEPT_MIN: usize = 256;
/// A sum that grew by less than this tells the rate badly.
const GROWTH_MIN: f64 = 1.0 / 4096.0;
/// Fits to the better half of the lanes, each by the one before.
const ROUNDS: usize = 8;

/// The lanes of which `after` and `before` differ, spread over the chunk.
fn touched(raw: &[u8], inputs: &[&[u8]], after: &[u8], before: &[u8]) -> Result<Numbers, Unfit> {
    let mut places = Vec::new();
    simd::widest(
        #[inline(always)]
        || {
            nonzero::each_difference::<u32>(after, before, |at, _, _| {
                places.push(at);
                true
            });
        },
    );
    if places.len() < LANES_MIN {
        return Err(Unfit::Untold);
    }
    // Rows are as long as powers of two: an odd step meets all columns.
    let step = places.len().div_ceil(LANES_MAX) | 1;
    let places: Vec<usize> = places.into_iter().step_by(step).collect();
    let found = fit::finite(raw, inputs, |bytes| {
        let lanes = bytes.as_chunks::<LANE_LEN>().0;
        let picked = places.iter().filter_map(|at| lanes.get(*at));
        picked.flatten().copied().collect()
    });
    match found.0.len() {
        LANES_MIN.. => Ok(found),
        _ => Err(Unfit::Untold),
    }
}

/// Least squares of the half of the lanes that one fit suits: least trimmed squares, by the
/// concentration steps of Rousseeuw and Van Driessen (1999).
fn solve_half(columns: &[Vec<f64>], y: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let mut kept = weights.to_vec();
    let mut solved = solve(columns.to_vec(), y.to_vec(), &kept)?;
    for _ in 1..ROUNDS {
        let missed: Vec<f64> = (0..y.len())
            .map(|at| {
                let terms = columns.iter().zip(&solved);
                let predicted: f64 = terms.map(|(x, c)| x[at] * c).sum();
                ((y[at] - predicted) * weights[at]).abs()
            })
            .collect();
        let middle = median(missed.clone())?;
        let lanes = kept.iter_mut().zip(weights).zip(&missed);
        lanes.for_each(|((kept, weight), missed)| {
            *kept = if *missed <= middle { *weight } else { 0.0 };
        });
        solved = solve(columns.to_vec(), y.to_vec(), &kept)?;
    }
    Some(solved)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let at = values.len().checked_sub(1)? / 2;
    Some(*values.select_nth_unstable_by(at, f64::total_cmp).1)
}

/// Whether nearly all lanes were touched, as far as a sample tells: that is for the predictors that
/// know of no others. Few lanes that were kept are enough to spoil their fits.
fn is_dense(after: &[u8], before: &[u8]) -> bool {
    let (kept, lanes) = fit::kept(after, before);
    kept * KEPT_MIN < lanes
}

pub(super) fn second_moment(raw: &[u8], inputs: &[&[u8]]) -> Result<Prediction, Unfit> {
    let [_, m1, m0] = <[&[u8]; 3]>::try_from(inputs).map_err(|_| Unfit::Untold)?;
    if is_dense(m1, m0) {
        return Err(Unfit::Untold);
    }
    let (y, x) = touched(raw, inputs, m1, m0)?;
    let [v0, m1, m0] = <[Vec<f64>; 3]>::try_from(x).map_err(|_| Unfit::Untold)?;
    let (columns, weights) = fit::of_squares(&y, v0, &m1, &m0);
    let solved = solve_half(&columns, &y, &weights).ok_or(Unfit::Misfit)?;
    let solved = solved.try_into().map_err(|_| Unfit::Misfit)?;
    Ok(Prediction::SparseSecondMoment(solved))
}

/// The step that half of the lanes stay below, and half above: a table's rows have no decay, and
/// the bias correction differs a little from step to step.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the step is taken in binary32"
)]
pub(super) fn adam(raw: &[u8], inputs: &[&[u8]]) -> Result<Prediction, Unfit> {
    let [w0, m1, v1, m0] = <[&[u8]; 4]>::try_from(inputs).map_err(|_| Unfit::Untold)?;
    if is_dense(m1, m0) {
        return Err(Unfit::Untold);
    }
    let (w1, x) = touched(raw, &[w0, m1, v1], m1, m0)?;
    let [w0, m1, v1] = <[Vec<f64>; 3]>::try_from(x).map_err(|_| Unfit::Untold)?;
    let tried = EPSILONS.iter().filter_map(|epsilon| {
        let lanes = w1.iter().zip(&w0).zip(m1.iter().zip(&v1));
        let steps = lanes
            .map(|((w1, w0), (m, v))| (w1 - w0) * (v.max(0.0).sqrt() + f64::from(*epsilon)) / m);
        let steps: Vec<f64> = steps.filter(|step| step.is_finite()).collect();
        let step = median(steps.clone())?;
        let off = steps.iter().map(|other| (other / step - 1.0).abs());
        let missed = median(off.collect())?;
        let found = AdamStep {
            decay: 1.0,
            step: step as f32,
            scale: 1.0,
            epsilon: *epsilon,
        };
        Some((missed, found)).filter(|(_, found)| found.step.is_normal())
    });
    let best = tried.min_by(|a, b| a.0.total_cmp(&b.0));
    let (_, found) = best.ok_or(Unfit::Misfit)?;
    Ok(Prediction::SparseAdam(found))
}

/// `d * d` is what the sum grew by, over the greater sum: each lane tells the rate.
pub(super) fn sum_of_squares(raw: &[u8], inputs: &[&[u8]]) -> Result<Prediction, Unfit> {
    let [_, w1, w0] = <[&[u8]; 3]>::try_from(inputs).map_err(|_| Unfit::Untold)?;
    let (sum, x) = touched(raw, inputs, w1, w0)?;
    let [other, w1, w0] = <[Vec<f64>; 3]>::try_from(x).map_err(|_| Unfit::Untold)?;
    let pairs = || sum.iter().zip(&other).filter(|(sum, other)| sum != other);
    let grown = pairs().filter(|(sum, other)| sum > other).count();
    let is_backward = grown * 2 < pairs().count();
    let lanes = sum.iter().zip(&other).zip(w1.iter().zip(&w0));
    let rates = lanes.filter_map(|((sum, other), (w1, w0))| {
        let grown = 1.0 - sum.min(*other) / sum.max(*other);
        let square = grown / (w1 - w0).powi(2);
        // Of a sum that was 0 only the sign is known.
        ((GROWTH_MIN..1.0).contains(&grown) && square.is_finite()).then_some(square)
    });
    let inverse_rate = median(rates.collect()).ok_or(Unfit::Misfit)?.sqrt();
    let found = AdagradStep {
        is_backward,
        inverse_rate,
    };
    let is_rate = inverse_rate > 0.0 && is_coefficient(inverse_rate);
    is_rate
        .then_some(Prediction::SumOfSquares(found))
        .ok_or(Unfit::Misfit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Predictor;
    use crate::codec::fit;

    const ROWS: usize = 400;
    const WIDTH: usize = 16;

    /// A number from -1 to 1 that is never 0.
    fn noise(at: usize, seed: u32) -> f32 {
        let mixed =
            (u32::try_from(at).unwrap() ^ seed.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b9);
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
        let low = u16::try_from((mixed ^ mixed >> 12) & 0xffff).unwrap();
        (f32::from(low) - 32_767.5) / 32_768.0
    }

    /// How often a row was touched: most never, a fifth of the others twice.
    fn touches(row: usize) -> usize {
        match row % 5 {
            0 if row.is_multiple_of(25) => 2,
            0 => 1,
            _ => 0,
        }
    }

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    /// The share of the lanes of rows touched once that a prediction meets within 64 places.
    fn met(
        prediction: &Prediction,
        inputs: &[&[u8]],
        raw: &[u8],
        touches: impl Fn(usize) -> usize,
    ) -> f64 {
        let mut out = vec![0; raw.len()];
        prediction.predict(inputs, &mut out);
        let place = |lane: &[u8; 4]| i64::from(u32::from_le_bytes(*lane));
        let lanes = out.as_chunks().0.iter().zip(raw.as_chunks().0).enumerate();
        let once = lanes.filter(|(at, _)| touches(at / WIDTH) == 1);
        let hits = once.map(|(_, (a, b))| f64::from((place(a) - place(b)).abs() <= 64));
        let hits: Vec<f64> = hits.collect();
        hits.iter().sum::<f64>() / hits.len() as f64
    }

    #[test]
    fn rows_touched_by_adam_are_foretold_from_those_touched_once() {
        steps_are_foretold(touches);
        assert_eq!(dense_fit(touches), Err(Unfit::Untold));
        for kept in [3, 20] {
            let most =
                |row: usize| usize::from(!row.is_multiple_of(kept)) + usize::from(row % 10 == 1);
            steps_are_foretold(most);
        }
    }

    fn steps_are_foretold(touches: impl Fn(usize) -> usize) {
        let (w0, m0, v0, w1, m1, v1) = steps(&touches);
        let inputs: [&[u8]; 3] = [&v0, &m1, &m0];
        let found = fit(Predictor::SparseSecondMoment, &v1, &inputs).unwrap();
        assert!(met(&found, &inputs, &v1, &touches) > 0.95, "{found:?}");
        let inputs: [&[u8]; 4] = [&w0, &m1, &v1, &m0];
        let found = fit(Predictor::SparseAdam, &w1, &inputs).unwrap();
        assert!(met(&found, &inputs, &w1, &touches) > 0.95, "{found:?}");
    }

    fn dense_fit(touches: impl Fn(usize) -> usize) -> Result<Prediction, Unfit> {
        let (_, m0, v0, _, m1, v1) = steps(&touches);
        fit(Predictor::SecondMoment, &v1, &[&v0, &m1, &m0])
    }

    /// Weight, mean and mean of squares, before and after.
    type Steps = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>);

    fn steps(touches: &impl Fn(usize) -> usize) -> Steps {
        let lanes = ROWS * WIDTH;
        let mut w: Vec<f32> = (0..lanes).map(|at| noise(at, 1)).collect();
        let mut m: Vec<f32> = (0..lanes).map(|at| noise(at, 2) * 1e-3).collect();
        let mut v: Vec<f32> = (0..lanes).map(|at| noise(at, 3).powi(2) * 1e-6).collect();
        let before = [bytes(&w), bytes(&m), bytes(&v)];
        for at in 0..lanes {
            for time in 0..touches(at / WIDTH) {
                let g = noise(at, 9 + u32::try_from(time).unwrap()) * 1e-2;
                m[at] += (g - m[at]) * 0.1;
                v[at] += (g * g - v[at]) * 0.001;
                w[at] += -1e-3 * m[at] / (v[at].sqrt() + 1e-8);
            }
        }
        let [w0, m0, v0] = before;
        (w0, m0, v0, bytes(&w), bytes(&m), bytes(&v))
    }

    #[test]
    fn sums_of_adagrad_are_foretold_both_ways_in_few_rows_and_in_all() {
        for all in [false, true] {
            sums_are_foretold(|row| if all { 1 } else { touches(row) });
        }
    }

    fn sums_are_foretold(touches: impl Fn(usize) -> usize) {
        let lanes = ROWS * WIDTH;
        let mut w: Vec<f32> = (0..lanes).map(|at| noise(at, 1) * 0.05).collect();
        let mut s: Vec<f32> = (0..lanes).map(|at| noise(at, 3).powi(2)).collect();
        let (w0, s0) = (bytes(&w), bytes(&s));
        for at in 0..lanes {
            for time in 0..touches(at / WIDTH) {
                let g = noise(at, 9 + u32::try_from(time).unwrap());
                s[at] += g * g;
                w[at] -= 0.03 * (g / (s[at].sqrt() + 1e-10));
            }
        }
        let (w1, s1) = (bytes(&w), bytes(&s));
        for (raw, from) in [(&s1, &s0), (&s0, &s1)] {
            let inputs: [&[u8]; 3] = [from, &w1, &w0];
            let found = fit(Predictor::SumOfSquares, raw, &inputs).unwrap();
            assert!(met(&found, &inputs, raw, &touches) > 0.9, "{found:?}");
        }
    }

    /// Where the means moved and no weight did, the lanes tell, and it is no step.
    #[test]
    fn what_is_no_step_is_told_from_what_cannot_be_told() {
        let still = bytes(&[0.5; 4096]);
        let mut moved = still.clone();
        moved.chunks_mut(40).for_each(|lanes| lanes[0] ^= 1);
        let found = adam(&still, &[&still, &moved, &still, &still]);
        assert_eq!(found, Err(Unfit::Misfit));
        let found = adam(&still, &[&still, &still, &still, &still]);
        assert_eq!(found, Err(Unfit::Untold));
    }

    #[test]
    fn what_few_or_most_lanes_tell_is_left_alone() {
        let all = vec![1u8; 4096];
        let (none, mut few) = (all.clone(), all.clone());
        few[..64].fill(2);
        for m1 in [&none, &few, &vec![3u8; 4096]] {
            assert_eq!(second_moment(&all, &[&all, m1, &all]), Err(Unfit::Untold));
        }
    }
}
