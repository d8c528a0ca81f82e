//! States, changes of states and ways to save them, as proptest makes and shrinks them.

use milepost_engine::{Dtype, Durability, Full, Level, SaveOptions};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::state::{State, Tensor, noise};

/// Bit patterns that are special in some float format, as 64-bit words whose top bytes count:
/// quiet and signalling NaNs with payloads, infinities, zeros, subnormals, the largest finite.
pub(crate) const SPECIAL: [u64; 14] = [
    0x7ff8_0000_0000_0001,
    0x7ff4_dead_beef_0002,
    0xfff8_1234_5678_9abc,
    0x7fc1_2345_7fa0_0001,
    0xffc0_0001_ff81_7f81,
    0x7ff0_0000_7f80_7c00,
    0xfff0_0000_ff80_fc00,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x8000_0001_0001_8001,
    0x000f_ffff_007f_03ff,
    0x7fef_ffff_7f7f_7bff,
    0xffff_ffff_ffff_ffff,
];

/// What a tensor's bytes look like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    Noise(u64),
    Constant(u8),
    Smooth(u16),
    Special(u64),
}

/// How one save differs from the one before.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Dense { slot: usize, by: u8 },
    Sparse { slot: usize, seed: u64, count: u8 },
    FlipSigns { slot: usize },
    Resize { slot: usize, shape: Vec<u64> },
    Retype { slot: usize, dtype: Dtype },
    Rename { slot: usize, name: String },
    Remove { slot: usize },
    Tie { slot: usize, name: String },
    Add { name: String, tensor: Tensor },
}

pub(crate) fn dtype() -> impl Strategy<Value = Dtype> {
    select(Dtype::ALL)
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![
        any::<u64>().prop_map(Fill::Noise),
        any::<u8>().prop_map(Fill::Constant),
        any::<u16>().prop_map(Fill::Smooth),
        any::<u64>().prop_map(Fill::Special),
    ]
}

/// Rank 0 to 4, zero dimensions and odd lengths among them, at most some 4000 elements.
fn shape() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        Just(vec![]),
        (0..4000u64).prop_map(|n| vec![n]),
        (0..64u64, 0..64u64).prop_map(|(a, b)| vec![a, b]),
        (0..9u64, 1..17u64, 0..17u64).prop_map(|(a, b, c)| vec![a, b, c]),
        (1..5u64, 0..9u64, 1..9u64, 1..9u64).prop_map(|(a, b, c, d)| vec![a, b, c, d]),
    ]
}

/// The shape itself, or one whose elements fill whole bytes.
fn fitting(dtype: Dtype, mut shape: Vec<u64>) -> Vec<u64> {
    let elements: u64 = shape.iter().product();
    if dtype.byte_len(elements).is_err() {
        shape.push(4);
    }
    shape
}

fn bytes_of(dtype: Dtype, shape: &[u64], fill: Fill) -> Vec<u8> {
    let len = dtype.byte_len(shape.iter().product()).unwrap();
    let len = usize::try_from(len).unwrap();
    let width = dtype.lane().width;
    match fill {
        Fill::Noise(seed) => noise(seed, len),
        Fill::Constant(byte) => vec![byte; len],
        Fill::Smooth(start) => {
            let word = |i: u64| (u64::from(start) << 44 | 0x3f80_3f80_3f80_3f80) + i * 77;
            let words = (0..).flat_map(|i| word(i).to_le_bytes()[8 - width..].to_vec());
            words.take(len).collect()
        }
        Fill::Special(seed) => {
            let picks = noise(seed, len);
            let word = |pick: &u8| SPECIAL[usize::from(*pick) % SPECIAL.len()];
            let words = picks
                .iter()
                .flat_map(|p| word(p).to_le_bytes()[8 - width..].to_vec());
            words.take(len).collect()
        }
    }
}

pub(crate) fn tensor() -> impl Strategy<Value = Tensor> {
    (dtype(), shape(), fill()).prop_map(|(dtype, shape, fill)| {
        let shape = fitting(dtype, shape);
        let bytes = bytes_of(dtype, &shape, fill);
        Tensor {
            dtype,
            shape,
            bytes,
        }
    })
}

fn name() -> impl Strategy<Value = String> {
    select(&["a", "layer.0.w", "layer.1.w", "\u{3bb}", "x/y z"][..]).prop_map(str::to_owned)
}

pub(crate) fn state() -> impl Strategy<Value = State> {
    proptest::collection::btree_map(name(), tensor(), 0..4)
}

pub(crate) fn change() -> impl Strategy<Value = Change> {
    let slot = || 0..5usize;
    prop_oneof![
        4 => (slot(), 1..9u8).prop_map(|(slot, by)| Change::Dense { slot, by }),
        3 => (slot(), any::<u64>(), 1..20u8)
            .prop_map(|(slot, seed, count)| Change::Sparse { slot, seed, count }),
        1 => slot().prop_map(|slot| Change::FlipSigns { slot }),
        1 => (slot(), shape()).prop_map(|(slot, shape)| Change::Resize { slot, shape }),
        1 => (slot(), dtype()).prop_map(|(slot, dtype)| Change::Retype { slot, dtype }),
        1 => (slot(), name()).prop_map(|(slot, name)| Change::Rename { slot, name }),
        1 => slot().prop_map(|slot| Change::Remove { slot }),
        1 => (slot(), name()).prop_map(|(slot, name)| Change::Tie { slot, name }),
        1 => (name(), tensor()).prop_map(|(name, tensor)| Change::Add { name, tensor }),
    ]
}

/// Full kind, level, durability: everything of a save that must not change what comes back.
pub(crate) fn options() -> impl Strategy<Value = SaveOptions> {
    let full = select(
        &[
            Full::Auto,
            Full::Auto,
            Full::Auto,
            Full::Shared,
            Full::SelfContained,
        ][..],
    );
    let level = proptest::option::of(select(&Level::ALL[..]));
    (full, level, select(&Durability::ALL[..])).prop_map(|(full, level, durability)| SaveOptions {
        full,
        level,
        durability,
        ..SaveOptions::new("main")
    })
}

/// Changes a state; a slot that is not there changes nothing.
pub(crate) fn apply(state: &mut State, change: &Change) {
    let nth = |state: &State, slot: usize| state.keys().nth(slot).cloned().unwrap_or_default();
    match change {
        Change::Dense { slot, by } => each_lane(state, *slot, |lane| {
            lane[0] = lane[0].wrapping_add(*by);
        }),
        Change::Sparse { slot, seed, count } => {
            if let Some(tensor) = state
                .values_mut()
                .nth(*slot)
                .filter(|t| !t.bytes.is_empty())
            {
                for pick in noise(*seed, usize::from(*count) * 8).chunks_exact(8) {
                    let at = u64::from_le_bytes(pick.try_into().unwrap()) >> 1;
                    let at = usize::try_from(at).unwrap() % tensor.bytes.len();
                    tensor.bytes[at] ^= pick[0] | 1;
                }
            }
        }
        Change::FlipSigns { slot } => each_lane(state, *slot, |lane| {
            lane[lane.len() - 1] ^= 0x80;
        }),
        Change::Resize { slot, shape } => {
            if let Some(tensor) = state.values_mut().nth(*slot) {
                tensor.shape = fitting(tensor.dtype, shape.clone());
                let len = tensor
                    .dtype
                    .byte_len(tensor.shape.iter().product())
                    .unwrap();
                tensor.bytes.resize(usize::try_from(len).unwrap(), 7);
            }
        }
        Change::Retype { slot, dtype } => {
            if let Some(tensor) = state.values_mut().nth(*slot) {
                tensor.dtype = *dtype;
                tensor.shape = fitting(*dtype, tensor.shape.clone());
                let len = dtype.byte_len(tensor.shape.iter().product()).unwrap();
                tensor.bytes.resize(usize::try_from(len).unwrap(), 9);
            }
        }
        Change::Rename { slot, name } => {
            if let Some(tensor) = state.remove(&nth(state, *slot)) {
                state.insert(name.clone(), tensor);
            }
        }
        Change::Remove { slot } => {
            state.remove(&nth(state, *slot));
        }
        Change::Tie { slot, name } => {
            if let Some(tensor) = state.get(&nth(state, *slot)).cloned() {
                state.insert(name.clone(), tensor);
            }
        }
        Change::Add { name, tensor } => {
            state.insert(name.clone(), tensor.clone());
        }
    }
}

fn each_lane(state: &mut State, slot: usize, change: impl Fn(&mut [u8])) {
    if let Some(tensor) = state.values_mut().nth(slot) {
        let lanes = tensor.bytes.chunks_exact_mut(tensor.dtype.lane().width);
        lanes.for_each(change);
    }
}
