//! The step of Adam between two checkpoints, learnt from a sample. If it is one step that made all
//! lanes, it is found so well that they come out to the bit.

use crate::codec::predict::fit::{EPSILONS, is_mostly_kept, sample, solve};
use crate::codec::predict::{AdamStep, Prediction, fit_rounded};

/// How much each lane counts where a step is all that is not known: small weights are rounded by
/// less and tell the step best, down to those that the step moves by their own size.
fn of_rounding(after: &[f64], before: &[f64]) -> Vec<f64> {
    let moved: f64 = after.iter().zip(before).map(|(a, b)| (a - b).abs()).sum();
    let moved = (moved / after.len() as f64).max(f64::from(f32::MIN_POSITIVE));
    after.iter().map(|w| 1.0 / (w.abs() + moved)).collect()
}

/// Rounds of Gauss and Newton for what keeps a denominator from 0: it is known to begin with, but
/// for a factor.
const ROUNDS: usize = 3;

/// What a better epsilon leaves of what is missed at most. One that follows the noise of roundings
/// leaves all but one part in as many as there are lanes, and foretells fewer of them.
const MISSED_MAX: f64 = 0.99;

/// What is learnt of a step of Adam from.
struct Steps {
    w0: Vec<f64>,
    m1: Vec<f64>,
    roots: Vec<f64>,
    w1: Vec<f64>,
    weights: Vec<f64>,
}

/// A step that was found.
struct Found {
    decay: f64,
    step: f64,
    epsilon: f64,
    /// The sum of squares of what it leaves.
    missed: f64,
}

impl Steps {
    /// The weight, and `m / (sqrt(v) + epsilon)`.
    fn columns(&self, epsilon: f64) -> Vec<Vec<f64>> {
        vec![self.w0.clone(), self.update(epsilon, 1)]
    }

    /// `m / (sqrt(v) + epsilon)`, to a power of the denominator.
    fn update(&self, epsilon: f64, power: i32) -> Vec<f64> {
        let lanes = self.m1.iter().zip(&self.roots);
        lanes
            .map(|(m, root)| m / (root + epsilon).powi(power))
            .collect()
    }

    fn solve(&self, epsilon: f64) -> Option<Found> {
        let columns = self.columns(epsilon);
        let update = columns.last()?.clone();
        let solved = solve(columns, self.w1.clone(), &self.weights)?;
        let [decay, step] = <[f64; 2]>::try_from(solved).ok()?;
        let lanes = self.w1.iter().zip(&self.w0);
        let lanes = lanes.zip(update.iter().zip(&self.weights));
        let missed = lanes
            .map(|((y, w), (u, weight))| ((y - decay * w - step * u) * weight).powi(2))
            .sum();
        Some(Found {
            decay,
            step,
            epsilon,
            missed,
        })
    }

    /// What was found, learnt better if it is one step that made all lanes: of many steps at once
    /// nothing comes out to the bit.
    fn refine(mut self, found: Found) -> Option<Found> {
        let columns = self.columns(found.epsilon);
        let hits = fit_rounded::hits_plain(&columns, &[found.decay, found.step], &self.w1);
        if !fit_rounded::is_made_at_once(hits, self.w1.len()) {
            return Some(found);
        }
        self.weights = of_rounding(&self.w1, &self.w0);
        let found = self.solve(found.epsilon)?;
        Some(self.refine_epsilon(found))
    }

    /// The same with an epsilon that suits better, if that is to be seen: before the second
    /// moment's bias correction is 1, the number that was chosen counts for less.
    fn refine_epsilon(&self, mut found: Found) -> Found {
        for _ in 0..ROUNDS {
            let mut columns = self.columns(found.epsilon);
            columns.push(self.update(found.epsilon, 2));
            let Some(solved) = solve(columns, self.w1.clone(), &self.weights) else {
                break;
            };
            let [_, step, slope] = solved[..] else { break };
            let epsilon = found.epsilon - slope / step;
            match self.solve(epsilon).filter(|_| epsilon > 0.0) {
                Some(better) if better.missed < found.missed * MISSED_MAX => found = better,
                _ => break,
            }
        }
        found
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the step is taken in binary32"
)]
pub(super) fn adam(raw: &[u8], inputs: &[&[u8]]) -> Option<Prediction> {
    if is_mostly_kept(raw, inputs.first()?) {
        return None;
    }
    let (w1, x) = sample(raw, inputs);
    let [w0, m1, v1] = <[Vec<f64>; 3]>::try_from(x).ok()?;
    let steps = Steps {
        weights: vec![1.0; w1.len()],
        roots: v1.iter().map(|v| v.max(0.0).sqrt()).collect(),
        w0,
        m1,
        w1,
    };
    let tried = EPSILONS.iter().filter_map(|e| steps.solve(f64::from(*e)));
    let best = tried.min_by(|a, b| a.missed.total_cmp(&b.missed))?;
    let best = steps.refine(best)?;
    let [decay, step, epsilon] = [best.decay, best.step, best.epsilon].map(|c| c as f32);
    let fits = [decay, step, epsilon]
        .iter()
        .all(|c| *c == 0.0 || c.is_normal());
    fits.then_some(Prediction::Adam(AdamStep {
        decay,
        step,
        scale: 1.0,
        epsilon,
    }))
}

#[cfg(test)]
mod tests {
    use crate::codec::Predictor;
    use crate::codec::predict::fit::fit;
    use crate::codec::predict::fit::tests::{bytes, noise, share_made};

    /// Whoever resumes an AdamW of PyTorch has its weights to the bit; so has a fit that is told
    /// nothing of rate and decay.
    #[test]
    fn a_step_of_adam_is_found_to_the_bit() {
        let (decay, step) = (1.0 - 5.7e-5f32, -5.7e-4f32);
        let w0: Vec<f32> = noise(1).map(|n| n * n * n * 0.5).collect();
        let m1: Vec<f32> = noise(2).map(|n| n * 1e-3).collect();
        let v1: Vec<f32> = noise(3).map(|n| n * n * 1e-6 + 1e-7).collect();
        let inputs = [&w0, &m1, &v1].map(|values| bytes(values));
        let inputs = inputs.each_ref().map(Vec::as_slice);
        // Epsilon counts in full after many steps, for less after few.
        for (scale, least) in [(1.0, 0.99), (0.97, 0.9), (0.3, 0.9)] {
            let lanes = w0.iter().zip(m1.iter().zip(&v1));
            let made: Vec<f32> = lanes
                .map(|(w, (m, v))| w * decay + step * m / (v.sqrt() / scale + 1e-8))
                .collect();
            let made = bytes(&made);
            let found = fit(Predictor::Adam, &made, &inputs).unwrap();
            let share = share_made(&found, &made, &inputs);
            assert!(share > least, "{scale}: {share} by {found:?}");
        }
    }
}
