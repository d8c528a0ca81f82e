//! A checkpoint as its old records hold it: what is to be coded anew.

use std::collections::HashMap;

use crate::chunking::Cut;
use crate::compact::live::Live;
use crate::dtype;
use crate::error::{Error, Result};
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::format::relations::TensorRelation;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::restore::recipe::Recipe;
use crate::save::ByteSource;
use crate::save::column::{Column, WayProbes};
use crate::save::draft::Source;
use crate::save::pipeline::Item;
use crate::save::relation::{Against, Relations};
use crate::store::Store;

/// The records that chunks are decoded from.
pub(super) struct OldRecords<'o> {
    pub(super) store: &'o Store,
    pub(super) live: &'o Live,
}

impl OldRecords<'_> {
    /// A chunk's bytes, held against its id: the old record will be gone.
    pub(super) fn decode_into(
        &self,
        chunk: &ChunkId,
        decoder: &mut Decoder,
        out: &mut [u8],
    ) -> Result<()> {
        let recipe = Recipe::find(&self.live.records, chunk)?;
        if recipe.raw_len() != out.len() {
            let what = "a chunk has another length than its tensor calls for";
            return Err(Error::corrupt("chunk-length", what).differs(out.len(), recipe.raw_len()));
        }
        let disk = &*self.store.0.disk;
        decoder.decode(disk, &self.live.records, &recipe, true, out)
    }
}

/// A tensor that is kept, or a blob.
pub(super) struct OldColumn<'o> {
    records: &'o OldRecords<'o>,
    cut: Cut,
    chunks: &'o [ChunkId],
    entry: Entry<'o>,
}

#[derive(Clone, Copy)]
enum Entry<'o> {
    /// With its place in the body.
    Tensor(u32, &'o TensorEntry),
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
        let mut held = self.records.store.decoder();
        self.records.decode_into(chunk, &mut held.decoder, out)
    }
}

/// The tensors that are kept, then the blobs.
pub(super) fn columns<'o>(
    records: &'o OldRecords<'o>,
    manifest: &'o Manifest,
) -> Vec<OldColumn<'o>> {
    let column = |cut, chunks, entry| OldColumn {
        records,
        cut,
        chunks,
        entry,
    };
    let tensors = (0..).zip(&manifest.body.tensors);
    let kept = tensors.filter(|(place, _)| manifest.dropped.binary_search(place).is_err());
    let tensors = kept.map(|(place, t)| column(t.cut(), &*t.chunks, Entry::Tensor(place, t)));
    let blobs = manifest.body.blobs.iter();
    let blobs = blobs.map(|b| column(b.cut(), &*b.chunks, Entry::Blob(b)));
    tensors.chain(blobs).collect()
}

/// The relations of the columns; those that name a tensor which is not kept are left out.
pub(super) fn relations(manifest: &Manifest, columns: &[OldColumn<'_>]) -> Relations {
    let tensor = |column: &OldColumn<'_>| match column.entry {
        Entry::Tensor(place, t) => Some((place, dtype::elements(&t.shape).unwrap_or_default())),
        Entry::Blob(_) => None,
    };
    let (places, elements): (Vec<u32>, Vec<u64>) = columns.iter().filter_map(tensor).unzip();
    let items: HashMap<u32, u32> = places.into_iter().zip(0..).collect();
    let item = |place: &u32| items.get(place).copied();
    let told = manifest.relations.iter().filter_map(|stored| {
        Some(TensorRelation {
            tensor: item(&stored.tensor)?,
            kind: stored.kind,
            of: stored.of.iter().map(item).collect::<Option<_>>()?,
        })
    });
    let told: Vec<TensorRelation> = told.collect();
    Relations::of_items(&told, &elements, Against::Newer)
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
            Entry::Tensor(_, t) => {
                let ways = ways.next().map_or(&[][..], Vec::as_slice);
                Column::of_tensor(t, newer, &[]).with_ways(ways, &mut probes)
            }
            Entry::Blob(b) => Column::of_blob(b, newer),
        },
    };
    columns.iter().map(item).collect()
}
