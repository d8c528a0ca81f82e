//! Few values and few changes, in lanes of every width: layouts sparse and palette.

use std::collections::HashSet;
use std::path::Path;

use milepost_engine::{Dtype, SaveOptions, Store};

use crate::make_golden::state::{State, low, noise};
use crate::make_golden::{create, nothing};
use crate::support::golden::Expected;

const LANES: usize = 2500;
/// Bits of floats that are no ordinary numbers, -0.0 among them, which is not zero.
const STRANGE: [u64; 5] = [
    0x8000_0000,
    0x7f80_0000,
    0x7fc0_1234,
    0x807f_ffff,
    0x7f80_0001,
];

/// The top bytes of 64-bit noise.
fn lane(word: u64, width: usize) -> Vec<u8> {
    word.to_le_bytes()[8 - width..].to_vec()
}

/// Lanes of which one in so many is not zero.
fn rare(seed: u64, width: usize, every: u64) -> Vec<u8> {
    let drawn = noise(seed).zip(noise(seed + 1)).take(LANES);
    let lanes = drawn.map(|(chance, word)| match chance % every {
        0 => lane(word | 1 << 63, width),
        _ => vec![0; width],
    });
    lanes.flatten().collect()
}

/// Lanes that have so many values.
fn few(seed: u64, width: usize, values: u64) -> Vec<u8> {
    let value = |number: u64| noise(900 + number).next().unwrap_or_default();
    let lanes = noise(seed).map(|word| lane(value(word % values), width));
    lanes.take(LANES).flatten().collect()
}

/// Some of the lanes, one in so many, one place up, or anything else.
fn changed(bytes: &[u8], width: usize, seed: u64, every: u64) -> Vec<u8> {
    let drawn = noise(seed).zip(noise(seed + 1));
    let lanes = bytes.chunks_exact(width).zip(drawn);
    let lane = |(held, (chance, word)): (&[u8], (u64, u64))| {
        let mut lane = held.to_vec();
        match (chance % every, chance >> 32 & 1) {
            (0, 0) => lane[0] = lane[0].wrapping_add(1),
            (0, _) => lane.copy_from_slice(&word.to_le_bytes()[..width]),
            _ => {}
        }
        lane
    };
    lanes.flat_map(lane).collect()
}

fn first_state() -> State {
    let mut state = State::default();
    let shape = [LANES as u64];
    for (dtype, seed) in [
        (Dtype::U8, 700),
        (Dtype::F16, 710),
        (Dtype::BF16, 720),
        (Dtype::F32, 730),
        (Dtype::I32, 740),
        (Dtype::F64, 750),
    ] {
        let width = usize::try_from(dtype.bits() / 8).unwrap();
        let name = dtype.name().to_lowercase();
        for every in [2, 20, 400] {
            let bytes = rare(seed + every, width, every);
            state.tensor(&format!("{name}.rare.{every}"), dtype, &shape, bytes);
        }
        for values in [2, 3, 11, 200] {
            let bytes = few(seed, width, values);
            state.tensor(&format!("{name}.few.{values}"), dtype, &shape, bytes);
        }
        let dense = noise(seed + 5).take(LANES);
        let bytes = dense.flat_map(|word| lane(word, width)).collect();
        state.tensor(&format!("{name}.dense"), dtype, &shape, bytes);
    }
    let strange = (0..LANES).zip(noise(790)).map(|(at, word)| match at % 7 {
        0 => low(STRANGE[usize::try_from(word % 5).unwrap()]),
        _ => 0,
    });
    state.floats("strange", strange);
    state
}

/// The first state; two in which a few and many lanes changed.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut state = first_state();
    for (step, every) in (0..).zip([300, 9, 1]) {
        expected
            .checkpoints
            .push(state.save(&store, SaveOptions::new("main").step(step)));
        for (name, tensor) in &mut state.tensors {
            let width = usize::try_from(tensor.dtype.bits() / 8).unwrap();
            let seed = name.bytes().map(u64::from).sum::<u64>() + 1000 * step;
            tensor.bytes = changed(&tensor.bytes, width, seed, every);
        }
    }
    require_layouts(&store);
    expected
}

/// Holds that both layouts occur, sparse with a base and without.
fn require_layouts(store: &Store) {
    let mut found = HashSet::new();
    for step in 0..3 {
        let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
        for tensor in &checkpoint.manifest().body.tensors {
            let width = tensor.dtype.bits() / 8;
            for chunk in checkpoint.tensor_chunks(&tensor.name).unwrap() {
                let words: Vec<&str> = chunk.encoding.split(' ').collect();
                for layout in ["sparse", "palette"] {
                    if words.contains(&layout) {
                        found.insert((layout, words.contains(&"none"), width));
                    }
                }
            }
        }
    }
    let alone = [1, 2, 4, 8].map(|width| [("sparse", true, width), ("palette", true, width)]);
    let against_a_base = [2, 4, 8].map(|width| ("sparse", false, width));
    for wanted in alone.into_iter().flatten().chain(against_a_base) {
        assert!(found.contains(&wanted), "{wanted:?} is not among {found:?}");
    }
}
