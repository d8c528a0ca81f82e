//! What is to be cut: the tensors and blobs of a draft, beside those of its parent.

use crate::chunking;
use crate::dtype;
use crate::error::Result;
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::restore::Checkpoint;
use crate::save::column::{Column, WayProbes};
use crate::save::draft::Draft;
use crate::save::like::Likeness;
use crate::save::pipeline::Item;
use crate::save::relation::{Against, Relations};
use crate::save::stored_relations;

/// The draft's relations, told of the body's tensors. The tensors of a family are cut alike, so
/// that the same elements lie in chunks of the same number.
pub(super) fn relations(draft: &Draft<'_>, body: &mut Body) -> Result<Relations> {
    let elements = |t: &TensorEntry| dtype::elements(&t.shape).unwrap_or_default();
    let elements: Vec<u64> = body.tensors.iter().map(elements).collect();
    let told = stored_relations::to_places(&draft.relations, body)?;
    let relations = Relations::of_items(&told, &elements, Against::Older);
    for family in &relations.families {
        let cut = |item: &usize| body.tensors.get(*item).map(|t| t.chunk_elements);
        let Some(least) = family.members.iter().filter_map(cut).min() else {
            continue;
        };
        for item in &family.members {
            if let Some(tensor) = body.tensors.get_mut(*item) {
                tensor.chunk_elements = least;
            }
        }
    }
    Ok(relations)
}

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
pub(super) fn items<'a>(
    draft: &'a Draft<'_>,
    body: &Body,
    relations: &Relations,
    likeness: &'a Likeness,
) -> Vec<Item<'a>> {
    let parent = draft.parent().map(|p| &p.manifest().body);
    let mut probes = WayProbes::new();
    let tensors = draft.tensors.values().zip(&body.tensors);
    let tensors = tensors.zip(&relations.ways).map(|((t, entry), ways)| Item {
        source: t.source,
        column: Column::of_tensor(entry, parent, likeness.of(&entry.name))
            .with_ways(ways, &mut probes),
    });
    let blobs = draft.blobs.values().zip(&body.blobs);
    let blobs = blobs.map(|((source, _), entry)| Item {
        source: *source,
        column: Column::of_blob(entry, parent),
    });
    tensors.chain(blobs).collect()
}
