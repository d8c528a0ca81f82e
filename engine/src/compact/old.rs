//! A checkpoint as its old records hold it: what is to be coded anew.

use std::collections::HashSet;

use crate::chunking::Cut;
use crate::dtype;
use crate::error::{Error, Result};
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::save::ByteSource;
use crate::save::column::{Column, WayProbes};
use crate::save::draft::Source;
use crate::save::pipeline::Item;
use crate::save::relation::{Against, Relations};
use crate::store::Store;

/// Makes the bytes of a chunk from its old record.
pub(super) trait OldChunks: Sync {
    fn store(&self) -> &Store;
    fn decode_into(&self, chunk: &ChunkId, decoder: &mut Decoder, out: &mut [u8]) -> Result<()>;
}

/// A tensor that is kept, or a blob.
pub(super) struct OldColumn<'o> {
    records: &'o dyn OldChunks,
    cut: Cut,
    chunks: &'o [ChunkId],
    entry: Entry<'o>,
}

#[derive(Clone, Copy)]
enum Entry<'o> {
    Tensor(&'o TensorEntry),
    Blob(&'o BlobEntry),
}

impl OldColumn<'_> {
    pub(super) fn chunk(&self, index: u64) -> Option<&ChunkId> {
        self.chunks.get(usize::try_from(index).ok()?)
    }
}

impl ByteSource for OldColumn<'_> {
    /// A whole chunk, which is how columns are read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let chunk = self.chunk(offset / self.cut.chunk.max(1));
        let chunk = chunk.ok_or_else(|| Error::invalid("chunk", "a range of no chunk"))?;
        let mut held = self.records.store().decoder();
        self.records.decode_into(chunk, &mut held.decoder, out)
    }
}

/// The tensors that are kept, then the blobs.
pub(super) fn columns<'o>(
    records: &'o dyn OldChunks,
    manifest: &'o Manifest,
) -> Vec<OldColumn<'o>> {
    let column = |cut, chunks, entry| OldColumn {
        records,
        cut,
        chunks,
        entry,
    };
    let tensors = manifest.body.tensors.iter().enumerate();
    let kept = tensors.filter(|(place, _)| !manifest.is_dropped(*place));
    let tensors = kept.map(|(_, t)| column(t.cut(), &*t.chunks, Entry::Tensor(t)));
    let blobs = manifest.body.blobs.iter();
    let blobs = blobs.map(|b| column(b.cut(), &*b.chunks, Entry::Blob(b)));
    tensors.chain(blobs).collect()
}

/// The relations of the columns; those that name a tensor which is not kept are left out.
pub(super) fn relations(manifest: &Manifest, columns: &[OldColumn<'_>]) -> Result<Relations> {
    let elements = |t: &TensorEntry| dtype::elements(&t.shape).unwrap_or_default();
    let tensor = |column: &OldColumn<'_>| match column.entry {
        Entry::Tensor(t) => Some((t.name.clone(), elements(t))),
        Entry::Blob(_) => None,
    };
    let kept: Vec<(String, u64)> = columns.iter().filter_map(tensor).collect();
    let names: HashSet<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    let mut related = manifest.named_relations();
    related.retain(|name, relation| {
        let mut told = relation.names().into_iter().chain([name.as_str()]);
        told.all(|name| names.contains(name))
    });
    let tensors = kept
        .iter()
        .map(|(name, elements)| (name.as_str(), *elements));
    Relations::resolve(related.iter(), tensors, Against::Newer)
}

/// What is to be coded, beside the next newer checkpoint.
pub(super) fn items<'o>(
    columns: &'o [OldColumn<'o>],
    newer: Option<&'o Body>,
    relations: &Relations,
) -> Vec<Item<'o>> {
    let mut probes = WayProbes::new();
    let mut ways = relations.ways.iter();
    let item = |column: &'o OldColumn<'o>| Item {
        source: Source::Reader(column, 0),
        column: match column.entry {
            Entry::Tensor(t) => {
                let ways = ways.next().map_or(&[][..], Vec::as_slice);
                Column::of_tensor(t, newer, &[]).with_ways(ways, &mut probes)
            }
            Entry::Blob(b) => Column::of_blob(b, newer),
        },
    };
    columns.iter().map(item).collect()
}
