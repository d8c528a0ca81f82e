//! One transformer block: attention, then the feed-forward layer, each on a
//! normalized copy of the residual stream and added back to it (the pre-norm
//! order of Xiong et al. 2020, which trains without a long warm-up).

use super::attention::Attention;
use super::mlp::Mlp;
use super::norm::LayerNorm;
use super::parameter::Parameters;
use super::rng::SplitMix64;

pub(super) struct Block {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    pub(super) fn new(
        name: &str,
        width: usize,
        heads: usize,
        parameters: &mut Parameters,
        rng: &mut SplitMix64,
    ) -> Self {
        let part = |part: &str| format!("{name}.{part}");
        Self {
            attention_norm: LayerNorm::new(&part("attention_norm"), width, parameters),
            attention: Attention::new(&part("attention"), width, heads, parameters, rng),
            mlp_norm: LayerNorm::new(&part("mlp_norm"), width, parameters),
            mlp: Mlp::new(&part("mlp"), width, parameters, rng),
        }
    }

    /// Adds the block's output to the residual stream.
    pub(super) fn forward(&mut self, parameters: &Parameters, stream: &mut [f32], sequence: usize) {
        let normalized = self.attention_norm.forward(parameters, stream);
        add(
            stream,
            &self.attention.forward(parameters, normalized, sequence),
        );
        let normalized = self.mlp_norm.forward(parameters, stream);
        add(stream, &self.mlp.forward(parameters, normalized));
    }

    /// Turns the gradient by the stream after the block into the gradient by
    /// the stream before it.
    pub(super) fn backward(&self, parameters: &mut Parameters, gradient: &mut [f32]) {
        let by_normalized = self.mlp.backward(parameters, gradient);
        add(
            gradient,
            &self.mlp_norm.backward(parameters, &by_normalized),
        );
        let by_normalized = self.attention.backward(parameters, gradient);
        add(
            gradient,
            &self.attention_norm.backward(parameters, &by_normalized),
        );
    }
}

fn add(stream: &mut [f32], term: &[f32]) {
    for (x, t) in stream.iter_mut().zip(term) {
        *x += t;
    }
}
