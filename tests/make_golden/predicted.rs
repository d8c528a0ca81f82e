//! Tensors that foretell each other, as optimizers make them: every predictor, and sparse changes.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use milepost_engine::{Dtype, Relation, SaveOptions, Store};

use crate::make_golden::state::{State, low, noise, weights};
use crate::make_golden::{create, nothing};
use crate::support::golden::Expected;

const LANES: usize = 2500;
/// Bits that no arithmetic foretells: zeros, subnormals, infinities, NaNs.
const STRANGE: [u32; 7] = [
    0x8000_0000,
    1,
    0x807f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_1234,
    0x7f80_0001,
];

/// What training moves. Plain arithmetic on floats is the same everywhere.
pub(super) struct Training {
    weights: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
    buffer: Vec<f32>,
    by_momentum: Vec<f32>,
    average: Vec<f32>,
}

impl Training {
    pub(super) fn new() -> Self {
        let floats = |seed| {
            weights(seed, LANES)
                .into_iter()
                .map(f32::from_bits)
                .collect()
        };
        Self {
            weights: floats(50),
            means: vec![0.0; LANES],
            squares: vec![0.0; LANES],
            buffer: vec![0.0; LANES],
            by_momentum: floats(51),
            average: floats(50),
        }
    }

    /// One step of AdamW, of descent with momentum and of a running average.
    pub(super) fn step(&mut self, time: u64) {
        let gradient = noise(60 + time).map(|word| {
            let share = f32::from(u16::try_from(word & 0xffff).unwrap()) - 32_767.5;
            share * 1e-6
        });
        for (lane, g) in gradient.take(LANES).enumerate() {
            let (m, v) = (&mut self.means[lane], &mut self.squares[lane]);
            *m += (g - *m) * 0.1;
            *v = *v * 0.99 + g * g * 0.01;
            let w = &mut self.weights[lane];
            *w = *w * 0.9999 + -1e-3 * *m / (v.sqrt() / 0.9 + 1e-8);
            self.buffer[lane] = self.buffer[lane] * 0.9 + g;
            self.by_momentum[lane] += -0.1 * self.buffer[lane];
            self.average[lane] = self.average[lane] * 0.99 + *w * 0.01;
        }
    }
}

/// The bits of floats, with strange ones in some places.
fn bits(values: &[f32], first: usize) -> Vec<u32> {
    let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
    for (number, strange) in STRANGE.into_iter().enumerate() {
        bits[(first + number * 331) % LANES] = strange;
    }
    bits
}

/// The nearest bf16, ties away from zero: what no cast that is known makes, now and then.
fn halves(values: &[f32]) -> Vec<u8> {
    let half = |v: &f32| u16::try_from(v.to_bits() >> 16).unwrap().to_le_bytes();
    values.iter().flat_map(half).collect()
}

/// Rounded to nearest, ties to even, as hardware casts.
fn cast(bits: &[u32]) -> Vec<u8> {
    let half = |x: &u32| {
        let is_nan = x & 0x7fff_ffff > 0x7f80_0000;
        let even = x.wrapping_add(0x7fff + (x >> 16 & 1));
        let half = if is_nan { x | 0x40_0000 } else { even } >> 16;
        u16::try_from(half).unwrap().to_le_bytes()
    };
    bits.iter().flat_map(half).collect()
}

/// Some of a tensor's halves one place up or down.
fn moved(bytes: &[u8], seed: u64) -> Vec<u8> {
    let lanes = bytes.chunks_exact(2).zip(noise(seed));
    let lane = |(lane, word): (&[u8], u64)| {
        let half = u16::from_le_bytes([lane[0], lane[1]]);
        let rare = word % 40 == 0 && half & 0x7f80 != 0;
        let up = half + 1 - 2 * u16::try_from(low(word >> 32) % 2).unwrap();
        if rare { up } else { half }.to_le_bytes()
    };
    lanes.flat_map(lane).collect()
}

pub(super) fn state(training: &Training, sparse: &[u8]) -> State {
    let mut state = State::default();
    let master = bits(&training.weights, 3);
    state.tensor("copy.w", Dtype::BF16, &[LANES as u64], cast(&master));
    state.tensor(
        "cut.w",
        Dtype::BF16,
        &[LANES as u64],
        halves(&training.weights),
    );
    state.tensor("policy", Dtype::BF16, &[LANES as u64], sparse.to_vec());
    state.floats("model.w", master);
    state.floats("optim.exp_avg.w", bits(&training.means, 70));
    state.floats("optim.exp_avg_sq.w", bits(&training.squares, 140));
    state.floats(
        "numbered.exp_avg",
        training.means.iter().map(|v| v.to_bits()),
    );
    state.floats(
        "numbered.exp_avg_sq",
        training.squares.iter().map(|v| v.to_bits()),
    );
    state.floats("conv.w", bits(&training.by_momentum, 7));
    state.floats("conv.momentum", bits(&training.buffer, 9));
    state.floats("ema.w", bits(&training.average, 11));
    let of = |name: &str| name.to_owned();
    let adam = Relation::Adam {
        exp_avg: of("optim.exp_avg.w"),
        exp_avg_sq: of("optim.exp_avg_sq.w"),
    };
    let exp_avg = of("numbered.exp_avg");
    let buffer = of("conv.momentum");
    for (tensor, relation) in [
        ("model.w", adam),
        ("numbered.exp_avg_sq", Relation::SecondMoment { exp_avg }),
        ("conv.w", Relation::Momentum { buffer }),
        ("ema.w", Relation::Average { of: of("model.w") }),
        ("copy.w", Relation::Copy { of: of("model.w") }),
        ("cut.w", Relation::Copy { of: of("model.w") }),
    ] {
        state.relations.push((of(tensor), relation));
    }
    state
}

/// Three consecutive steps.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut training = Training::new();
    let mut sparse = cast(&weights(52, LANES));
    for time in 0..3 {
        training.step(time);
        let saved = state(&training, &sparse).save(&store, SaveOptions::new("main").step(time));
        expected.checkpoints.push(saved);
        sparse = moved(&sparse, 80 + time);
    }
    // What is scaled in place is no plain second moment any more.
    let moment = "rounded-second-moment";
    let wanted = ["none", "base", "cast", "linear", moment, "adam", "classes"];
    require_encodings(&store, 0..3, &wanted);
    expected
}

/// Holds that predictors and layouts occur in the checkpoints of these steps.
pub(super) fn require_encodings(store: &Store, steps: Range<u64>, wanted: &[&str]) {
    let mut found = HashSet::new();
    for step in steps {
        let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
        for tensor in &checkpoint.manifest().body.tensors {
            for chunk in checkpoint.tensor_chunks(&tensor.name).unwrap() {
                found.extend(chunk.encoding.split(' ').map(str::to_owned));
            }
        }
    }
    for wanted in wanted {
        assert!(found.contains(*wanted), "{wanted} is not among {found:?}");
    }
}
