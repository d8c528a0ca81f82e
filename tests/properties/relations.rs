//! Tensors with relations, right and wrong: whatever is saved comes back, whole and in parts,
//! and restoring a family costs no more than its budget.

use std::collections::HashMap;
use std::sync::Arc;

use milepost_engine::chain::Costs;
use milepost_engine::codec;
use milepost_engine::format::pack::IndexEntry;
use milepost_engine::{
    ChunkId, CompactOptions, Dtype, Forget, GcOptions, KeepRules, Relation, SaveOptions, Store,
    StoreOptions, StoreSettings, Unobserved,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties::cases;
use crate::properties::generate::SPECIAL;
use crate::properties::history::assert_parts;
use crate::support::packs;
use crate::support::state::{State, Tensor, assert_holds, noise};

const NAMES: [&str; 8] = [
    "layer.m", "layer.v", "layer.w", "p", "half", "mean", "q.sum", "q",
];

/// What a tensor is at each step: made from others as its relation says, or not.
#[derive(Clone, Debug)]
struct Related {
    dtypes: Vec<Dtype>,
    relations: Vec<(usize, Relation)>,
    /// So many elements, of which every so many-th is a special value.
    elements: usize,
    special: usize,
    /// Whether the values are made as the relations say.
    honest: bool,
    /// Rows of 8 elements of which a step touches one in so many.
    touched: u64,
}

fn relation() -> impl Strategy<Value = Relation> {
    let name = || select(&NAMES[..]).prop_map(str::to_owned);
    prop_oneof![
        (name(), name()).prop_map(|(exp_avg, exp_avg_sq)| Relation::Adam {
            exp_avg,
            exp_avg_sq
        }),
        name().prop_map(|exp_avg| Relation::SecondMoment { exp_avg }),
        name().prop_map(|buffer| Relation::Momentum { buffer }),
        name().prop_map(|of| Relation::Average { of }),
        name().prop_map(|of| Relation::Copy { of }),
        name().prop_map(|weight| Relation::SumOfSquares { weight }),
    ]
}

/// Relations that hold for the values of [`honest`].
fn right() -> Vec<(usize, Relation)> {
    let of = || "layer.w".to_owned();
    let (exp_avg, exp_avg_sq) = ("layer.m".to_owned(), "layer.v".to_owned());
    vec![
        (
            2,
            Relation::Adam {
                exp_avg,
                exp_avg_sq,
            },
        ),
        (
            3,
            Relation::Momentum {
                buffer: "layer.m".into(),
            },
        ),
        (4, Relation::Copy { of: of() }),
        (5, Relation::Average { of: of() }),
        (6, Relation::SumOfSquares { weight: "q".into() }),
    ]
}

fn related() -> impl Strategy<Value = Related> {
    let wrong = proptest::collection::vec((0..NAMES.len(), relation()), 1..7);
    let dtype = prop_oneof![
        3 => Just(Dtype::F32),
        1 => select(&[Dtype::BF16, Dtype::F16, Dtype::F64, Dtype::I32, Dtype::U8][..]),
    ];
    let dtypes = proptest::collection::vec(dtype, NAMES.len());
    let of_values = (0..3000usize, 2..200usize, touched());
    prop_oneof![
        (wrong, dtypes, of_values, any::<bool>()).prop_map(
            |(relations, dtypes, values, honest)| {
                Related {
                    dtypes,
                    relations,
                    elements: values.0,
                    special: values.1,
                    honest,
                    touched: values.2,
                }
            }
        ),
        of_values_of_training(),
    ]
}

/// All rows as often as few.
fn touched() -> impl Strategy<Value = u64> {
    prop_oneof![Just(1), 2..12u64]
}

fn of_values_of_training() -> impl Strategy<Value = Related> {
    let half = select(&[Dtype::BF16, Dtype::F16][..]);
    (1..3000usize, 2..200usize, touched(), half).prop_map(|(elements, special, touched, half)| {
        let mut dtypes = vec![Dtype::F32; NAMES.len()];
        dtypes[4] = half;
        Related {
            dtypes,
            relations: right(),
            elements,
            special,
            honest: true,
            touched,
        }
    })
}

/// Values that a training could have at a step; tensors by their place in [`NAMES`].
fn training(elements: usize, touched: u64, steps: u8) -> Vec<Vec<f32>> {
    let mut all = vec![vec![0f32; elements]; NAMES.len()];
    let start = noise(7, elements);
    for (at, byte) in start.iter().enumerate() {
        all[2][at] = f32::from(*byte) / 128.0 - 1.0;
        all[3][at] = 1.0 - f32::from(*byte) / 100.0;
        all[4][at] = all[2][at];
        all[5][at] = all[2][at];
        all[6][at] = 0.1;
        all[7][at] = f32::from(*byte) / 999.0;
    }
    for step in 0..=steps {
        let gradient = noise(20 + u64::from(step), 2 * elements);
        let is_touched = |at: usize| (at as u64 / 8 * 13 + u64::from(step)).is_multiple_of(touched);
        for at in (0..elements).filter(|at| is_touched(*at)) {
            let word = u16::from_le_bytes([gradient[2 * at], gradient[2 * at + 1]]);
            let g = (f32::from(word) - 32767.5) * 1e-6;
            all[0][at] = all[0][at] * 0.9 + g * 0.1;
            // Some optimizers scale in place and add; others add what is missing.
            let in_place = touched.is_multiple_of(2);
            let mean = |old: f32, new: f32, share: f32| match in_place {
                true => old * (1.0 - share) + new * share,
                false => old + (new - old) * share,
            };
            all[1][at] = mean(all[1][at], g * g, 0.05);
            all[2][at] = all[2][at] * 0.9999 - 1e-3 * all[0][at] / (all[1][at].sqrt() + 1e-8);
            all[3][at] -= 0.1 * all[0][at];
            all[4][at] = all[2][at];
            all[5][at] = mean(all[5][at], all[2][at], 0.1);
            all[6][at] += g * g * 100.0;
            all[7][at] -= 0.01 * g * 10.0 / all[6][at].sqrt();
        }
    }
    all
}

fn state_of(related: &Related, step: u8) -> State {
    let values = training(related.elements, related.touched, step);
    let tensor = |number: usize| {
        let dtype = related.dtypes[number];
        let width = dtype.lane().width;
        let dishonest = noise(
            u64::from(step) * 64 + number as u64,
            related.elements * width,
        );
        let mut bytes = match (related.honest, width) {
            (true, 4) => values[number]
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
            (true, 2) => values[number]
                .iter()
                .flat_map(|v| [v.to_le_bytes()[2], v.to_le_bytes()[3]])
                .collect(),
            _ => dishonest,
        };
        for (lane, special) in bytes
            .chunks_exact_mut(width)
            .step_by(related.special)
            .zip(SPECIAL.iter().cycle().skip(number))
        {
            lane.copy_from_slice(&special.to_le_bytes()[8 - width..]);
        }
        Tensor {
            dtype,
            shape: vec![related.elements as u64],
            bytes,
        }
    };
    (0..NAMES.len())
        .map(|n| (NAMES[n].to_owned(), tensor(n)))
        .collect()
}

fn save(store: &Store, state: &State, related: &Related) -> milepost_engine::SaveReport {
    let mut draft = store.draft(SaveOptions::new("main")).unwrap();
    for (name, t) in state {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
    }
    for (number, relation) in &related.relations {
        draft.relate(NAMES[*number], relation.clone());
    }
    draft.commit().unwrap()
}

fn options(threads: usize) -> StoreOptions {
    StoreOptions {
        threads,
        ..StoreOptions::default()
    }
}

fn settings(budget_milli: u32) -> StoreSettings {
    StoreSettings {
        chunk_len: 4096,
        restore_budget_milli: budget_milli,
        ..StoreSettings::default()
    }
}

fn keep(last: u64, drop: &[&str]) -> Forget {
    Forget {
        rules: KeepRules {
            last: Some(last),
            ..KeepRules::default()
        },
        drop: drop.iter().map(|glob| (*glob).to_owned()).collect(),
        ..Forget::default()
    }
}

/// The records of a store, each chunk's least deep.
fn records(root: &std::path::Path) -> HashMap<ChunkId, Arc<IndexEntry>> {
    let mut all: HashMap<ChunkId, Arc<IndexEntry>> = HashMap::new();
    for entry in packs::records(root).into_values().flatten() {
        let held = all
            .entry(entry.chunk)
            .or_insert_with(|| Arc::new(entry.clone()));
        if entry.depth < held.depth {
            *held = Arc::new(entry);
        }
    }
    all
}

proptest! {
    #![proptest_config(cases(30))]

    #[test]
    fn related_tensors_come_back_whatever_is_done_to_the_store(
        related in related(),
        steps in 2..5u8,
        budget in 1..17u32,
        threads in 1..3usize,
        code_anew in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path(), settings(budget * 1000), options(threads)).unwrap();
        let states: Vec<State> = (0..steps).map(|step| state_of(&related, step)).collect();
        let saved: Vec<_> = states.iter().map(|s| save(&store, s, &related).id).collect();
        let check = |from: usize| {
            let store = Store::open(folder.path(), options(threads)).unwrap();
            for (id, state) in saved.iter().zip(&states).skip(from) {
                let checkpoint = store.checkpoint_by_id(id).unwrap();
                assert_holds(&checkpoint, state);
                assert_parts(&checkpoint, state);
            }
        };
        check(0);
        let compact = CompactOptions {
            idle_min_percent: 0,
            reencode: code_anew,
            ..CompactOptions::default()
        };
        store.compact(&compact, &Unobserved).unwrap();
        check(0);
        for forget in [keep(1, &["layer.m", "layer.v", "p"]), keep(1, &[])] {
            let plan = store.plan_forget(&forget, &Unobserved).unwrap();
            store.forget(&plan, &Unobserved).unwrap();
            store.gc(&GcOptions::default(), &Unobserved).unwrap();
            check(states.len() - 1);
            for summary in store.list(None).unwrap().checkpoints {
                let number = saved.iter().position(|id| *id == summary.id).unwrap();
                let checkpoint = store.checkpoint_by_id(&summary.id).unwrap();
                let weights = checkpoint.tensor("layer.w").unwrap();
                assert!(weights == states[number]["layer.w"].bytes);
            }
        }
        store.compact(&compact, &Unobserved).unwrap();
        check(states.len() - 1);
    }

    /// Every record of the chunks of one number, each once, is within the family's budget, or no
    /// more than all of them as they are: of the shortest, the heads of records alone cost more.
    #[test]
    fn restoring_a_family_costs_no_more_than_its_budget(
        related in of_values_of_training(),
        steps in 2..6u8,
        budget in 2..17u32,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path(), settings(budget * 1000), options(2)).unwrap();
        for step in 0..steps {
            let saved = save(&store, &state_of(&related, step), &related);
            let found = records(folder.path());
            let checkpoint = store.checkpoint_by_id(&saved.id).unwrap();
            let body = &checkpoint.manifest().body;
            let counts: Vec<usize> = body.tensors.iter().map(|t| t.chunks.len()).collect();
            prop_assert!(counts.iter().all(|n| *n == counts[0]), "cut alike: {counts:?}");
            for number in 0..counts[0] {
                let chunks: Vec<ChunkId> = body.tensors.iter().map(|t| t.chunks[number]).collect();
                let share = |chunk: &ChunkId| {
                    let raw = found[chunk].raw_len;
                    let bare = codec::max_encoded_len(raw as usize) as u64;
                    bare.max(u64::from(raw) * u64::from(budget))
                };
                let bound: u64 = chunks.iter().map(share).sum();
                let cost = Costs::new(|id: &ChunkId| found.get(id).cloned()).closure(&chunks);
                let cost: u64 = cost.iter().map(|(_, own)| own).sum();
                prop_assert!(cost <= bound, "{cost} above {bound}");
            }
        }
    }
}
