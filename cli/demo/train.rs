//! Training the demo's network: all state that a checkpoint must carry, and
//! the step that advances it. Equal state gives equal steps, bit for bit.

use std::fmt;

use super::adamw::AdamW;
use super::corpus::{Corpus, VOCABULARY, character};
use super::model::{Model, Shape};
use super::rng::{STATE_BYTES, SplitMix64};
use super::softmax::softmax;

const SHAPE: Shape = Shape {
    vocabulary: VOCABULARY,
    context: 24,
    width: 80,
    heads: 4,
    blocks: 2,
};
const BATCH: usize = 12;
const LEARNING_RATE: f32 = 3e-3;
/// Steps of linear warm-up; Adam's averages are rough before that.
const WARM_UP: u16 = 20;

pub(crate) struct Trainer {
    corpus: Corpus,
    model: Model,
    optimizer: AdamW,
    rng: SplitMix64,
}

impl Trainer {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let model = Model::new(SHAPE, &mut rng);
        Self {
            corpus: Corpus::new(),
            optimizer: AdamW::new(&model.parameters),
            model,
            rng,
        }
    }

    /// Trains on one random batch; returns its loss in nats per character.
    pub(crate) fn step(&mut self) -> f32 {
        let (tokens, targets) = self.corpus.batch(BATCH, SHAPE.context, &mut self.rng);
        let model = &mut self.model;
        let loss = model.loss_and_gradient(&tokens, &targets, SHAPE.context);
        let rate = LEARNING_RATE * warm_up(self.optimizer.step);
        self.optimizer.update(&mut model.parameters, rate);
        loss
    }

    /// Steps taken since the run began, those before a restore included.
    pub(crate) fn step_count(&self) -> u64 {
        self.optimizer.step
    }

    /// Name, shape and elements of every tensor, in an order that never
    /// changes: the model, then the optimizer's two averages.
    pub(crate) fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let parameters = &self.model.parameters;
        let moments = &self.optimizer.moments;
        let model = parameters.iter().map(|p| (Kind::Model, p, &p.value));
        let first = parameters.iter().zip(moments);
        let first = first.map(|(p, m)| (Kind::ExpAvg, p, &m.exp_avg));
        let second = parameters.iter().zip(moments);
        let second = second.map(|(p, m)| (Kind::ExpAvgSq, p, &m.exp_avg_sq));
        let all = model.chain(first).chain(second);
        all.map(|(kind, p, data)| (kind.name(&p.name), p.shape.clone(), data.as_slice()))
            .collect()
    }

    pub(crate) fn rng_state(&self) -> [u8; STATE_BYTES] {
        self.rng.state()
    }

    /// Takes over a checkpoint: `tensor` is asked for each name of
    /// [`Self::tensors`]. On an error the state is as it was.
    pub(crate) fn restore(
        &mut self,
        mut tensor: impl FnMut(&str) -> Option<Vec<f32>>,
        rng: &[u8],
        step: u64,
    ) -> Result<(), RestoreError> {
        let rng = rng
            .try_into()
            .map_err(|_| RestoreError::RngState { found: rng.len() })?;
        let mut restored = Vec::new();
        for (name, _, current) in self.tensors() {
            let expected = current.len();
            match tensor(&name) {
                None => return Err(RestoreError::Missing { name }),
                Some(data) if data.len() == expected => restored.push(data),
                Some(data) => {
                    let found = data.len();
                    return Err(RestoreError::Length {
                        name,
                        expected,
                        found,
                    });
                }
            }
        }
        let parameters = self.model.parameters.iter_mut().map(|p| &mut p.value);
        let (first, second): (Vec<_>, Vec<_>) = self
            .optimizer
            .moments
            .iter_mut()
            .map(|m| (&mut m.exp_avg, &mut m.exp_avg_sq))
            .unzip();
        let targets = parameters.chain(first).chain(second);
        for (target, data) in targets.zip(restored) {
            *target = data;
        }
        self.optimizer.step = step;
        self.rng = SplitMix64::from_state(rng);
        Ok(())
    }

    /// A hash of the exact bits of everything that [`Self::restore`] takes:
    /// FNV-1a (Fowler, Noll & Vo 1991), 64 bits.
    pub(crate) fn fingerprint(&self) -> u64 {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut eat = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
            }
        };
        eat(&self.step_count().to_le_bytes());
        eat(&self.rng_state());
        for (name, _, data) in self.tensors() {
            eat(name.as_bytes());
            for element in data {
                eat(&element.to_bits().to_le_bytes());
            }
        }
        hash
    }

    /// `length` characters drawn from the model, the same for the same model.
    /// The draws have a generator of their own: training is not disturbed.
    pub(crate) fn sample(&mut self, length: usize) -> String {
        let mut rng = SplitMix64::new(0);
        let mut tokens = vec![0];
        for _ in 0..length {
            let seen = &tokens[tokens.len().saturating_sub(SHAPE.context)..];
            let mut logits = self.model.forward(seen, seen.len());
            let last = &mut logits[(seen.len() - 1) * VOCABULARY..];
            softmax(last);
            tokens.push(draw(last, rng.unit()));
        }
        tokens[1..].iter().copied().map(character).collect()
    }
}

/// The part of the full learning rate that applies after `step` steps.
fn warm_up(step: u64) -> f32 {
    let reached = u16::try_from(step.saturating_add(1))
        .unwrap_or(u16::MAX)
        .min(WARM_UP);
    f32::from(reached) / f32::from(WARM_UP)
}

/// The token whose share of the cumulative distribution holds `point`.
fn draw(probabilities: &[f32], mut point: f32) -> u8 {
    for (token, probability) in (0..).zip(probabilities) {
        point -= probability;
        if point < 0.0 {
            return token;
        }
    }
    0
}

enum Kind {
    Model,
    ExpAvg,
    ExpAvgSq,
}

impl Kind {
    fn name(&self, parameter: &str) -> String {
        let prefix = match self {
            Self::Model => "model",
            Self::ExpAvg => "optim.exp_avg",
            Self::ExpAvgSq => "optim.exp_avg_sq",
        };
        format!("{prefix}.{parameter}")
    }
}

/// Why a checkpoint does not fit the network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum RestoreError {
    Missing {
        name: String,
    },
    Length {
        name: String,
        expected: usize,
        found: usize,
    },
    RngState {
        found: usize,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name } => write!(f, "the checkpoint has no tensor {name}"),
            Self::Length {
                name,
                expected,
                found,
            } => write!(f, "tensor {name} has {found} elements, expected {expected}"),
            Self::RngState { found } => {
                write!(f, "random state has {found} bytes, expected {STATE_BYTES}")
            }
        }
    }
}

impl std::error::Error for RestoreError {}

#[cfg(test)]
mod tests {
    use super::*;

    type Saved = (Vec<(String, Vec<f32>)>, Vec<u8>, u64);

    fn save(trainer: &Trainer) -> Saved {
        let tensors = trainer.tensors().into_iter();
        let tensors = tensors.map(|(name, _, data)| (name, data.to_vec()));
        let rng = trainer.rng_state().to_vec();
        (tensors.collect(), rng, trainer.step_count())
    }

    fn lookup<'a>(saved: &'a Saved) -> impl FnMut(&str) -> Option<Vec<f32>> + 'a {
        |name| {
            let found = saved.0.iter().find(|(saved, _)| saved == name);
            found.map(|(_, data)| data.clone())
        }
    }

    #[test]
    fn loss_falls_from_the_uniform_guess() {
        let mut trainer = Trainer::new(1);
        let losses: Vec<f32> = (0..60).map(|_| trainer.step()).collect();
        let uniform = (VOCABULARY as f32).ln();
        assert!((losses[0] - uniform).abs() < 0.5, "starts at {}", losses[0]);
        let last = losses[50..].iter().sum::<f32>() / 10.0;
        assert!(last < 2.7, "still at {last}");
    }

    #[test]
    fn equal_seeds_give_equal_bits() {
        let run = |seed| {
            let mut trainer = Trainer::new(seed);
            let losses: Vec<u32> = (0..5).map(|_| trainer.step().to_bits()).collect();
            (losses, trainer.fingerprint())
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7).1, run(8).1);
    }

    #[test]
    fn a_restored_run_continues_bit_for_bit() {
        let mut trainer = Trainer::new(3);
        for _ in 0..6 {
            trainer.step();
        }
        let saved = save(&trainer);
        let fingerprint = trainer.fingerprint();
        let rest: Vec<f32> = (0..6).map(|_| trainer.step()).collect();

        let mut resumed = Trainer::new(99);
        resumed.restore(lookup(&saved), &saved.1, saved.2).unwrap();
        assert_eq!(resumed.fingerprint(), fingerprint);
        assert_eq!(resumed.step_count(), 6);
        let again: Vec<f32> = (0..6).map(|_| resumed.step()).collect();
        assert_eq!(rest, again);
        assert_eq!(trainer.fingerprint(), resumed.fingerprint());
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_changes_nothing() {
        let mut trainer = Trainer::new(4);
        trainer.step();
        let before = trainer.fingerprint();
        let mut other = Trainer::new(5);
        other.step();
        let saved = save(&other);

        let short = trainer.restore(lookup(&saved), &saved.1[1..], saved.2);
        assert_eq!(short, Err(RestoreError::RngState { found: 7 }));

        let name = "optim.exp_avg_sq.head.bias".to_owned();
        let mut find = lookup(&saved);
        let without = |asked: &str| find(asked).filter(|_| asked != name);
        let missing = trainer.restore(without, &saved.1, saved.2);
        assert_eq!(missing, Err(RestoreError::Missing { name: name.clone() }));

        let mut find = lookup(&saved);
        let cut = |asked: &str| {
            let mut data = find(asked)?;
            data.truncate(if asked == name { 1 } else { data.len() });
            Some(data)
        };
        let wrong = trainer.restore(cut, &saved.1, saved.2);
        let (expected, found) = (VOCABULARY, 1);
        let length = RestoreError::Length {
            name,
            expected,
            found,
        };
        assert_eq!(wrong, Err(length));
        assert_eq!(trainer.fingerprint(), before);
    }

    #[test]
    fn sampling_does_not_disturb_training() {
        let (mut quiet, mut talking) = (Trainer::new(6), Trainer::new(6));
        talking.step();
        assert_eq!(talking.sample(40).len(), 40);
        talking.step();
        quiet.step();
        quiet.step();
        assert_eq!(quiet.fingerprint(), talking.fingerprint());
    }

    #[test]
    fn tensor_names_are_unique_and_shapes_fit() {
        let trainer = Trainer::new(1);
        let tensors = trainer.tensors();
        let mut names: Vec<&String> = tensors.iter().map(|(name, _, _)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), tensors.len());
        for (_, shape, data) in &tensors {
            assert_eq!(shape.iter().product::<usize>(), data.len());
        }
    }
}
