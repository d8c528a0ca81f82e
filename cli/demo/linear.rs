//! The affine layer `y = x W^T + b`, with `W` stored one row per output.

use super::matmul::{View, add_product};
use super::parameter::{ParameterId, Parameters};
use super::rng::SplitMix64;

pub(super) struct Linear {
    weight: ParameterId,
    bias: ParameterId,
    inputs: usize,
    outputs: usize,
    /// The last forward input; the weight's gradient needs it.
    input: Vec<f32>,
}

impl Linear {
    /// Weights start uniform in `1 / sqrt(inputs)`, biases at zero.
    pub(super) fn new(
        name: &str,
        [inputs, outputs]: [usize; 2],
        parameters: &mut Parameters,
        rng: &mut SplitMix64,
    ) -> Self {
        let bound = 1.0 / (inputs as f32).sqrt();
        let shape = [outputs, inputs];
        Self {
            weight: parameters.uniform(format!("{name}.weight"), &shape, bound, rng),
            bias: parameters.constant(format!("{name}.bias"), outputs, 0.0),
            inputs,
            outputs,
            input: Vec::new(),
        }
    }

    pub(super) fn forward(&mut self, parameters: &Parameters, input: Vec<f32>) -> Vec<f32> {
        self.input = input;
        let rows = self.input.len() / self.inputs;
        let mut output = parameters[self.bias].value.repeat(rows);
        let weight = View::new(&parameters[self.weight].value, self.outputs, self.inputs);
        let input = View::new(&self.input, rows, self.inputs);
        add_product(input, weight.transposed(), &mut output, self.outputs);
        output
    }

    /// Adds to the parameters' gradients; returns the gradient by the input.
    pub(super) fn backward(&self, parameters: &mut Parameters, gradient: &[f32]) -> Vec<f32> {
        let rows = self.input.len() / self.inputs;
        let bias = &mut parameters[self.bias].gradient;
        for row in gradient.chunks_exact(self.outputs) {
            for (sum, g) in bias.iter_mut().zip(row) {
                *sum += g;
            }
        }
        let gradient = View::new(gradient, rows, self.outputs);
        let input = View::new(&self.input, rows, self.inputs);
        let weight = &mut parameters[self.weight];
        add_product(
            gradient.transposed(),
            input,
            &mut weight.gradient,
            self.inputs,
        );
        let mut by_input = vec![0.0; rows * self.inputs];
        let weight = View::new(&weight.value, self.outputs, self.inputs);
        add_product(gradient, weight, &mut by_input, self.inputs);
        by_input
    }
}
