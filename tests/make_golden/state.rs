//! States to be saved, and what is expected to come back.

use std::collections::BTreeMap;

use milepost_engine::{CheckpointId, Dtype, Relation, SaveOptions, Store};

use crate::support::golden::{self, ExpectedCheckpoint, ExpectedTensor};
use crate::support::sha256::sha256;

/// One tensor.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that a checkpoint holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) tensors: BTreeMap<String, Tensor>,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) relations: Vec<(String, Relation)>,
}

impl State {
    pub(crate) fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[u64], bytes: Vec<u8>) {
        let tensor = Tensor {
            dtype,
            shape: shape.to_vec(),
            bytes,
        };
        self.tensors.insert(name.into(), tensor);
    }

    /// A vector of 32-bit floats, given as bits.
    pub(crate) fn floats(&mut self, name: &str, bits: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = bits.into_iter().flat_map(u32::to_le_bytes).collect();
        self.tensor(name, Dtype::F32, &[bytes.len() as u64 / 4], bytes);
    }

    /// Saves it; the parent is what the store chooses.
    pub(crate) fn save(&self, store: &Store, options: SaveOptions) -> ExpectedCheckpoint {
        let mut draft = store.draft(options).unwrap();
        let parent = draft.parent().map(|p| p.id());
        for (name, t) in &self.tensors {
            draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
        }
        for (name, bytes) in &self.blobs {
            draft.blob(name, bytes).unwrap();
        }
        for (key, value) in &self.metadata {
            draft.metadata(key, value).unwrap();
        }
        for (name, value) in &self.metrics {
            draft.metric(name, *value).unwrap();
        }
        for (tensor, relation) in &self.relations {
            draft.relate(tensor, relation.clone());
        }
        let report = draft.commit().unwrap();
        self.expected((&report.run, report.seq, report.step), report.id, parent)
    }

    /// What a reader must find.
    pub(crate) fn expected(
        &self,
        (run, seq, step): (&str, u64, u64),
        id: CheckpointId,
        parent: Option<CheckpointId>,
    ) -> ExpectedCheckpoint {
        let tensor = |t: &Tensor| ExpectedTensor {
            dtype: t.dtype.name().into(),
            shape: t.shape.clone(),
            sha256: sha256(&t.bytes),
        };
        let tensors = self.tensors.iter().map(|(n, t)| (n.clone(), tensor(t)));
        let blobs = self.blobs.iter().map(|(n, b)| (n.clone(), sha256(b)));
        let bits = |v: &f64| format!("{:016x}", v.to_bits());
        let metrics = self.metrics.iter().map(|(n, v)| (n.clone(), bits(v)));
        ExpectedCheckpoint {
            run: run.into(),
            seq,
            step,
            id: id.to_string(),
            parent: parent.map(|p| p.to_string()),
            metadata: self.metadata.clone(),
            metrics: metrics.collect(),
            tensors: tensors.collect(),
            dropped: Vec::new(),
            relations: golden::told(self.relations.iter().cloned()),
            blobs: blobs.collect(),
        }
    }
}

/// Numbers without a pattern, the same on every machine (SplitMix64).
pub(crate) fn noise(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |i| {
        let z = (seed << 32)
            .wrapping_add(i)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The low 32 bits.
pub(crate) fn low(word: u64) -> u32 {
    u32::try_from(word & 0xffff_ffff).unwrap()
}

/// Bytes without a pattern.
pub(crate) fn noise_bytes(seed: u64, len: usize) -> Vec<u8> {
    noise(seed).flat_map(u64::to_le_bytes).take(len).collect()
}

/// Bits of `count` floats between -2 and 2, as many magnitudes as weights have.
pub(crate) fn weights(seed: u64, count: usize) -> Vec<u32> {
    let weight = |word: u64| {
        let exponent = 112 + low(word >> 32) % 16;
        low(word) & 0x807f_ffff | exponent << 23
    };
    noise(seed).take(count).map(weight).collect()
}

/// The weights after a step that moves each by about as much, whatever its size.
pub(crate) fn stepped(weights: &[u32], seed: u64) -> Vec<u32> {
    let moved = |(bits, word): (&u32, u64)| {
        let value = f32::from_bits(*bits);
        let step = f32::from(u16::try_from(word & 0xfff).unwrap()) - 2047.5;
        (value + step * 1e-8).to_bits()
    };
    weights.iter().zip(noise(seed)).map(moved).collect()
}
