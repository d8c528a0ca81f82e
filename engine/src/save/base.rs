//! What a chunk is coded against: records, their bytes, and what is made of them.

use std::sync::Arc;

use crate::chain::{Bounds, Candidate};
use crate::codec::{Estimate, Prediction};
use crate::format::pack::IndexEntry;

/// What a chunk is to be coded against.
pub(super) struct Base<'t> {
    /// The records that make it, in the order of the prediction.
    pub(super) inputs: Vec<Arc<IndexEntry>>,
    pub(super) input_bytes: Vec<Held<'t>>,
    pub(super) prediction: Prediction,
    /// What is predicted, unless that is the only input.
    pub(super) predicted: Option<Vec<u8>>,
    pub(super) estimate: Estimate,
    /// Whether it is so clearly shorter than standing alone that this was not judged.
    pub(super) is_clear: bool,
    /// The cost of all that the inputs take, as part of the record's own.
    pub(super) closure_cost: u64,
    /// The same without what restoring the family takes anyhow.
    pub(super) extra_cost: u64,
    /// Records of the cycle so far, and their bytes.
    pub(super) age: u16,
    pub(super) cycle_len: u32,
}

/// Bytes of an input.
pub(super) enum Held<'t> {
    Shared(Arc<Vec<u8>>),
    Borrowed(&'t [u8]),
}

impl Held<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Borrowed(bytes) => bytes,
        }
    }
}

impl<'t> Base<'t> {
    /// One record, whose lanes are taken as they are.
    pub(super) fn of_one(
        chosen: &Candidate,
        raw: Arc<Vec<u8>>,
        estimate: Estimate,
        extra_cost: u64,
    ) -> Self {
        Self {
            closure_cost: u64::from(chosen.base.cost),
            extra_cost,
            age: chosen.age,
            cycle_len: chosen.cycle_len,
            inputs: vec![Arc::clone(&chosen.base)],
            input_bytes: vec![Held::Shared(raw)],
            prediction: Prediction::Base,
            predicted: None,
            estimate,
            is_clear: false,
        }
    }

    pub(super) fn input_slices(&self) -> Vec<&[u8]> {
        self.input_bytes.iter().map(Held::bytes).collect()
    }

    /// What every lane was predicted to be.
    pub(super) fn bytes(&self) -> &[u8] {
        let first = self.input_bytes.first().map(Held::bytes);
        self.predicted.as_deref().or(first).unwrap_or_default()
    }

    /// Whether it is more than the lanes of one record.
    pub(super) fn is_predicted(&self) -> bool {
        self.prediction != Prediction::Base
    }

    /// The record and the bytes of the first input.
    pub(super) fn into_only_input(self) -> Option<(Arc<IndexEntry>, Held<'t>)> {
        let (entries, bytes) = (self.inputs.into_iter(), self.input_bytes.into_iter());
        entries.zip(bytes).next()
    }

    pub(super) fn depth(&self) -> Option<u8> {
        let deepest = self.inputs.iter().map(|e| e.depth).max();
        deepest.unwrap_or_default().checked_add(1)
    }

    pub(super) fn fits(&self, bounds: Bounds, own_cost: u64, budget: u64) -> bool {
        let allowed = |d| bounds.allow(d, self.extra_cost.saturating_add(own_cost), budget);
        self.depth().is_some_and(allowed)
    }
}
