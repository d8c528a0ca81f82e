//! One chunk of a save: known already, or given a record.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::hash;
use crate::id::ChunkId;
use crate::restore::decode::Decoder;
use crate::restore::recipe::Recipe;
use crate::save::Full;
use crate::save::encoder::{Bases, ChunkEncoder, ChunkTask};
use crate::store::Store;

/// Whoever gives chunks their records: a save, or a compaction.
pub(crate) trait SaveChunks: Sync {
    fn store(&self) -> &Store;

    fn encoder(&self) -> &ChunkEncoder<'_>;

    /// Saves one chunk, up to the writing of its record.
    fn save(&self, task: &ChunkTask<'_>, decoder: &mut Decoder) -> Result<SavedChunk>;
}

/// What holds for all chunks of a save.
pub(crate) struct ChunkSaver<'s> {
    pub(crate) store: &'s Store,
    pub(crate) encoder: ChunkEncoder<'s>,
    pub(crate) full: Full,
    /// Chunks that this save stores, so that equal ones are stored once.
    pub(crate) claimed: Mutex<HashSet<ChunkId>>,
}

/// What became of a chunk.
#[derive(Debug)]
pub(crate) struct SavedChunk {
    pub(crate) id: ChunkId,
    /// The record to write, unless the store or this save has one.
    pub(crate) record: Option<(Vec<u8>, IndexEntry)>,
    /// Lanes that differ from the base that it was compared with; all where there was none.
    pub(crate) changed_lanes: u64,
}

impl Bases for Store {
    fn is_usable(&self, chunk: &ChunkId) -> Result<bool> {
        self.0.catalog.settle(&*self.0.disk, chunk)
    }

    fn record(&self, chunk: &ChunkId) -> Option<Arc<IndexEntry>> {
        self.0.catalog.find(chunk).map(|located| located.entry)
    }

    fn decode(&self, chunk: &ChunkId, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let (disk, catalog) = (&*self.0.disk, &self.0.catalog);
        let recipe = Recipe::find(catalog, chunk)?;
        let mut raw = vec![0; recipe.raw_len()];
        decoder.decode(disk, catalog, &recipe, false, &mut raw)?;
        Ok(raw)
    }
}

impl SaveChunks for ChunkSaver<'_> {
    fn store(&self) -> &Store {
        self.store
    }

    fn encoder(&self) -> &ChunkEncoder<'_> {
        &self.encoder
    }

    fn save(&self, task: &ChunkTask<'_>, decoder: &mut Decoder) -> Result<SavedChunk> {
        let unchanged = task
            .parent
            .filter(|parent| self.equals_held(parent, task.raw));
        let id = unchanged.unwrap_or_else(|| hash::chunk_id(task.raw));
        if self.is_stored(&id, decoder)? || !self.claim(&id) {
            let lanes = (task.raw.len() / task.form.lane.width) as u64;
            let changed_lanes = if task.parent == Some(id) { 0 } else { lanes };
            return Ok(SavedChunk {
                id,
                record: None,
                changed_lanes,
            });
        }
        let may_use_base = self.full == Full::Auto;
        let encoded = self.encoder.encode(task, id, may_use_base, decoder)?;
        Ok(SavedChunk {
            id,
            record: Some((encoded.record, encoded.entry)),
            changed_lanes: encoded.changed_lanes,
        })
    }
}

impl ChunkSaver<'_> {
    /// Whether the parent's chunk is held in memory and equal: comparing is cheaper than hashing.
    fn equals_held(&self, parent: &ChunkId, raw: &[u8]) -> bool {
        let held = self.encoder.held(parent);
        held.is_some_and(|held| held.as_slice() == raw)
    }

    /// Whether the store has a record that this save may refer to. To verify is to try it: one
    /// that does not decode is passed over, and the chunk stored anew if there is no other.
    fn is_stored(&self, id: &ChunkId, decoder: &mut Decoder) -> Result<bool> {
        let (disk, catalog) = (&*self.store.0.disk, &self.store.0.catalog);
        if self.full == Full::SelfContained {
            return Ok(false);
        }
        while catalog.settle(disk, id)? {
            let is_full = || catalog.find(id).is_some_and(|l| l.entry.depth == 0);
            if self.full != Full::Auto && !is_full() {
                return Ok(false);
            }
            if !self.encoder.verify || self.decodes(id, decoder)? {
                return Ok(true);
            }
            catalog.drop_record(id);
        }
        Ok(false)
    }

    /// Whether the chunk's record makes its bytes.
    fn decodes(&self, id: &ChunkId, decoder: &mut Decoder) -> Result<bool> {
        let (disk, catalog) = (&*self.store.0.disk, &self.store.0.catalog);
        let recipe = Recipe::find(catalog, id)?;
        let mut raw = vec![0; recipe.raw_len()];
        match decoder.decode(disk, catalog, &recipe, true, &mut raw) {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a damaged record is stored anew");
                Ok(false)
            }
            done => done.map(|()| true),
        }
    }

    fn claim(&self, id: &ChunkId) -> bool {
        self.claimed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(*id)
    }
}
