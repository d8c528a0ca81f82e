//! Causal multi-head self-attention (Vaswani et al. 2017, "Attention Is All
//! You Need").

use super::linear::Linear;
use super::matmul::{View, add_product};
use super::parameter::Parameters;
use super::rng::SplitMix64;
use super::softmax::{softmax, softmax_backward};

pub(super) struct Attention {
    query_key_value: Linear,
    projection: Linear,
    width: usize,
    heads: usize,
    sequence: usize,
    /// The last forward pass's queries, keys and values, one row per token.
    activations: Vec<f32>,
    /// Its attention weights: one `sequence` x `sequence` matrix per sequence
    /// and head.
    probabilities: Vec<f32>,
}

impl Attention {
    pub(super) fn new(
        name: &str,
        width: usize,
        heads: usize,
        parameters: &mut Parameters,
        rng: &mut SplitMix64,
    ) -> Self {
        let (qkv, out) = (format!("{name}.qkv"), format!("{name}.projection"));
        Self {
            query_key_value: Linear::new(&qkv, [width, 3 * width], parameters, rng),
            projection: Linear::new(&out, [width, width], parameters, rng),
            width,
            heads,
            sequence: 0,
            activations: Vec::new(),
            probabilities: Vec::new(),
        }
    }

    pub(super) fn forward(
        &mut self,
        parameters: &Parameters,
        input: Vec<f32>,
        sequence: usize,
    ) -> Vec<f32> {
        let mut output = vec![0.0; input.len()];
        self.sequence = sequence;
        self.activations = self.query_key_value.forward(parameters, input);
        let square = sequence * sequence;
        let scale = self.scale();
        let mut probabilities =
            vec![0.0; output.len() / self.width / sequence * self.heads * square];
        for (unit, weights) in probabilities.chunks_exact_mut(square).enumerate() {
            let [query, key, value] = self.head(unit);
            add_product(query, key.transposed(), weights, sequence);
            for (position, row) in weights.chunks_exact_mut(sequence).enumerate() {
                // A token attends to itself and to what came before it.
                let (seen, future) = row.split_at_mut(position + 1);
                seen.iter_mut().for_each(|score| *score *= scale);
                softmax(seen);
                future.fill(0.0);
            }
            let weights = View::new(weights, sequence, sequence);
            let [start, _] = self.offsets(unit);
            add_product(weights, value, &mut output[start..], self.width);
        }
        self.probabilities = probabilities;
        self.projection.forward(parameters, output)
    }

    /// Adds to the parameters' gradients; returns the gradient by the input.
    pub(super) fn backward(&self, parameters: &mut Parameters, gradient: &[f32]) -> Vec<f32> {
        let (n, width) = (self.sequence, self.width);
        let by_output = self.projection.backward(parameters, gradient);
        let mut by_activations = vec![0.0; self.activations.len()];
        let mut by_scores = vec![0.0; n * n];
        for (unit, weights) in self.probabilities.chunks_exact(n * n).enumerate() {
            let [query, key, value] = self.head(unit);
            let [narrow, wide] = self.offsets(unit);
            let by_head = View::strided(&by_output[narrow..], n, width / self.heads, width);
            by_scores.fill(0.0);
            add_product(by_head, value.transposed(), &mut by_scores, n);
            for (row, weights) in by_scores.chunks_exact_mut(n).zip(weights.chunks_exact(n)) {
                // Masked positions have weight zero, hence gradient zero.
                softmax_backward(weights, row);
                row.iter_mut().for_each(|g| *g *= self.scale());
            }
            let weights = View::new(weights, n, n);
            let by_scores = View::new(&by_scores, n, n);
            let target = &mut by_activations[wide..];
            add_product(by_scores, key, target, 3 * width);
            add_product(
                by_scores.transposed(),
                query,
                &mut target[width..],
                3 * width,
            );
            add_product(
                weights.transposed(),
                by_head,
                &mut target[2 * width..],
                3 * width,
            );
        }
        self.query_key_value.backward(parameters, &by_activations)
    }

    /// Scores are divided by the square root of the head's width, which keeps
    /// their variance independent of it.
    fn scale(&self) -> f32 {
        1.0 / ((self.width / self.heads) as f32).sqrt()
    }

    /// Where a head's block starts in rows of `width` and of `3 * width`;
    /// units count the heads of the first sequence, then of the next.
    fn offsets(&self, unit: usize) -> [usize; 2] {
        let token = unit / self.heads * self.sequence;
        let column = unit % self.heads * (self.width / self.heads);
        [token * self.width + column, token * 3 * self.width + column]
    }

    /// One head's queries, keys and values for one sequence.
    fn head(&self, unit: usize) -> [View<'_>; 3] {
        let [_, start] = self.offsets(unit);
        [0, 1, 2].map(|part| {
            let data = &self.activations[start + part * self.width..];
            View::strided(data, self.sequence, self.width / self.heads, 3 * self.width)
        })
    }
}
