//! Tables of which a step touches few rows: the predictors that keep the others as they are.

use std::path::Path;

use milepost_engine::{CompactOptions, Dtype, Relation, SaveOptions, Store, Unobserved};

use crate::make_golden::related::forget;
use crate::make_golden::state::{State, low, noise, weights};
use crate::make_golden::{create, nothing};
use crate::support::golden::Expected;

const ROWS: usize = 400;
const WIDTH: usize = 8;
const LANES: usize = ROWS * WIDTH;
/// Bits that no arithmetic foretells, in rows that are touched and in others.
const STRANGE: [u32; 6] = [
    0x8000_0000,
    1,
    0x807f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_1234,
];

/// Two tables: one that lazy Adam moves, and one that Adagrad moves.
struct Tables {
    weights: Vec<f32>,
    means: Vec<f32>,
    squares: Vec<f32>,
    by_adagrad: Vec<f32>,
    sums: Vec<f32>,
}

impl Tables {
    fn new() -> Self {
        let floats = |seed| -> Vec<f32> {
            let bits = weights(seed, LANES).into_iter();
            bits.map(f32::from_bits).collect()
        };
        Self {
            weights: floats(90),
            means: vec![0.0; LANES],
            squares: vec![0.0; LANES],
            by_adagrad: floats(91),
            sums: vec![0.1; LANES],
        }
    }

    /// A batch that touches an eighth of the rows, some of them twice.
    fn step(&mut self, time: u64) {
        for (row, word) in noise(200 + time).take(ROWS).enumerate() {
            let touches = match word % 64 {
                0 => 2,
                word if word % 8 == 0 => 1,
                _ => 0,
            };
            for again in 0..touches {
                let seed = 1000 * time + 2 * row as u64 + again;
                for (at, word) in noise(seed).take(WIDTH).enumerate() {
                    let share = f32::from(u16::try_from(low(word) & 0xffff).unwrap()) - 32_767.5;
                    self.touch(row * WIDTH + at, share * 1e-6);
                }
            }
        }
    }

    fn touch(&mut self, lane: usize, g: f32) {
        let (m, v) = (&mut self.means[lane], &mut self.squares[lane]);
        *m += (g - *m) * 0.1;
        *v += (g * g - *v) * 0.001;
        self.weights[lane] += -1e-3 * *m / (v.sqrt() + 1e-8);
        let g = g * 30.0;
        self.sums[lane] += g * g;
        self.by_adagrad[lane] -= 0.01 * (g / (self.sums[lane].sqrt() + 1e-10));
    }

    fn state(&self) -> State {
        let mut state = State::default();
        for (first, name, values) in [
            (3, "model.words", &self.weights),
            (70, "optim.words.exp_avg", &self.means),
            (140, "optim.words.exp_avg_sq", &self.squares),
            (7, "model.pairs", &self.by_adagrad),
            (9, "optim.pairs.sum", &self.sums),
        ] {
            let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
            for (number, strange) in STRANGE.into_iter().enumerate() {
                bits[(first + number * 431) % LANES] = strange;
            }
            let bytes = bits.into_iter().flat_map(u32::to_le_bytes).collect();
            state.tensor(name, Dtype::F32, &[ROWS as u64, WIDTH as u64], bytes);
        }
        let adam = Relation::Adam {
            exp_avg: "optim.words.exp_avg".into(),
            exp_avg_sq: "optim.words.exp_avg_sq".into(),
        };
        let weight = "model.pairs".to_owned();
        let sum = Relation::SumOfSquares { weight };
        state.relations = vec![
            ("model.words".into(), adam),
            ("optim.pairs.sum".into(), sum),
        ];
        state
    }
}

/// The last three of five saves, coded anew, each against the next newer one; and one on top.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut tables = Tables::new();
    (0..20).for_each(|time| tables.step(time));
    for time in 20..26 {
        if time == 25 {
            forget(&store, "step:20", &[]);
            forget(&store, "step:21", &[]);
            expected.checkpoints.drain(..2);
            let anew = CompactOptions {
                reencode: true,
                ..CompactOptions::default()
            };
            assert!(store.compact(&anew, &Unobserved).unwrap().reencoded);
        }
        tables.step(time);
        let saved = tables
            .state()
            .save(&store, SaveOptions::new("main").step(time));
        expected.checkpoints.push(saved);
    }
    require_predictors(&store, 22);
    require_predictors(&store, 25);
    expected
}

/// Holds that the predictors occur: backward in an old checkpoint, forward in a new one.
fn require_predictors(store: &Store, step: u64) {
    let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
    for (tensor, wanted) in [
        ("model.words", "sparse-adam"),
        ("optim.words.exp_avg_sq", "sparse-second-moment"),
        ("optim.pairs.sum", "sum-of-squares"),
    ] {
        let chunks = checkpoint.tensor_chunks(tensor).unwrap();
        let found: Vec<&str> = chunks.iter().map(|chunk| chunk.encoding.as_str()).collect();
        let is_there = found.iter().any(|encoding| encoding.starts_with(wanted));
        assert!(
            is_there,
            "{tensor} at {step}: {wanted} is not among {found:?}"
        );
    }
}
