//! Plain data for people who look into a store. Must not print.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::codec::coder::Coder;
use crate::codec::transform::Transform;
use crate::codec::{Layout, Predictor};
use crate::error::{Error, ErrorKind, Result};
use crate::format::record;
use crate::id::{ChunkId, PackId};
use crate::progress::{self, Observer};
use crate::restore::{Checkpoint, Output, Selection, require_kept};
use crate::store::Store;
use crate::store::history::{self, Place, Summary};
use crate::store::pack_file::RecordExtent;

/// One chunk of a tensor and the record that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkReport {
    /// The chunk.
    pub id: ChunkId,
    /// Bytes of the tensor that it makes.
    pub raw_len: u32,
    /// Bytes of its record.
    pub stored_len: u32,
    /// How the record is encoded, such as "base sub-zigzag planes (zstd raw)".
    pub encoding: String,
    /// 0 if it stands alone, else the longest chain behind it.
    pub depth: u8,
    /// Cost of restoring it, in raw bytes read.
    pub restore_cost: u32,
    /// The pack of its record.
    pub pack: PackId,
    /// Where in the pack the record starts.
    pub offset: u64,
    /// The chunks that it is decoded from.
    pub inputs: Vec<ChunkId>,
}

/// A pack that restoring a checkpoint opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackReport {
    /// The pack.
    pub id: PackId,
    /// Bytes of the whole pack.
    pub len: u64,
    /// Whether it is there.
    pub present: bool,
}

impl Checkpoint {
    /// The chunks of a tensor, in order.
    ///
    /// # Errors
    /// `NotFound` if there is no such tensor, `Corrupt` if a record is missing or damaged.
    pub fn tensor_chunks(&self, name: &str) -> Result<Vec<ChunkReport>> {
        let tensor = self.manifest().body.tensor(name).ok_or_else(|| {
            Error::new(
                ErrorKind::NotFound,
                "tensor",
                format!("the checkpoint has no tensor {name:?}"),
            )
            .hint("`milepost ls REV` shows the names")
        })?;
        require_kept(self.manifest(), std::iter::once(name))?;
        self.with_packs(tensor.chunks.iter(), || {
            tensor.chunks.iter().map(|c| self.chunk(c)).collect()
        })
    }

    fn chunk(&self, id: &ChunkId) -> Result<ChunkReport> {
        let store = &self.store().0;
        let located = store
            .reading
            .find(id)
            .ok_or_else(|| crate::store::packs::missing_chunk(id))?;
        let entry = &located.entry;
        let pack = store.reading.open_pack(&*store.disk, &located.pack)?;
        let mut buffer = Vec::new();
        let record = pack.record(RecordExtent::from(&**entry), &mut buffer)?;
        Ok(ChunkReport {
            id: *id,
            raw_len: entry.raw_len,
            stored_len: entry.stored_len,
            encoding: encoding(record)?,
            depth: entry.depth,
            restore_cost: entry.cost,
            pack: located.pack,
            offset: entry.offset,
            inputs: entry.inputs.clone(),
        })
    }

    /// What a listing shows of it.
    ///
    /// # Errors
    /// If its manifest cannot be read any more.
    pub fn summary(&self) -> Result<Arc<Summary>> {
        let store = &self.store().0;
        store.history.summary(&*store.disk, &self.place())
    }

    /// What a selection picks of it; reads nothing.
    ///
    /// # Errors
    /// `NotFound` if it picks nothing, `InvalidInput` if the rows are not there.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Output>> {
        selection.picked(self.manifest())
    }

    /// The packs that restoring it opens.
    #[must_use]
    pub fn packs(&self) -> Vec<PackReport> {
        let disk = &*self.store().0.disk;
        let hints = self.manifest().packs.iter();
        hints
            .map(|hint| PackReport {
                id: hint.pack,
                len: hint.len,
                present: disk.open(&crate::store::path::pack(&hint.pack)).is_ok(),
            })
            .collect()
    }
}

/// The registry's names of a record's parts.
fn encoding(record: &[u8]) -> Result<String> {
    let head = record::decode_head(record)?;
    let name = |found: Option<&'static str>| found.unwrap_or("unknown");
    let predictor = Predictor::ALL.iter().find(|p| p.code() == head.predictor);
    let transform = Transform::ALL.iter().find(|t| t.code() == head.transform);
    let layout = Layout::ALL.iter().find(|l| l.code() == head.layout);
    let coders = head.streams.iter().map(|stream| {
        let coder = Coder::ALL.iter().find(|c| c.code() == stream.coder);
        name(coder.map(|c| c.name()))
    });
    Ok(format!(
        "{} {} {} ({})",
        name(predictor.map(|p| p.name())),
        name(transform.map(|t| t.name())),
        name(layout.map(|l| l.name())),
        coders.collect::<Vec<_>>().join(" "),
    ))
}

impl Store {
    /// For each checkpoint, the bytes of its manifest and of the records that no other
    /// checkpoint needs: what removing only that one would free. Reads every manifest;
    /// checkpoints that cannot be read are left out, and what they need counts as theirs.
    ///
    /// # Errors
    /// If the storage refuses, or `Interrupted`.
    pub fn unique_bytes(&self, observer: &dyn Observer) -> Result<BTreeMap<Place, u64>> {
        let store = &self.0;
        let checkpoints = self.list(None)?.checkpoints;
        // For each chunk the one checkpoint that needs it, or none if several do.
        let mut owners: HashMap<ChunkId, Option<usize>> = HashMap::new();
        let total = checkpoints.iter().map(|s| s.manifest_len).sum();
        let mut done = 0;
        for (number, summary) in checkpoints.iter().enumerate() {
            progress::check(observer)?;
            let manifest = match history::read_manifest(&*store.disk, &summary.place()) {
                Ok(manifest) => manifest,
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(_) => continue,
            };
            store.reading.load_hinted(&*store.disk, &manifest.packs)?;
            for chunk in self.closure(manifest.needed_chunks()) {
                let owner = owners.entry(chunk).or_insert(Some(number));
                if *owner != Some(number) {
                    *owner = None;
                }
            }
            done += summary.manifest_len;
            observer.advance(done, total);
        }
        let mut unique: Vec<u64> = checkpoints.iter().map(|s| s.manifest_len).collect();
        for (chunk, owner) in owners {
            let bytes = owner.and_then(|number| unique.get_mut(number));
            if let (Some(bytes), Some(located)) = (bytes, store.reading.find(&chunk)) {
                *bytes += u64::from(located.entry.stored_len);
            }
        }
        let places = checkpoints.iter().map(|s| s.place());
        Ok(places.zip(unique).collect())
    }

    /// These chunks and all that decoding them needs, each once.
    fn closure<'c>(&self, chunks: impl Iterator<Item = &'c ChunkId>) -> HashSet<ChunkId> {
        let mut seen = HashSet::new();
        let mut stack: Vec<ChunkId> = chunks.copied().collect();
        while let Some(chunk) = stack.pop() {
            if !seen.insert(chunk) {
                continue;
            }
            if let Some(located) = self.0.reading.find(&chunk) {
                stack.extend(&located.entry.inputs);
            }
        }
        seen
    }
}
