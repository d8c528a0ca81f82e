//! What several commands show of a checkpoint, as JSON.

use std::collections::BTreeMap;

use milepost_engine::{CheckpointId, SaveReport, Summary};
use serde::Serialize;

use crate::size;

/// A checkpoint in a list.
#[derive(Serialize)]
pub(crate) struct CheckpointView {
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) seq: u64,
    pub(crate) step: u64,
    pub(crate) time: String,
    pub(crate) kind: &'static str,
    pub(crate) depth: u8,
    pub(crate) parent: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) metrics: BTreeMap<String, f64>,
    pub(crate) tensors: u64,
    pub(crate) dropped_tensors: u64,
    pub(crate) logical_bytes: u64,
    pub(crate) added_bytes: u64,
    pub(crate) unique_bytes: Option<u64>,
    pub(crate) restore_cost: u64,
    pub(crate) durability: &'static str,
}

impl CheckpointView {
    pub(crate) fn new(summary: &Summary, tags: &Tags) -> Self {
        let placement = &summary.placement;
        Self {
            id: summary.id.to_string(),
            run: placement.run.clone(),
            seq: placement.seq,
            step: summary.step,
            time: size::time(placement.time_ms),
            kind: kind(placement.full),
            depth: placement.depth,
            parent: summary.parent.map(|id| id.to_string()),
            tags: tags.of(&summary.id),
            metrics: summary.metrics.clone(),
            tensors: summary.tensors,
            dropped_tensors: summary.dropped,
            logical_bytes: placement.logical_bytes,
            added_bytes: added_bytes(summary),
            unique_bytes: None,
            restore_cost: placement.restore_cost,
            durability: placement.durability.name(),
        }
    }
}

/// Bytes that a save added to the store, its manifest included.
pub(crate) fn added_bytes(summary: &Summary) -> u64 {
    summary
        .placement
        .added_bytes
        .saturating_add(summary.manifest_len)
}

/// What a save did.
#[derive(Serialize)]
pub(crate) struct SaveView {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) seq: u64,
    pub(crate) step: u64,
    pub(crate) existed: bool,
    pub(crate) kind: &'static str,
    pub(crate) depth: u8,
    pub(crate) logical_bytes: u64,
    pub(crate) added_bytes: u64,
    pub(crate) restore_cost: u64,
    pub(crate) chunks: u64,
    pub(crate) new_chunks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) like: Option<LikeView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) made_room: Option<MadeRoomView>,
}

/// What tensors that the parent did not have were coded against.
#[derive(Serialize)]
pub(crate) struct LikeView {
    id: String,
    run: String,
    step: u64,
    tensors: u64,
}

/// What was let go first because there was no room.
#[derive(Serialize)]
pub(crate) struct MadeRoomView {
    checkpoints: u64,
    freed_bytes: u64,
}

impl SaveView {
    pub(crate) fn new(report: &SaveReport, file: Option<String>) -> Self {
        Self {
            file,
            id: report.id.to_string(),
            run: report.run.clone(),
            seq: report.seq,
            step: report.step,
            existed: report.existed,
            kind: kind(report.full),
            depth: report.depth,
            logical_bytes: report.logical_bytes,
            added_bytes: report.added_bytes,
            restore_cost: report.restore_cost,
            chunks: report.chunks,
            new_chunks: report.new_chunks,
            like: report.like.as_ref().map(|like| LikeView {
                id: like.id.to_string(),
                run: like.run.clone(),
                step: like.step,
                tensors: like.tensors,
            }),
            made_room: report.made_room.map(|made| MadeRoomView {
                checkpoints: made.checkpoints,
                freed_bytes: made.freed_bytes,
            }),
        }
    }
}

/// "full" or "delta".
pub(crate) fn kind(full: bool) -> &'static str {
    if full { "full" } else { "delta" }
}

/// The same with the depth, for people: "delta(7)".
pub(crate) fn kind_with_depth(full: bool, depth: u8) -> String {
    if full {
        "full".into()
    } else {
        format!("delta({depth})")
    }
}

/// Tags by checkpoint.
pub(crate) struct Tags(BTreeMap<CheckpointId, Vec<String>>);

impl Tags {
    pub(crate) fn new(tags: &BTreeMap<String, CheckpointId>) -> Self {
        let mut by_id: BTreeMap<CheckpointId, Vec<String>> = BTreeMap::new();
        for (name, id) in tags {
            by_id.entry(*id).or_default().push(name.clone());
        }
        Self(by_id)
    }

    pub(crate) fn of(&self, id: &CheckpointId) -> Vec<String> {
        self.0.get(id).cloned().unwrap_or_default()
    }
}
