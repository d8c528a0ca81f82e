//! Chunks of old records given new ones, by the same encoder that saves use.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::chain::Bounds;
use crate::compact::live::Live;
use crate::compact::old::{self, OldRecords};
use crate::compact::rewrite::Packs;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::pack::IndexEntry;
use crate::format::store_file::Level;
use crate::hash;
use crate::id::ChunkId;
use crate::progress::Observer;
use crate::restore::decode::Decoder;
use crate::restore::recipe::Recipe;
use crate::save::chunk::{SaveChunks, SavedChunk};
use crate::save::encoder::{Bases, ChunkEncoder, ChunkTask};
use crate::save::family;
use crate::save::pipeline::{self, Piece};
use crate::save::probe::Probe;
use crate::save::spare::Spare;
use crate::store::Store;
use crate::store::base_cache::BaseCache;

/// The records that were made anew, and the old ones that chunks are decoded from.
pub(super) struct Recoded<'r> {
    old: OldRecords<'r>,
    new: RwLock<HashMap<ChunkId, Arc<IndexEntry>>>,
}

impl<'r> Recoded<'r> {
    pub(super) fn new(store: &'r Store, live: &'r Live) -> Self {
        Self {
            old: OldRecords { store, live },
            new: RwLock::default(),
        }
    }

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

    fn decode(&self, chunk: &ChunkId, decoder: &mut Decoder) -> Result<Vec<u8>> {
        let mut raw = vec![0; Recipe::find(&self.old.live.records, chunk)?.raw_len()];
        self.old.decode_into(chunk, decoder, &mut raw)?;
        Ok(raw)
    }
}

/// Gives the chunks of one checkpoint after the other new records.
pub(super) struct Recoder<'r> {
    recoded: &'r Recoded<'r>,
    encoder: ChunkEncoder<'r>,
    /// Whether the checkpoint is to stand alone.
    is_full: bool,
    /// Its chunks that somebody is coding.
    claimed: Mutex<HashSet<ChunkId>>,
}

impl<'r> Recoder<'r> {
    pub(super) fn new(
        recoded: &'r Recoded<'r>,
        cache: &'r Mutex<BaseCache>,
        level: Option<Level>,
    ) -> Self {
        let settings = recoded.old.store.settings();
        let encoder = ChunkEncoder {
            bases: recoded,
            cache,
            spare: Spare::default(),
            bounds: Bounds::from(settings),
            level: level.unwrap_or(settings.level),
            verify: true,
            patches: Probe::default(),
        };
        Self {
            recoded,
            encoder,
            is_full: false,
            claimed: Mutex::default(),
        }
    }

    /// Codes the chunks of a checkpoint that have no new record yet, against the next newer one;
    /// all that have none of depth 0 if it `is_full`.
    pub(super) fn recode(
        &mut self,
        manifest: &Manifest,
        newer: Option<&Manifest>,
        is_full: bool,
        packs: &mut Packs<'_>,
        observer: &dyn Observer,
    ) -> Result<()> {
        self.encoder.begin();
        self.is_full = is_full;
        self.claimed = Mutex::default();
        let columns = old::columns(&self.recoded.old, manifest);
        let relations = old::relations(manifest, &columns);
        let items = old::items(&columns, newer.map(|m| &m.body), &relations);
        let mut families = family::families(&items, &relations);
        let is_made = |piece: &Piece| {
            let chunk = columns.get(piece.item).and_then(|c| c.chunk(piece.index));
            chunk.is_some_and(|chunk| self.is_made(chunk))
        };
        families.retain(|family| !family.pieces.iter().all(is_made));
        pipeline::run(&*self, &items, &families, observer, |_, saved| {
            if let Some((record, entry)) = saved.record {
                let writer = packs.writer()?;
                self.recoded.add(writer.append(&record, entry)?.clone());
                self.encoder.spare.give(record);
            }
            Ok(())
        })
    }

    /// Whether a chunk has a new record that will do.
    fn is_made(&self, chunk: &ChunkId) -> bool {
        let made = self.recoded.find(chunk);
        made.is_some_and(|entry| !self.is_full || entry.depth == 0)
    }

    fn claim(&self, chunk: &ChunkId) -> bool {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.insert(*chunk)
    }
}

impl SaveChunks for Recoder<'_> {
    fn store(&self) -> &Store {
        self.recoded.old.store
    }

    fn encoder(&self) -> &ChunkEncoder<'_> {
        &self.encoder
    }

    fn save(&self, task: &ChunkTask<'_>, decoder: &mut Decoder) -> Result<SavedChunk> {
        let id = hash::chunk_id(task.raw);
        let is_new = !self.is_made(&id) && self.claim(&id);
        let encoded = is_new.then(|| self.encoder.encode(task, id, !self.is_full, decoder));
        let encoded = encoded.transpose()?;
        Ok(SavedChunk {
            id,
            changed_lanes: encoded.as_ref().map_or(0, |e| e.changed_lanes),
            record: encoded.map(|e| (e.record, e.entry)),
        })
    }
}
