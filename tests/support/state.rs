//! A training state as plain data, saved and held against what comes back.

use std::collections::BTreeMap;

use milepost_engine::{
    Checkpoint, Dtype, Result, SaveOptions, SaveReport, Selection, Store, Unobserved,
};

/// A tensor with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// A vector of 32-bit floats.
    pub(crate) fn floats(values: impl IntoIterator<Item = f32>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self {
            dtype: Dtype::F32,
            shape: vec![bytes.len() as u64 / 4],
            bytes,
        }
    }

    /// A vector of bytes.
    pub(crate) fn bytes(bytes: Vec<u8>) -> Self {
        Self {
            dtype: Dtype::U8,
            shape: vec![bytes.len() as u64],
            bytes,
        }
    }
}

/// Tensors by name.
pub(crate) type State = BTreeMap<String, Tensor>;

/// A state of these tensors.
pub(crate) fn state_of<const N: usize>(tensors: [(&str, Tensor); N]) -> State {
    tensors
        .into_iter()
        .map(|(name, tensor)| (name.to_owned(), tensor))
        .collect()
}

/// Saves a state.
pub(crate) fn save(store: &Store, options: SaveOptions, state: &State) -> Result<SaveReport> {
    let mut draft = store.draft(options)?;
    for (name, t) in state {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes)?;
    }
    draft.commit()
}

/// Saves a state to a run that has no such step.
pub(crate) fn save_to(store: &Store, run: &str, state: &State) -> SaveReport {
    save(store, SaveOptions::new(run), state).unwrap()
}

/// The checkpoint holds exactly this state, whichever way it is restored.
pub(crate) fn assert_holds(checkpoint: &Checkpoint, state: &State) {
    let (outputs, plan) = checkpoint.plan(&Selection::all()).unwrap();
    let names: Vec<&String> = outputs.iter().map(|o| &o.name).collect();
    assert_eq!(names, state.keys().collect::<Vec<_>>());
    let mut buffers: Vec<Vec<u8>> = state.values().map(|t| vec![0x55; t.bytes.len()]).collect();
    let mut targets: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    checkpoint
        .restore_into(&plan, &mut targets, &Unobserved)
        .unwrap();
    for ((output, tensor), found) in outputs.iter().zip(state.values()).zip(&buffers) {
        assert_eq!((output.dtype, &output.shape), (tensor.dtype, &tensor.shape));
        assert!(*found == tensor.bytes, "tensor {:?} differs", output.name);
    }
}

/// Pseudo-random bytes; the same seed gives the same bytes.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(len);
    bytes
}
