//! What of a damaged checkpoint still comes back, chunk by chunk. Nothing is repaired in place:
//! what is whole can be restored, and what is not is named.

use std::collections::BTreeSet;
use std::ops::Range;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::memory;
use crate::progress::{self, Observer};
use crate::restore::plan::Wanted;
use crate::restore::{Checkpoint, Selection};
use crate::store::HeldDecoder;

/// What comes back of a checkpoint, and what does not.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The tensors that come back whole, by name.
    pub whole: Vec<String>,
    /// Tensors that do not.
    pub tensors: Vec<DamagedPart>,
    /// Blobs that do not.
    pub blobs: Vec<DamagedPart>,
    /// Tensors that were dropped on purpose; there is nothing of them.
    pub dropped: Vec<String>,
}

impl Salvage {
    /// Whether everything that was asked for, and every blob, comes back.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.tensors.is_empty() && self.blobs.is_empty() && self.dropped.is_empty()
    }
}

/// A tensor or blob that does not come back whole.
#[derive(Debug)]
pub struct DamagedPart {
    /// Its name.
    pub name: String,
    /// Bytes of all of it.
    pub byte_len: u64,
    /// What is missing of it, ascending; the rest is intact.
    pub lost: Vec<LostRange>,
}

impl DamagedPart {
    /// Bytes that are missing.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|l| l.bytes.end - l.bytes.start).sum()
    }
}

/// Bytes that do not come back.
#[derive(Debug)]
pub struct LostRange {
    /// Which bytes of the tensor or blob.
    pub bytes: Range<u64>,
    /// Why.
    pub error: Error,
}

/// Whether what is wrong with a chunk says nothing of the others.
pub(crate) fn concerns_one_chunk(kind: ErrorKind) -> bool {
    use ErrorKind::{Corrupt, Limit, NotFound, Unsupported};
    matches!(kind, Corrupt | NotFound | Unsupported | Limit)
}

impl Checkpoint {
    /// Decodes and hashes every chunk of a selection and of all blobs; of a chunk that is damaged
    /// in one pack, another pack's record counts as well.
    ///
    /// # Errors
    /// `NotFound` if the selection names what is not there, `Interrupted`, or if the storage
    /// refuses. Damage is in the report, not an error.
    pub fn salvage(&self, selection: &Selection, observer: &dyn Observer) -> Result<Salvage> {
        let store = &self.store.0;
        let hints = &self.manifest.packs;
        store.reading.load_hinted(&*store.disk, hints)?;
        let body = &self.manifest.body;
        let dropped: BTreeSet<&str> = self.manifest.dropped_names().collect();
        let mut salvage = Salvage::default();
        let picked = selection.picked(&self.manifest)?;
        let total: u64 = picked.iter().map(|o| o.bytes.end - o.bytes.start).sum();
        let mut done = 0;
        for output in &picked {
            if dropped.contains(output.name.as_str()) {
                salvage.dropped.push(output.name.clone());
                continue;
            }
            let Some(wanted) = output.wanted(body) else {
                continue;
            };
            let lost = self.lost_of(&wanted, observer)?;
            done += output.bytes.end - output.bytes.start;
            observer.advance(done, total);
            match lost.is_empty() {
                true => salvage.whole.push(output.name.clone()),
                false => salvage.tensors.push(DamagedPart {
                    name: output.name.clone(),
                    byte_len: wanted.cut.total,
                    lost,
                }),
            }
        }
        for blob in &body.blobs {
            let wanted = Wanted {
                cut: blob.cut(),
                chunks: &blob.chunks,
                bytes: 0..blob.byte_len,
            };
            let lost = self.lost_of(&wanted, observer)?;
            if !lost.is_empty() {
                salvage.blobs.push(DamagedPart {
                    name: blob.name.clone(),
                    byte_len: blob.byte_len,
                    lost,
                });
            }
        }
        Ok(salvage)
    }

    /// The chunks of a tensor or blob that do not come back.
    fn lost_of(&self, wanted: &Wanted<'_>, observer: &dyn Observer) -> Result<Vec<LostRange>> {
        let chunks: Vec<(u64, &ChunkId)> = (0..).zip(wanted.chunks).collect();
        let examine = |held: &mut HeldDecoder<'_>, (index, chunk): &(u64, &ChunkId)| {
            progress::check(observer)?;
            let range = wanted.cut.range(*index);
            match self.examine(held, chunk, range.end - range.start) {
                Err(error) if concerns_one_chunk(error.kind()) => Ok(Some(LostRange {
                    bytes: range,
                    error,
                })),
                done => done.map(|()| None),
            }
        };
        let lost: Result<Vec<LostRange>> = self.store.pool()?.install(|| {
            chunks
                .par_iter()
                .map_init(|| self.store.decoder(), examine)
                .filter_map(Result::transpose)
                .collect()
        });
        let mut lost = lost?;
        lost.sort_by_key(|l| l.bytes.start);
        Ok(lost)
    }

    /// Holds that a chunk comes back, from whichever packs.
    fn examine(&self, held: &mut HeldDecoder<'_>, chunk: &ChunkId, len: u64) -> Result<()> {
        let mut raw = memory::zeros(len)?;
        let recipe = self.store.recipe(chunk);
        match recipe {
            Ok(recipe) if recipe.raw_len() as u64 == len => {
                self.decode(&mut held.decoder, &recipe, true, &mut raw)
            }
            Ok(recipe) => {
                let found = recipe.raw_len();
                Err(Error::corrupt(
                    "chunk-length",
                    "a chunk has another length than its tensor calls for",
                )
                .subject(format!("chunk {chunk}"))
                .differs(len, found))
            }
            Err(error) => self.decode_otherwise(&mut held.decoder, chunk, &mut raw, error),
        }
    }
}
