//! Coefficients of predictions, learnt from a sample: cheap guesses that cost bytes when wrong,
//! never correctness.

use crate::codec::Predictor;
use crate::codec::histogram;
use crate::codec::predict::{
    Half, LANE_LEN, Prediction, fit_adam, fit_rounded, fit_sparse, is_coefficient,
};
use crate::codec::simd;

/// What optimizers add to the denominator: PyTorch's and Keras' default, and others that are used.
pub(super) const EPSILONS: [f32; 5] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-10];
/// Fewer lanes than this for each coefficient teach nothing.
const LANES_PER_COEFFICIENT: usize = 8;

/// Why nothing was learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The chunk does not tell: it is for another predictor, or too short.
    Untold,
    /// What it tells is no prediction of the kind.
    Misfit,
}

/// Learns how `raw` was made from `inputs`.
///
/// # Errors
/// If that cannot be told.
pub fn fit(predictor: Predictor, raw: &[u8], inputs: &[&[u8]]) -> Result<Prediction, Unfit> {
    let right_lengths = inputs
        .iter()
        .all(|input| input.len() == Prediction::input_len(predictor, raw.len()));
    if !right_lengths || !predictor.takes(inputs.len()) {
        return Err(Unfit::Untold);
    }
    let found = match predictor {
        Predictor::None => None,
        Predictor::Base => Some(Prediction::Base),
        Predictor::Cast => cast(raw, inputs),
        Predictor::Linear | Predictor::RoundedLinear => linear(raw, inputs),
        Predictor::SecondMoment | Predictor::RoundedSecondMoment => second_moment(raw, inputs),
        Predictor::Adam => fit_adam::adam(raw, inputs),
        Predictor::SparseSecondMoment => return fit_sparse::second_moment(raw, inputs),
        Predictor::SparseAdam => return fit_sparse::adam(raw, inputs),
        Predictor::SumOfSquares => return fit_sparse::sum_of_squares(raw, inputs),
    };
    found.ok_or(Unfit::Untold)
}

/// The format that makes more lanes of the sample.
fn cast(raw: &[u8], inputs: &[&[u8]]) -> Option<Prediction> {
    let raw = histogram::sample_lanes(2, raw);
    let wide = histogram::sample_lanes(4, inputs.first()?);
    let hits = |half: &Half| {
        let mut out = vec![0; raw.len()];
        half.cast(&wide, &mut out);
        let pairs = out.as_chunks::<2>().0.iter().zip(raw.as_chunks::<2>().0);
        pairs.filter(|(made, found)| made == found).count()
    };
    Half::ALL.into_iter().max_by_key(hits).map(Prediction::Cast)
}

/// A raw chunk's lanes as numbers, and those of its inputs.
pub(super) type Numbers = (Vec<f64>, Vec<Vec<f64>>);

/// The sampled lanes of a chunk and its inputs as numbers, without those that are not finite.
pub(super) fn sample(raw: &[u8], inputs: &[&[u8]]) -> Numbers {
    finite(raw, inputs, |bytes| {
        histogram::sample_lanes(LANE_LEN, bytes)
    })
}

/// Picked lanes of a chunk and its inputs as numbers, without those that are not finite.
pub(super) fn finite(raw: &[u8], inputs: &[&[u8]], pick: impl Fn(&[u8]) -> Vec<u8>) -> Numbers {
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        let number = |lane: &[u8; LANE_LEN]| f64::from(f32::from_le_bytes(*lane));
        pick(bytes).as_chunks().0.iter().map(number).collect()
    };
    let (mut y, mut x) = (
        numbers(raw),
        inputs.iter().map(|i| numbers(i)).collect::<Vec<_>>(),
    );
    let finite: Vec<bool> = (0..y.len())
        .map(|at| {
            x.iter()
                .chain([&y])
                .all(|of| of.get(at).is_some_and(|n| n.is_finite()))
        })
        .collect();
    for numbers in x.iter_mut().chain([&mut y]) {
        let mut keep = finite.iter();
        numbers.retain(|_| keep.next().copied().unwrap_or(false));
    }
    (y, x)
}

/// Least squares by modified Gram-Schmidt, which is as good as Householder's way for the
/// solution (Bjorck 1967). Columns that say nothing new get 0.
pub(super) fn solve(columns: Vec<Vec<f64>>, y: Vec<f64>, weights: &[f64]) -> Option<Vec<f64>> {
    simd::widest(
        #[inline(always)]
        || solve_inline(columns, y, weights),
    )
}

#[inline(always)]
fn solve_inline(mut columns: Vec<Vec<f64>>, mut y: Vec<f64>, weights: &[f64]) -> Option<Vec<f64>> {
    if y.len() < columns.len() * LANES_PER_COEFFICIENT {
        return None;
    }
    for column in columns.iter_mut().chain([&mut y]) {
        column.iter_mut().zip(weights).for_each(|(x, w)| *x *= w);
    }
    let count = columns.len();
    let mut factor = vec![vec![0.0; count + 1]; count];
    for at in 0..count {
        let (done, later) = columns.split_at_mut(at + 1);
        let (Some(pivot), Some(row)) = (done.last(), factor.get_mut(at)) else {
            return None;
        };
        let norm = dot(pivot, pivot);
        for (target, out) in later
            .iter_mut()
            .chain([&mut y])
            .zip(row.iter_mut().skip(at + 1))
        {
            let share = if norm > 0.0 {
                dot(pivot, target) / norm
            } else {
                0.0
            };
            target
                .iter_mut()
                .zip(pivot)
                .for_each(|(t, p)| *t -= share * p);
            *out = share;
        }
    }
    let mut solution = vec![0.0; count];
    for at in (0..count).rev() {
        let row = factor.get(at)?;
        let known: f64 = (at + 1..count).map(|j| row[j] * solution[j]).sum();
        solution[at] = row[count] - known;
    }
    solution
        .iter()
        .all(|c| is_coefficient(*c))
        .then_some(solution)
}

/// The sum of products, in several sums at once as vector units want it.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (blocks_a, rest_a) = a.as_chunks::<8>();
    let (blocks_b, rest_b) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in blocks_a.iter().zip(blocks_b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// How many of a sample of lanes stayed as they were, and how many there are in it.
pub(super) fn kept(after: &[u8], before: &[u8]) -> (usize, usize) {
    let [after, before] = [after, before].map(|bytes| histogram::sample_lanes(LANE_LEN, bytes));
    let lanes = after.as_chunks::<LANE_LEN>().0;
    let pairs = lanes.iter().zip(before.as_chunks::<LANE_LEN>().0);
    (pairs.filter(|(a, b)| a == b).count(), lanes.len())
}

/// Whether most lanes stayed as they were: predictors that move every lane need not be tried.
pub(super) fn is_mostly_kept(after: &[u8], before: &[u8]) -> bool {
    let (kept, lanes) = kept(after, before);
    kept * 2 > lanes
}

/// What a second moment is a sum of, and how much each lane counts: squares spread over many
/// powers of ten, so by its own size.
pub(super) fn of_squares(
    y: &[f64],
    v0: Vec<f64>,
    m1: &[f64],
    m0: &[f64],
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).collect();
    let columns = vec![v0, product(m1, m1), product(m1, m0), product(m0, m0)];
    let least = f64::from(f32::MIN_POSITIVE);
    let weight = |y: &f64| if y.abs() < least { 0.0 } else { 1.0 / y.abs() };
    (columns, y.iter().map(weight).collect())
}

fn second_moment(raw: &[u8], inputs: &[&[u8]]) -> Option<Prediction> {
    let [_, m1, m0] = inputs else { return None };
    if is_mostly_kept(m1, m0) {
        return None;
    }
    let (y, x) = sample(raw, inputs);
    let [v0, m1, m0] = <[Vec<f64>; 3]>::try_from(x).ok()?;
    let (columns, weights) = of_squares(&y, v0, &m1, &m0);
    let (solved, is_rounded) = fit_rounded::solve(&columns, &y, &weights)?;
    let solved = solved.try_into().ok()?;
    Some(match is_rounded {
        true => Prediction::RoundedSecondMoment(solved),
        false => Prediction::SecondMoment(solved),
    })
}

fn linear(raw: &[u8], inputs: &[&[u8]]) -> Option<Prediction> {
    let (y, columns) = sample(raw, inputs);
    let weights = vec![1.0; y.len()];
    let (solved, is_rounded) = fit_rounded::solve(&columns, &y, &weights)?;
    Some(match is_rounded {
        true => Prediction::RoundedLinear(solved),
        false => Prediction::Linear(solved),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Lanes that are not alike, from -1 to 1.
    pub(in crate::codec::predict) fn noise(seed: u32) -> impl Iterator<Item = f32> {
        (0..3000u32).map(move |at| {
            let word = (at ^ seed.rotate_left(16)).wrapping_mul(0x9e37_79b9);
            let word = (word ^ word >> 15).wrapping_mul(0x85eb_ca6b);
            f32::from(u16::try_from(word >> 16).unwrap_or_default()) / 32768.0 - 1.0
        })
    }

    pub(in crate::codec::predict) fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    pub(in crate::codec::predict) fn share_made(
        prediction: &Prediction,
        made: &[u8],
        inputs: &[&[u8]],
    ) -> f64 {
        let mut out = vec![0; made.len()];
        prediction.predict(inputs, &mut out);
        let pairs = out.as_chunks::<4>().0.iter().zip(made.as_chunks::<4>().0);
        let same = pairs.filter(|(p, made)| p == made).count();
        same as f64 * 4.0 / made.len() as f64
    }
}
