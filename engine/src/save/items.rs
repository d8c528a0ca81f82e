//! What is to be cut: the tensors and blobs of a draft, beside those of its parent.

use crate::chunking::{self, Cut};
use crate::dtype::{self, Lane};
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::id::ChunkId;
use crate::restore::Checkpoint;
use crate::save::draft::Draft;
use crate::save::pipeline::Item;
use crate::save::probe::Probe;

/// The body without chunk ids.
pub(super) fn empty_body(draft: &Draft<'_>, chunk_len: u32) -> Body {
    let tensor = |(name, t): (&String, &crate::save::draft::DraftTensor<'_>)| TensorEntry {
        name: name.clone(),
        dtype: t.dtype,
        byte_len: dtype::elements(&t.shape)
            .and_then(|n| t.dtype.byte_len(n))
            .unwrap_or_default(),
        shape: t.shape.clone(),
        chunk_elements: chunking::chunk_elements(chunk_len, t.dtype.bits()),
        chunks: Vec::new(),
    };
    let blob = |(name, (_, byte_len)): (&String, &(_, u64))| BlobEntry {
        name: name.clone(),
        byte_len: *byte_len,
        chunk_len: u64::from(chunk_len),
        chunks: Vec::new(),
    };
    Body {
        parent: draft.parent().map(Checkpoint::id),
        step: draft.step(),
        metadata: draft.metadata.clone(),
        metrics: draft.metrics.clone(),
        tensors: draft.tensors.iter().map(tensor).collect(),
        blobs: draft.blobs.iter().map(blob).collect(),
    }
}

/// Tensors first, then blobs: the order of the body.
pub(super) fn items<'a>(draft: &'a Draft<'_>, body: &Body) -> Vec<Item<'a>> {
    let parent = draft.parent().map(|p| &p.manifest().body);
    let alike = |cut: Cut, found: Option<(Cut, &'a [ChunkId])>| match found {
        Some((parent_cut, chunks)) if parent_cut == cut => chunks,
        _ => &[],
    };
    let tensors = draft
        .tensors
        .values()
        .zip(&body.tensors)
        .map(|(t, entry)| Item {
            source: t.source,
            lane: t.dtype.lane(),
            cut: entry.cut(),
            parent_chunks: alike(
                entry.cut(),
                parent
                    .and_then(|p| p.tensor(&entry.name))
                    .filter(|p| p.dtype == entry.dtype)
                    .map(|p| (p.cut(), p.chunks.as_slice())),
            ),
            row_len: row_len(entry),
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
        });
    let blobs = draft
        .blobs
        .values()
        .zip(&body.blobs)
        .map(|((source, _), entry)| Item {
            source: *source,
            lane: Lane {
                width: 1,
                float: false,
            },
            cut: entry.cut(),
            parent_chunks: alike(
                entry.cut(),
                parent
                    .and_then(|p| p.blob(&entry.name))
                    .map(|p| (p.cut(), p.chunks.as_slice())),
            ),
            row_len: None,
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
        });
    tensors.chain(blobs).collect()
}

/// Lanes in a row of a tensor, where it is a table.
fn row_len(entry: &TensorEntry) -> Option<usize> {
    let lane_bits = entry.dtype.lane().width as u64 * 8;
    let elements = chunking::row_elements(&entry.shape, entry.chunk_elements)?;
    let bits = elements.checked_mul(entry.dtype.bits())?;
    let lanes = (bits % lane_bits == 0).then_some(bits / lane_bits)?;
    usize::try_from(lanes).ok()
}
