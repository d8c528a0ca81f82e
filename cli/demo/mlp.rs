//! The position-wise feed-forward layer: four times the width between two
//! affine layers, with SiLU (Elfwing, Uchibe & Doya 2018) in between.

use super::exp::exp;
use super::linear::Linear;
use super::parameter::Parameters;
use super::rng::SplitMix64;

pub(super) struct Mlp {
    expand: Linear,
    contract: Linear,
    /// The last forward pass's values before the activation function.
    hidden: Vec<f32>,
}

impl Mlp {
    pub(super) fn new(
        name: &str,
        width: usize,
        parameters: &mut Parameters,
        rng: &mut SplitMix64,
    ) -> Self {
        let (expand, contract) = (format!("{name}.expand"), format!("{name}.contract"));
        Self {
            expand: Linear::new(&expand, [width, 4 * width], parameters, rng),
            contract: Linear::new(&contract, [4 * width, width], parameters, rng),
            hidden: Vec::new(),
        }
    }

    pub(super) fn forward(&mut self, parameters: &Parameters, input: Vec<f32>) -> Vec<f32> {
        self.hidden = self.expand.forward(parameters, input);
        let activated = self.hidden.iter().map(|&x| x * sigmoid(x)).collect();
        self.contract.forward(parameters, activated)
    }

    /// Adds to the parameters' gradients; returns the gradient by the input.
    pub(super) fn backward(&self, parameters: &mut Parameters, gradient: &[f32]) -> Vec<f32> {
        let mut by_hidden = self.contract.backward(parameters, gradient);
        for (g, &x) in by_hidden.iter_mut().zip(&self.hidden) {
            let s = sigmoid(x);
            *g *= s * (1.0 + x * (1.0 - s));
        }
        self.expand.backward(parameters, &by_hidden)
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}
