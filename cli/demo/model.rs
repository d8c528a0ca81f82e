//! The demo's network: a character-level transformer language model (Vaswani
//! et al. 2017, decoder only) with hand-written forward and backward passes.

use super::block::Block;
use super::linear::Linear;
use super::norm::LayerNorm;
use super::parameter::{ParameterId, Parameters};
use super::rng::SplitMix64;
use super::softmax::softmax;

/// The network's sizes. `width` is a multiple of `heads`.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) vocabulary: usize,
    pub(super) context: usize,
    pub(super) width: usize,
    pub(super) heads: usize,
    pub(super) blocks: usize,
}

pub(super) struct Model {
    pub(super) parameters: Parameters,
    shape: Shape,
    token_embedding: ParameterId,
    position_embedding: ParameterId,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Model {
    pub(super) fn new(shape: Shape, rng: &mut SplitMix64) -> Self {
        let mut parameters = Parameters::default();
        let p = &mut parameters;
        let width = shape.width;
        let mut embedding = |name: &str, rows, p: &mut Parameters| {
            p.uniform(format!("{name}.weight"), &[rows, width], 0.5, rng)
        };
        let token_embedding = embedding("token_embedding", shape.vocabulary, p);
        let position_embedding = embedding("position_embedding", shape.context, p);
        let blocks = (0..shape.blocks)
            .map(|i| Block::new(&format!("blocks.{i}"), width, shape.heads, p, rng))
            .collect();
        let norm = LayerNorm::new("norm", width, p);
        let head = Linear::new("head", [width, shape.vocabulary], p, rng);
        Self {
            parameters,
            shape,
            token_embedding,
            position_embedding,
            blocks,
            norm,
            head,
        }
    }

    /// The logits of each position's next token, for any number of sequences
    /// of `sequence` tokens each, laid end to end.
    pub(super) fn forward(&mut self, tokens: &[u8], sequence: usize) -> Vec<f32> {
        let width = self.shape.width;
        let parameters = &self.parameters;
        let positions = &parameters[self.position_embedding].value;
        let embeddings = &parameters[self.token_embedding].value;
        let mut stream = Vec::with_capacity(tokens.len() * width);
        for (i, &token) in tokens.iter().enumerate() {
            let token = &embeddings[usize::from(token) * width..][..width];
            let position = &positions[i % sequence * width..][..width];
            stream.extend(token.iter().zip(position).map(|(t, p)| t + p));
        }
        for block in &mut self.blocks {
            block.forward(parameters, &mut stream, sequence);
        }
        let normalized = self.norm.forward(parameters, &stream);
        self.head.forward(parameters, normalized)
    }

    /// Leaves in the parameters the gradient of the mean cross-entropy of
    /// `tokens` against `targets`, and returns that loss.
    pub(super) fn loss_and_gradient(
        &mut self,
        tokens: &[u8],
        targets: &[u8],
        sequence: usize,
    ) -> f32 {
        let logits = self.forward(tokens, sequence);
        let (loss, by_logits) = cross_entropy(logits, targets, self.shape.vocabulary);
        self.backward(&by_logits, tokens, sequence);
        loss
    }

    fn backward(&mut self, by_logits: &[f32], tokens: &[u8], sequence: usize) {
        let width = self.shape.width;
        let parameters = &mut self.parameters;
        parameters.clear_gradients();
        let by_normalized = self.head.backward(parameters, by_logits);
        let mut gradient = self.norm.backward(parameters, &by_normalized);
        for block in self.blocks.iter().rev() {
            block.backward(parameters, &mut gradient);
        }
        for (i, (&token, row)) in tokens.iter().zip(gradient.chunks_exact(width)).enumerate() {
            let places = [
                (self.token_embedding, usize::from(token)),
                (self.position_embedding, i % sequence),
            ];
            for (embedding, place) in places {
                let sums = &mut parameters[embedding].gradient[place * width..][..width];
                for (sum, g) in sums.iter_mut().zip(row) {
                    *sum += g;
                }
            }
        }
    }
}

/// The mean cross-entropy in nats, and its gradient by the logits: softmax
/// less the one-hot target, over the number of rows.
fn cross_entropy(mut logits: Vec<f32>, targets: &[u8], vocabulary: usize) -> (f32, Vec<f32>) {
    let share = 1.0 / targets.len() as f32;
    let mut loss = 0.0;
    for (row, &target) in logits.chunks_exact_mut(vocabulary).zip(targets) {
        softmax(row);
        loss -= row[usize::from(target)].ln() * share;
        row[usize::from(target)] -= 1.0;
        row.iter_mut().for_each(|g| *g *= share);
    }
    (loss, logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TINY: Shape = Shape {
        vocabulary: 7,
        context: 5,
        width: 8,
        heads: 2,
        blocks: 2,
    };
    const TOKENS: [u8; 10] = [0, 3, 1, 6, 3, 2, 2, 5, 4, 0];
    const TARGETS: [u8; 10] = [3, 1, 6, 3, 2, 2, 5, 4, 0, 1];

    /// Every parameter moved off its initial value, biases and norms included,
    /// so no term of the gradient is hidden by a zero or a one.
    fn tiny_model() -> Model {
        let mut rng = SplitMix64::new(5);
        let mut model = Model::new(TINY, &mut rng);
        for parameter in model.parameters.iter_mut() {
            for value in &mut parameter.value {
                *value += rng.unit() - 0.5;
            }
        }
        model
    }

    /// The loss in f64 from the f32 logits: less rounding noise for the
    /// differences to pick up.
    fn exact_loss(model: &mut Model) -> f64 {
        let logits = model.forward(&TOKENS, TINY.context);
        let rows = logits.chunks_exact(TINY.vocabulary).zip(TARGETS);
        let total: f64 = rows
            .map(|(row, target)| {
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                sum.ln() - f64::from(row[usize::from(target)])
            })
            .sum();
        total / 10.0
    }

    fn set(model: &mut Model, parameter: usize, element: usize, value: f32) {
        let parameter = model.parameters.iter_mut().nth(parameter).unwrap();
        parameter.value[element] = value;
    }

    /// The derivative by one element, from central differences with steps h
    /// and 2h, extrapolated (Richardson 1911).
    fn difference(model: &mut Model, parameter: usize, element: usize) -> f64 {
        const H: f32 = 1.0 / 64.0;
        let list = model.parameters.iter();
        let value = list.as_slice()[parameter].value[element];
        let mut central = |h: f32| {
            set(model, parameter, element, value + h);
            let above = exact_loss(model);
            set(model, parameter, element, value - h);
            let below = exact_loss(model);
            (above - below) / (2.0 * f64::from(h))
        };
        let (near, far) = (central(H), central(2.0 * H));
        set(model, parameter, element, value);
        (4.0 * near - far) / 3.0
    }

    #[test]
    fn gradient_equals_finite_differences_for_every_parameter() {
        let mut model = tiny_model();
        let loss = model.loss_and_gradient(&TOKENS, &TARGETS, TINY.context);
        assert!((f64::from(loss) - exact_loss(&mut model)).abs() < 1e-5);
        let gradients: Vec<(String, Vec<f32>)> = model
            .parameters
            .iter()
            .map(|p| (p.name.clone(), p.gradient.clone()))
            .collect();
        for (parameter, (name, gradient)) in gradients.iter().enumerate() {
            let (mut error, mut norm) = (0.0, 0.0);
            for (element, &g) in gradient.iter().enumerate() {
                let estimate = difference(&mut model, parameter, element);
                error += (f64::from(g) - estimate).powi(2);
                norm += estimate.powi(2);
            }
            let relative = (error / norm).sqrt();
            assert!(norm > 1e-8, "{name} has no gradient");
            assert!(relative < 1e-3, "{name}: off by {relative:e}");
        }
    }

    #[test]
    fn later_tokens_do_not_change_earlier_logits() {
        let mut model = tiny_model();
        let before = model.forward(&[1, 2, 3, 4], 4);
        let after = model.forward(&[1, 2, 3, 0], 4);
        let shared = 3 * TINY.vocabulary;
        assert_eq!(before[..shared], after[..shared]);
        assert_ne!(before[shared..], after[shared..]);
    }

    #[test]
    fn sequences_in_a_batch_do_not_mix() {
        let mut model = tiny_model();
        let both = model.forward(&TOKENS, 5);
        let second = model.forward(&TOKENS[5..], 5);
        for (x, y) in both[5 * TINY.vocabulary..].iter().zip(&second) {
            assert!((x - y).abs() < 1e-5);
        }
    }
}
