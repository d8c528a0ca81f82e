//! Every checkpoint coded anew, the newest of a run first and each against the one after it.
//!
//! What is resumed from most, the newest, stands alone; what is old becomes small; and a base
//! that no checkpoint holds any more is not needed by anything.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::chain::Bounds;
use crate::compact::live::Live;
use crate::compact::rewrite::{self, Packs};
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::pack::IndexEntry;
use crate::format::store_file::Level;
use crate::gc::mark::Mark;
use crate::id::ChunkId;
use crate::progress::{self, Observer};
use crate::restore::decode::Decoder;
use crate::restore::recipe::Recipe;
use crate::save::column::Column;
use crate::save::encoder::{Bases, ChunkEncoder, Encoded};
use crate::save::spare::Spare;
use crate::store::Store;
use crate::store::base_cache::BaseCache;
use crate::store::pack_file::UnnamedPack;
use crate::store::txn::Transaction;

/// Chunks that are coded between two looks at the writer, for each thread.
const BATCH_PER_THREAD: usize = 8;

/// The records that were made anew, and the old ones that chunks are decoded from.
struct Recoded<'r> {
    store: &'r Store,
    old: &'r Live,
    new: RwLock<HashMap<ChunkId, Arc<IndexEntry>>>,
}

impl Recoded<'_> {
    fn find(&self, chunk: &ChunkId) -> Option<Arc<IndexEntry>> {
        let new = self.new.read().unwrap_or_else(PoisonError::into_inner);
        new.get(chunk).cloned()
    }

    fn add(&self, entry: IndexEntry) {
        let mut new = self.new.write().unwrap_or_else(PoisonError::into_inner);
        new.insert(entry.chunk, Arc::new(entry));
    }
}

impl Bases for Recoded<'_> {
    fn is_usable(&self, chunk: &ChunkId) -> Result<bool> {
        Ok(self.find(chunk).is_some())
    }

    fn record(&self, chunk: &ChunkId) -> Option<Arc<IndexEntry>> {
        self.find(chunk)
    }

    /// From the old record, and held against its id: the old one will be gone.
    fn decode(&self, chunk: &ChunkId, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let recipe = Recipe::find(&self.old.records, chunk)?;
        let mut raw = vec![0; recipe.raw_len()];
        let disk = &*self.store.0.disk;
        decoder.decode(disk, &self.old.records, &recipe, true, &mut raw)?;
        Ok(raw)
    }
}

/// Writes packs that hold everything the marked checkpoints hold.
///
/// # Errors
/// `Corrupt` if a chunk's record is damaged, `NoSpace`, `Interrupted`; nothing has changed then.
pub(super) fn recode(
    store: &Store,
    mark: &Mark<'_>,
    live: &Live,
    level: Option<Level>,
    txn: &Transaction,
    observer: &dyn Observer,
) -> Result<Vec<UnnamedPack>> {
    let disk = &*store.0.disk;
    let recoded = Recoded {
        store,
        old: live,
        new: RwLock::default(),
    };
    let encoder = ChunkEncoder {
        bases: &recoded,
        cache: &Mutex::new(BaseCache::new(store.0.options.cache_bytes)),
        spare: Spare::default(),
        bounds: Bounds::from(store.settings()),
        level: level.unwrap_or(store.settings().level),
        verify: true,
    };
    let mut packs = Packs::new(disk, txn);
    let full_every = u64::from(store.settings().full_every);
    let (mut done, total) = (0, logical_bytes(store, mark));
    for places in mark.runs().into_values() {
        let mut newer: Option<Manifest> = None;
        for (age, place) in (0u64..).zip(places.into_iter().rev()) {
            let Some(manifest) = rewrite::read(disk, place)? else {
                continue;
            };
            let is_full = full_every > 0 && age.is_multiple_of(full_every);
            if is_full {
                // It may store a chunk again, and a pack holds a chunk once.
                packs.close()?;
            }
            encoder.begin();
            let columns = columns(&manifest, newer.as_ref());
            let tasks = tasks(&recoded, &columns, is_full);
            for batch in tasks.chunks(store.threads() * BATCH_PER_THREAD) {
                progress::check(observer)?;
                for encoded in encode_batch(&encoder, &recoded, batch, is_full)? {
                    let writer = packs.writer()?;
                    recoded.add(writer.append(&encoded.record, encoded.entry)?.clone());
                    encoder.spare.give(encoded.record);
                }
            }
            done += manifest.body.logical_bytes();
            observer.advance(done, total);
            newer = Some(manifest);
        }
    }
    packs.finish()
}

/// What there is to do, as far as summaries tell.
fn logical_bytes(store: &Store, mark: &Mark<'_>) -> u64 {
    let summary = |place| store.0.history.summary(&*store.0.disk, place).ok();
    let summaries = mark.places().filter_map(summary);
    summaries.map(|s| s.placement.logical_bytes).sum()
}

/// A chunk to be coded.
struct Task<'c> {
    column: &'c Column<'c>,
    index: u64,
    chunk: ChunkId,
}

/// The chunks of a checkpoint that have no new record yet, each once.
fn tasks<'c>(
    recoded: &Recoded<'_>,
    columns: &'c [(Column<'c>, &[ChunkId])],
    is_full: bool,
) -> Vec<Task<'c>> {
    let mut claimed = HashSet::new();
    let mut tasks = Vec::new();
    for (column, chunks) in columns {
        for (index, chunk) in (0..).zip(*chunks) {
            let is_made = |e: Arc<IndexEntry>| !is_full || e.depth == 0;
            if !recoded.find(chunk).is_some_and(is_made) && claimed.insert(*chunk) {
                tasks.push(Task {
                    column,
                    index,
                    chunk: *chunk,
                });
            }
        }
    }
    tasks
}

/// The tensors that are kept and the blobs, beside those of the next newer checkpoint.
fn columns<'m>(
    manifest: &'m Manifest,
    newer: Option<&'m Manifest>,
) -> Vec<(Column<'m>, &'m [ChunkId])> {
    let newer = newer.map(|m| &m.body);
    let tensors = manifest.body.tensors.iter().enumerate();
    let kept = tensors.filter(|(place, _)| !manifest.is_dropped(*place));
    let tensors = kept.map(|(_, t)| (Column::of_tensor(t, newer, &[]), t.chunks.as_slice()));
    let blobs = manifest.body.blobs.iter();
    let blobs = blobs.map(|b| (Column::of_blob(b, newer), b.chunks.as_slice()));
    tensors.chain(blobs).collect()
}

fn encode_batch(
    encoder: &ChunkEncoder<'_>,
    recoded: &Recoded<'_>,
    batch: &[Task<'_>],
    is_full: bool,
) -> Result<Vec<Encoded>> {
    let store = recoded.store;
    let encode = |task: &Task<'_>| {
        let mut held = store.decoder();
        let raw = recoded.decode(&task.chunk, &mut held.decoder)?;
        let chunk = task.column.task(task.index, &raw);
        encoder.encode(&chunk, task.chunk, !is_full, &mut held.decoder)
    };
    store
        .pool()?
        .install(|| batch.into_par_iter().map(encode).collect())
}
