//! A tensor or blob as a row of chunks, beside the same of another checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::chunking::{self, Cut};
use crate::codec::{Form, Rows};
use crate::dtype::Lane;
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::id::ChunkId;
use crate::save::encoder::ChunkTask;
use crate::save::probe::Probe;
use crate::save::relation::{Way, WayKind};

/// What all chunks of a tensor or blob have in common.
pub(crate) struct Column<'a> {
    pub(crate) lane: Lane,
    pub(crate) cut: Cut,
    /// The chunks of the same tensor or blob of the other checkpoint, most often the parent, if it
    /// is cut alike.
    parent_chunks: &'a [ChunkId],
    /// Lanes in a row, where the lanes are a table.
    row_len: Option<usize>,
    base_probe: Probe,
    grid_probe: Probe,
    /// How its chunks may be predicted from others, and whether that still pays.
    pub(crate) ways: Vec<(Way, Arc<Probe>)>,
}

/// A probe for each kind of way.
pub(crate) type WayProbes = BTreeMap<WayKind, Arc<Probe>>;

impl<'a> Column<'a> {
    /// A tensor beside that of its parent, or beside what is `like` it where there is none.
    pub(crate) fn of_tensor(
        entry: &TensorEntry,
        parent: Option<&'a Body>,
        like: &'a [ChunkId],
    ) -> Self {
        let same = parent.and_then(|p| p.tensor(&entry.name));
        let same = same.filter(|p| p.is_cut_like(entry));
        Self {
            lane: entry.dtype.lane(),
            cut: entry.cut(),
            parent_chunks: same.map_or(like, |p| p.chunks.as_slice()),
            row_len: row_len(entry),
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
            ways: Vec::new(),
        }
    }

    /// The same with ways to predict it; ways of one kind share a probe, whatever the tensor.
    pub(crate) fn with_ways(mut self, ways: &[Way], probes: &mut WayProbes) -> Self {
        let with_probe = |way: &Way| {
            (
                way.clone(),
                Arc::clone(probes.entry(way.kind()).or_default()),
            )
        };
        self.ways = ways.iter().map(with_probe).collect();
        self
    }

    /// The parent's chunk of that number, if the parent's are cut alike.
    pub(crate) fn parent_chunk(&self, index: u64) -> Option<ChunkId> {
        let place = usize::try_from(index).ok()?;
        self.parent_chunks.get(place).copied()
    }

    pub(crate) fn of_blob(entry: &BlobEntry, parent: Option<&'a Body>) -> Self {
        let same = parent.and_then(|p| p.blob(&entry.name));
        let same = same.filter(|p| p.cut() == entry.cut());
        Self {
            lane: Lane {
                width: 1,
                float: false,
            },
            cut: entry.cut(),
            parent_chunks: same.map_or(&[], |p| p.chunks.as_slice()),
            row_len: None,
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
            ways: Vec::new(),
        }
    }

    /// One of its chunks, with its bytes, to be encoded.
    pub(crate) fn task<'t>(&'t self, index: u64, raw: &'t [u8]) -> ChunkTask<'t> {
        let first_lane = usize::try_from(self.cut.range(index).start).unwrap_or(usize::MAX);
        let rows = self.row_len.map(|len| Rows {
            len,
            column: (first_lane / self.lane.width) % len,
        });
        ChunkTask {
            raw,
            form: Form {
                lane: self.lane,
                rows: rows.filter(|_| self.grid_probe.is_worth_trying(index)),
            },
            parent: self.parent_chunk(index),
            index,
            base_probe: &self.base_probe,
            grid_probe: &self.grid_probe,
            family: None,
        }
    }
}

/// Lanes in a row of a tensor, where it is a table.
fn row_len(entry: &TensorEntry) -> Option<usize> {
    let lane_bits = entry.dtype.lane().width as u64 * 8;
    let elements = chunking::row_elements(&entry.shape, entry.chunk_elements)?;
    let bits = elements.checked_mul(entry.dtype.bits())?;
    let lanes = (bits % lane_bits == 0).then_some(bits / lane_bits)?;
    usize::try_from(lanes).ok()
}
