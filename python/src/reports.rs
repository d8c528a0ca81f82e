//! What the engine tells, as plain dictionaries. Sizes are bytes, times milliseconds since 1970.

use std::collections::BTreeMap;

use milepost_engine::format::manifest::Manifest;
use milepost_engine::{DiskUsage, Listing, SaveReport, Summary};
use pyo3::prelude::*;

/// What a save did.
#[derive(IntoPyObject)]
pub(crate) struct SaveView {
    id: String,
    run: String,
    seq: u64,
    step: u64,
    existed: bool,
    full: bool,
    depth: u8,
    logical_bytes: u64,
    added_bytes: u64,
    restore_cost: u64,
    chunks: u64,
    new_chunks: u64,
    like: Option<String>,
    dropped_checkpoints: u64,
}

impl From<SaveReport> for SaveView {
    fn from(report: SaveReport) -> Self {
        Self {
            id: report.id.to_string(),
            run: report.run,
            seq: report.seq,
            step: report.step,
            existed: report.existed,
            full: report.full,
            depth: report.depth,
            logical_bytes: report.logical_bytes,
            added_bytes: report.added_bytes,
            restore_cost: report.restore_cost,
            chunks: report.chunks,
            new_chunks: report.new_chunks,
            like: report.like.map(|like| like.revision()),
            dropped_checkpoints: report.made_room.map_or(0, |made| made.checkpoints),
        }
    }
}

/// What a listing shows of a checkpoint.
#[derive(IntoPyObject)]
pub(crate) struct SummaryView {
    id: String,
    parent: Option<String>,
    run: String,
    seq: u64,
    step: u64,
    time_ms: u64,
    full: bool,
    depth: u8,
    tensors: u64,
    dropped_tensors: u64,
    metrics: BTreeMap<String, f64>,
    logical_bytes: u64,
    added_bytes: u64,
    restore_cost: u64,
    durability: &'static str,
}

impl From<&Summary> for SummaryView {
    fn from(summary: &Summary) -> Self {
        let placement = &summary.placement;
        Self {
            id: summary.id.to_string(),
            parent: summary.parent.map(|id| id.to_string()),
            run: placement.run.clone(),
            seq: placement.seq,
            step: summary.step,
            time_ms: placement.time_ms,
            full: placement.full,
            depth: placement.depth,
            tensors: summary.tensors,
            dropped_tensors: summary.dropped,
            metrics: summary.metrics.clone(),
            logical_bytes: placement.logical_bytes,
            added_bytes: placement.added_bytes.saturating_add(summary.manifest_len),
            restore_cost: placement.restore_cost,
            durability: placement.durability.name(),
        }
    }
}

/// A listing: what is whole, and the messages of what is not.
#[derive(IntoPyObject)]
pub(crate) struct ListView {
    checkpoints: Vec<SummaryView>,
    damaged: Vec<String>,
}

impl From<Listing> for ListView {
    fn from(listing: Listing) -> Self {
        let damaged = listing.damaged.iter().map(|d| d.error.to_string());
        Self {
            checkpoints: listing
                .checkpoints
                .iter()
                .map(|s| SummaryView::from(&**s))
                .collect(),
            damaged: damaged.collect(),
        }
    }
}

/// What a manifest says of its checkpoint.
#[derive(IntoPyObject)]
pub(crate) struct CheckpointView {
    id: String,
    parent: Option<String>,
    run: String,
    seq: u64,
    step: u64,
    time_ms: u64,
    full: bool,
    depth: u8,
    metrics: BTreeMap<String, f64>,
    metadata: BTreeMap<String, String>,
    blobs: BTreeMap<String, u64>,
    logical_bytes: u64,
    added_bytes: u64,
    durability: &'static str,
}

impl From<&Manifest> for CheckpointView {
    fn from(manifest: &Manifest) -> Self {
        let (body, placement) = (&manifest.body, &manifest.placement);
        let blobs = body.blobs.iter().map(|b| (b.name.clone(), b.byte_len));
        Self {
            id: manifest.id.to_string(),
            parent: body.parent.map(|id| id.to_string()),
            run: placement.run.clone(),
            seq: placement.seq,
            step: body.step,
            time_ms: placement.time_ms,
            full: placement.full,
            depth: placement.depth,
            metrics: body.metrics.clone(),
            metadata: body.metadata.clone(),
            blobs: blobs.collect(),
            logical_bytes: placement.logical_bytes,
            added_bytes: placement.added_bytes,
            durability: placement.durability.name(),
        }
    }
}

/// A tensor of a checkpoint.
#[derive(IntoPyObject)]
pub(crate) struct TensorView {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    byte_len: u64,
    dropped: bool,
}

impl TensorView {
    /// Every tensor of a manifest, those that were dropped too.
    pub(crate) fn all(manifest: &Manifest) -> Vec<Self> {
        let dropped = |place: usize| {
            let place = u32::try_from(place).unwrap_or(u32::MAX);
            manifest.dropped.binary_search(&place).is_ok()
        };
        let tensors = manifest.body.tensors.iter().enumerate();
        tensors
            .map(|(place, tensor)| Self {
                name: tensor.name.clone(),
                dtype: tensor.dtype.name(),
                shape: tensor.shape.clone(),
                byte_len: tensor.byte_len,
                dropped: dropped(place),
            })
            .collect()
    }
}

/// What a store's files take.
#[derive(IntoPyObject)]
pub(crate) struct DiskView {
    packs: u64,
    pack_bytes: u64,
    manifest_bytes: u64,
    other_bytes: u64,
    trash_bytes: u64,
    total_bytes: u64,
}

impl From<DiskUsage> for DiskView {
    fn from(usage: DiskUsage) -> Self {
        Self {
            packs: usage.packs,
            pack_bytes: usage.pack_bytes,
            manifest_bytes: usage.manifest_bytes,
            other_bytes: usage.other_bytes,
            trash_bytes: usage.trash_bytes,
            total_bytes: usage.total(),
        }
    }
}
