//! Softmax over one row, and its gradient.

use super::exp::exp;

/// Replaces scores by probabilities. The maximum is subtracted first, which
/// changes no quotient and keeps the exponentials from overflowing.
pub(super) fn softmax(row: &mut [f32]) {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in row.iter_mut() {
        *score = exp(*score - highest);
    }
    let scale = 1.0 / row.iter().sum::<f32>();
    for weight in row.iter_mut() {
        *weight *= scale;
    }
}

/// Turns the gradient by the probabilities into the gradient by the scores:
/// `p * (g - sum(p * g))`.
pub(super) fn softmax_backward(probabilities: &[f32], gradient: &mut [f32]) {
    let pairs = probabilities.iter().zip(gradient.iter());
    let mean: f32 = pairs.map(|(p, g)| p * g).sum();
    for (g, p) in gradient.iter_mut().zip(probabilities) {
        *g = p * (*g - mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_becomes_probabilities_in_the_same_order() {
        let mut row = [1.0, 3.0, 2.0, 900.0];
        softmax(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(row[3] > row[1] && row[0] <= row[2]);
    }

    #[test]
    fn equal_gradients_cancel() {
        let mut gradient = [0.5; 4];
        softmax_backward(&[0.25; 4], &mut gradient);
        assert!(gradient.iter().all(|g| g.abs() < 1e-7));
    }
}
