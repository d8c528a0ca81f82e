//! AdamW: Adam with weight decay decoupled from the gradient (Loshchilov &
//! Hutter 2019; Adam itself is Kingma & Ba 2015).

use super::parameter::{Parameter, Parameters};

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;
const WEIGHT_DECAY: f32 = 0.01;

/// The two moving averages of one parameter's gradient.
pub(super) struct Moments {
    pub(super) exp_avg: Vec<f32>,
    pub(super) exp_avg_sq: Vec<f32>,
}

pub(super) struct AdamW {
    /// One entry per parameter, in the parameters' order.
    pub(super) moments: Vec<Moments>,
    pub(super) step: u64,
}

impl AdamW {
    pub(super) fn new(parameters: &Parameters) -> Self {
        let zeros = |parameter: &Parameter| Moments {
            exp_avg: vec![0.0; parameter.value.len()],
            exp_avg_sq: vec![0.0; parameter.value.len()],
        };
        Self {
            moments: parameters.iter().map(zeros).collect(),
            step: 0,
        }
    }

    /// Moves every parameter by its gradient.
    pub(super) fn update(&mut self, parameters: &mut Parameters, learning_rate: f32) {
        self.step += 1;
        // The averages start at zero; dividing by these undoes that bias.
        let correction1 = 1.0 - power(BETA1, self.step);
        let correction2 = (1.0 - power(BETA2, self.step)).sqrt();
        let rate = learning_rate / correction1;
        for (parameter, moments) in parameters.iter_mut().zip(&mut self.moments) {
            // Biases and norms are not decayed: they do not overfit.
            let decays = parameter.shape.len() > 1;
            let keep = if decays {
                1.0 - learning_rate * WEIGHT_DECAY
            } else {
                1.0
            };
            let elements = parameter.value.iter_mut().zip(&parameter.gradient);
            let averages = moments.exp_avg.iter_mut().zip(&mut moments.exp_avg_sq);
            for ((x, &g), (m, v)) in elements.zip(averages) {
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *x = *x * keep - rate * *m / (v.sqrt() / correction2 + EPSILON);
            }
        }
    }
}

/// By repeated squaring: the standard library leaves the rounding of `powi`
/// open, and these bits end up in the checkpoint.
fn power(mut base: f32, mut exponent: u64) -> f32 {
    let mut product = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::super::rng::SplitMix64;
    use super::*;

    #[test]
    fn power_agrees_with_the_definition() {
        assert_eq!(power(0.9, 0), 1.0);
        assert!((power(0.9, 10) - 0.348_678_44).abs() < 1e-6);
        assert_eq!(power(0.9, u64::MAX), 0.0);
    }

    #[test]
    fn the_first_step_moves_by_the_learning_rate_against_the_gradient() {
        let mut parameters = Parameters::default();
        let id = parameters.constant("bias".into(), 2, 1.0);
        parameters[id].gradient = vec![0.5, -3.0];
        let mut optimizer = AdamW::new(&parameters);
        optimizer.update(&mut parameters, 0.1);
        assert_eq!(optimizer.step, 1);
        for (x, expected) in parameters[id].value.iter().zip([0.9, 1.1]) {
            assert!((x - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn decay_shrinks_matrices_without_a_gradient() {
        let mut parameters = Parameters::default();
        let rng = &mut SplitMix64::new(1);
        let id = parameters.uniform("weight".into(), &[2, 2], 1.0, rng);
        let before = parameters[id].value.clone();
        AdamW::new(&parameters).update(&mut parameters, 0.1);
        for (x, before) in parameters[id].value.iter().zip(before) {
            assert_eq!(*x, before * (1.0 - 0.1 * WEIGHT_DECAY));
        }
    }
}
