//! Coefficients of means that an optimizer scales in place: the first product is rounded to
//! binary32 before the others are added, by a factor that binary32 holds as well.
//!
//! A fit by least squares finds that factor to about its last bit, which is not enough: one that is
//! a bit off rounds half of the lanes another way.

use crate::codec::predict::evaluate::round;
use crate::codec::predict::fit;

/// Fewer lanes than one in so many that are hit at first: this is no mean that was moved once, and
/// no rounding will make it one.
const HITS_MIN: usize = 8;

/// Whether as many lanes come out to the bit as do if one step made all of them.
pub(super) const fn is_made_at_once(hits: usize, lanes: usize) -> bool {
    hits * HITS_MIN >= lanes
}

/// How many lanes a sum of columns makes to the bit.
pub(super) fn hits_plain(columns: &[Vec<f64>], coefficients: &[f64], y: &[f64]) -> usize {
    match (columns.split_first(), coefficients.first()) {
        (Some((first, others)), Some(factor)) => {
            let first: Vec<f64> = first.iter().map(|x| factor * x).collect();
            hits(&first, others, coefficients, y)
        }
        _ => 0,
    }
}

/// The coefficients that make most of the lanes, and whether their first product is rounded: those
/// of least squares, or others with a first factor that it may have been.
pub(super) fn solve(columns: &[Vec<f64>], y: &[f64], weights: &[f64]) -> Option<(Vec<f64>, bool)> {
    let solved = fit::solve(columns.to_vec(), y.to_vec(), weights)?;
    let (first, others) = columns.split_first()?;
    let factor = *solved.first()?;
    let mut best = (hits_plain(columns, &solved, y), solved, false);
    if !is_made_at_once(best.0, y.len()) {
        return Some((best.1, false));
    }
    for factor in factors_near(factor) {
        let scaled: Vec<f64> = first.iter().map(|x| f64::from(round(factor * x))).collect();
        let rest = y
            .iter()
            .zip(&scaled)
            .map(|(y, scaled)| y - scaled)
            .collect();
        let Some(solved) = fit::solve(others.to_vec(), rest, weights) else {
            continue;
        };
        let solved = [vec![factor], solved].concat();
        let found = hits(&scaled, others, &solved, y);
        if found > best.0 {
            best = (found, solved, true);
        }
    }
    Some((best.1, best.2))
}

/// Factors of binary32 that a fit may have meant: the nearest, and the nearest that lies off 1 by
/// a number of two digits, as people choose them. Nothing is rounded by a factor of 1.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the factor is one of binary32"
)]
fn factors_near(factor: f64) -> impl Iterator<Item = f64> {
    let off_one: f64 = format!("{:.1e}", 1.0 - factor).parse().unwrap_or_default();
    let [nearest, chosen] = [factor, 1.0 - off_one].map(|factor| f64::from(factor as f32));
    let chosen = Some(chosen).filter(|chosen| *chosen != nearest);
    let both = [Some(nearest), chosen].into_iter().flatten();
    both.filter(|factor| *factor != 1.0)
}

/// How many lanes come out to the bit, the first product given.
fn hits(first: &[f64], others: &[Vec<f64>], coefficients: &[f64], y: &[f64]) -> usize {
    let mut sums = first.to_vec();
    for (coefficient, column) in coefficients.iter().skip(1).zip(others) {
        let terms = column.iter().map(|x| coefficient * x);
        sums.iter_mut()
            .zip(terms)
            .for_each(|(sum, term)| *sum += term);
    }
    let lanes = sums.iter().zip(y);
    lanes
        .filter(|(sum, y)| f64::from(round(**sum)) == **y)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Predictor;
    use crate::codec::predict::Prediction;
    use crate::codec::predict::fit::fit;
    use crate::codec::predict::fit::tests::{bytes, noise, share_made};

    /// As `mul_(decay).add_(w, alpha=1 - decay)` leaves it, of weights that hardly moved: a fit
    /// cannot tell them apart, and its factor is off.
    #[test]
    fn an_average_that_was_scaled_in_place_is_made_to_the_bit() {
        for decay in [0.9f32, 0.999, 0.9995] {
            let w0: Vec<f32> = noise(1).collect();
            let w1: Vec<f32> = w0.iter().zip(noise(2)).map(|(w, n)| w + n * 1e-3).collect();
            let e0: Vec<f32> = w0.iter().zip(noise(3)).map(|(w, n)| w + n * 1e-2).collect();
            let e1 = e0
                .iter()
                .zip(&w1)
                .map(|(e, w)| e * decay + w * (1.0 - decay));
            let made = bytes(&e1.collect::<Vec<f32>>());
            let inputs = [&e0, &w0, &w1].map(|values| bytes(values));
            let inputs = inputs.each_ref().map(Vec::as_slice);
            let found = fit(Predictor::Linear, &made, &inputs).unwrap();
            assert!(
                matches!(found, Prediction::RoundedLinear(_)),
                "{decay}: {found:?}"
            );
            let share = share_made(&found, &made, &inputs);
            assert!(share > 0.93, "{decay}: {share} by {found:?}");
        }
    }

    /// Of Adam as PyTorch takes it; as JAX and Keras do, the sum is rounded once.
    #[test]
    fn a_second_moment_is_fitted_as_its_optimizer_rounds_it() {
        let m0: Vec<f32> = noise(4).map(|g| g * 1e-3).collect();
        let g: Vec<f32> = noise(5).map(|g| g * 1e-3).collect();
        let v0: Vec<f32> = noise(6).map(|g| (1e-6 + g * g * 1e-6) * 0.3).collect();
        let m1: Vec<f32> = m0.iter().zip(&g).map(|(m, g)| m + (g - m) * 0.1).collect();
        let inputs = [&v0, &m1, &m0].map(|values| bytes(values));
        let inputs = inputs.each_ref().map(Vec::as_slice);
        let pairs = || v0.iter().zip(&g);
        let in_place: Vec<f32> = pairs().map(|(v, g)| v * 0.999 + g * g * 0.001).collect();
        let at_once: Vec<f32> = pairs().map(|(v, g)| v + (g * g - v) * 0.001).collect();
        for (made, wanted) in [
            (in_place, Predictor::RoundedSecondMoment),
            (at_once, Predictor::SecondMoment),
        ] {
            let made = bytes(&made);
            let found = fit(Predictor::SecondMoment, &made, &inputs).unwrap();
            assert_eq!(found.predictor(), wanted);
            let share = share_made(&found, &made, &inputs);
            assert!(share > 0.95, "{share} by {found:?}");
        }
    }

    #[test]
    fn factors_are_those_that_people_choose() {
        let near = |factor| factors_near(factor).collect::<Vec<f64>>();
        let [decay, coarse] = [0.999f32, 0.95].map(f64::from);
        assert_eq!(near(decay + 1e-12), [decay]);
        assert_eq!(near(decay + 1e-7)[1], decay);
        assert_eq!(near(coarse + 2e-8), [coarse]);
        assert_eq!(near(1.0 - 1e-9), []);
    }
}
