//! Layer normalization (Ba, Kiros & Hinton 2016).

use super::parameter::{ParameterId, Parameters};

/// Keeps the division defined for a row of equal values.
const EPSILON: f32 = 1e-5;

pub(super) struct LayerNorm {
    weight: ParameterId,
    bias: ParameterId,
    width: usize,
    /// The last forward pass's normalized rows, and one over each row's
    /// standard deviation.
    normalized: Vec<f32>,
    inverse_deviation: Vec<f32>,
}

impl LayerNorm {
    pub(super) fn new(name: &str, width: usize, parameters: &mut Parameters) -> Self {
        Self {
            weight: parameters.constant(format!("{name}.weight"), width, 1.0),
            bias: parameters.constant(format!("{name}.bias"), width, 0.0),
            width,
            normalized: Vec::new(),
            inverse_deviation: Vec::new(),
        }
    }

    pub(super) fn forward(&mut self, parameters: &Parameters, input: &[f32]) -> Vec<f32> {
        let count = self.width as f32;
        self.normalized.clear();
        self.inverse_deviation.clear();
        for row in input.chunks_exact(self.width) {
            let mean = row.iter().sum::<f32>() / count;
            let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
            let inverse = 1.0 / (variance + EPSILON).sqrt();
            self.normalized
                .extend(row.iter().map(|x| (x - mean) * inverse));
            self.inverse_deviation.push(inverse);
        }
        let weight = &parameters[self.weight].value;
        let bias = &parameters[self.bias].value;
        let mut output = self.normalized.clone();
        for row in output.chunks_exact_mut(self.width) {
            for ((y, w), b) in row.iter_mut().zip(weight).zip(bias) {
                *y = *y * w + b;
            }
        }
        output
    }

    /// Adds to the parameters' gradients; returns the gradient by the input.
    pub(super) fn backward(&self, parameters: &mut Parameters, gradient: &[f32]) -> Vec<f32> {
        let count = self.width as f32;
        let rows = || gradient.chunks_exact(self.width);
        let normalized = || self.normalized.chunks_exact(self.width);
        let bias = &mut parameters[self.bias].gradient;
        for row in rows() {
            for (sum, g) in bias.iter_mut().zip(row) {
                *sum += g;
            }
        }
        let weight = &mut parameters[self.weight];
        let mut by_input = Vec::with_capacity(gradient.len());
        for ((row, normalized), inverse) in rows().zip(normalized()).zip(&self.inverse_deviation) {
            // Mean and deviation depend on the whole row: the gradient loses
            // its mean and its component along the normalized row.
            let (mut mean, mut along) = (0.0, 0.0);
            for (i, (g, n)) in row.iter().zip(normalized).enumerate() {
                weight.gradient[i] += g * n;
                mean += g * weight.value[i];
                along += g * weight.value[i] * n;
            }
            mean /= count;
            along /= count;
            let columns = row.iter().zip(&weight.value).zip(normalized);
            by_input.extend(columns.map(|((g, w), n)| inverse * (g * w - mean - n * along)));
        }
        by_input
    }
}
