//! What a listing shows of checkpoints, and how it is kept in a cache (format-spec.md section 5.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::limits;
use crate::format::manifest::Manifest;
use crate::format::placement::Placement;
use crate::id::CheckpointId;

/// A manifest's place: what its file name and folder say.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The run.
    pub run: String,
    /// Its place in the run.
    pub seq: u64,
    /// The checkpoint's id.
    pub id: CheckpointId,
}

/// What a listing shows of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// The checkpoint it continues.
    pub parent: Option<CheckpointId>,
    /// The training step.
    pub step: u64,
    /// Its metrics.
    pub metrics: BTreeMap<String, f64>,
    /// How many tensors it has, those that were dropped included.
    pub tensors: u64,
    /// How many of its tensors were dropped and cannot be restored any more.
    pub dropped: u64,
    /// Bytes of its manifest.
    pub manifest_len: u64,
    /// Where, when and how it was saved.
    pub placement: Placement,
}

impl Summary {
    pub(super) fn new(manifest: &Manifest, manifest_len: u64) -> Self {
        Self {
            id: manifest.id,
            parent: manifest.body.parent,
            step: manifest.body.step,
            metrics: manifest.body.metrics.clone(),
            tensors: manifest.body.tensors.len() as u64,
            dropped: manifest.dropped.len() as u64,
            manifest_len,
            placement: manifest.placement.clone(),
        }
    }

    /// Where its manifest lies.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            run: self.placement.run.clone(),
            seq: self.placement.seq,
            id: self.id,
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut w = Writer::new();
        w.bytes(&self.id.0).u8(u8::from(self.parent.is_some()));
        w.bytes(&self.parent.unwrap_or(CheckpointId([0; 32])).0);
        w.u64(self.step).u64(self.tensors).u64(self.manifest_len);
        w.count(self.metrics.len(), limits::ENTRIES_MAX)?;
        for (key, value) in &self.metrics {
            w.key(key)?.u64(value.to_bits());
        }
        w.bytes(&self.placement.encode()?).u64(self.dropped);
        Ok(w.finish())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new(bytes, 0);
        let id = CheckpointId(r.array()?);
        let has_parent = r.u8()? == 1;
        let parent = Some(CheckpointId(r.array()?)).filter(|_| has_parent);
        let (step, tensors, manifest_len) = (r.u64()?, r.u64()?, r.u64()?);
        let count = r.count(limits::ENTRIES_MAX, 10)?;
        let metrics = (0..count)
            .map(|_| Ok((r.key()?.to_owned(), f64::from_bits(r.u64()?))))
            .collect::<Result<BTreeMap<_, _>>>()?;
        let rest = r.bytes(r.left())?;
        let placement = Placement::decode(rest)?;
        let after = rest.get(placement.encode()?.len()..).unwrap_or_default();
        let dropped = match after {
            [] => 0,
            after => Reader::new(after, 0).u64()?,
        };
        Ok(Self {
            id,
            parent,
            step,
            metrics,
            tensors,
            dropped,
            manifest_len,
            placement,
        })
    }
}

/// A manifest that cannot be read, and why.
#[derive(Debug)]
pub struct Damaged {
    /// Where it lies.
    pub place: Place,
    /// What is wrong with it.
    pub error: Error,
}

/// What a listing found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Whole checkpoints, by run, then by order of their saves.
    pub checkpoints: Vec<Arc<Summary>>,
    /// Manifests that cannot be read.
    pub damaged: Vec<Damaged>,
    /// Relaxed saves that a power cut took: their manifests are left.
    pub lost: Vec<Damaged>,
}
