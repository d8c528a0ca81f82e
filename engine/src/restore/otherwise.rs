//! When a chunk's records are not where the plan says, or are damaged: where else they may be.

use std::borrow::Cow;
use std::sync::PoisonError;

use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::memory;
use crate::restore::everywhere::forgotten;
use crate::restore::recipe::Recipe;
use crate::restore::salvage::concerns_one_chunk;
use crate::restore::{Checkpoint, decode};
use crate::store::Store;
use crate::store::history;

/// Times that a pack may vanish under a reader before it gives up.
const RETRIES: usize = 4;

impl Store {
    /// Whether a chunk can be made of records in packs that are whole: what a restore falls back
    /// to where a record is damaged.
    pub(crate) fn is_restorable(&self, chunk: &ChunkId) -> Result<bool> {
        match self.decode_from_whole_packs(chunk) {
            Err(error) if concerns_one_chunk(error.kind()) => Ok(false),
            done => done,
        }
    }

    fn decode_from_whole_packs(&self, chunk: &ChunkId) -> Result<bool> {
        let disk = &*self.0.disk;
        let whole = self.whole_packs()?;
        if !whole.settle(disk, chunk)? {
            return Ok(false);
        }
        let recipe = Recipe::find(&whole, chunk)?;
        let mut raw = memory::zeros(recipe.raw_len() as u64)?;
        let mut held = self.decoder();
        held.decoder.forget_pack();
        let decoded = held.decoder.decode(disk, &whole, &recipe, true, &mut raw);
        held.decoder.forget_pack();
        Ok(decoded.is_ok())
    }
}

impl Checkpoint {
    /// Decodes one chunk. Since the plan was made, a compaction may have moved its records to
    /// another pack, and a collection removed the pack that they were in.
    pub(super) fn decode(
        &self,
        decoder: &mut decode::Decoder,
        recipe: &Recipe,
        check: bool,
        out: &mut [u8],
    ) -> Result<()> {
        let store = &self.store.0;
        let mut current: Cow<'_, Recipe> = Cow::Borrowed(recipe);
        for _ in 0..RETRIES {
            match decoder.decode(&*store.disk, &store.reading, &current, check, out) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return self.decode_otherwise(decoder, &current.chunk(), out, error);
                }
                done => return done,
            }
            decoder.forget_pack();
            current = Cow::Owned(self.recipe_anew(&current)?);
        }
        decoder.decode(&*store.disk, &store.reading, &current, check, out)
    }

    /// Decodes a chunk whose records are damaged from others, in packs that are whole.
    pub(super) fn decode_otherwise(
        &self,
        decoder: &mut decode::Decoder,
        chunk: &ChunkId,
        out: &mut [u8],
        damage: Error,
    ) -> Result<()> {
        let disk = &*self.store.0.disk;
        decoder.forget_pack();
        let whole = self.store.whole_packs()?;
        if !whole.settle(disk, chunk)? {
            return Err(damage);
        }
        let other = Recipe::find(&whole, chunk)?;
        if other.raw_len() != out.len() {
            return Err(damage);
        }
        tracing::warn!(error = %damage, "a damaged record is passed over: another has its bytes");
        let done = decoder.decode(disk, &whole, &other, true, out);
        decoder.forget_pack();
        done.map_err(|_| damage)
    }

    /// The recipe of a chunk whose recipe leads to a pack that is gone.
    fn recipe_anew(&self, stale: &Recipe) -> Result<Recipe> {
        let chunk = &stale.chunk();
        let store = &self.store.0;
        // One thread looks; the others find what it found.
        let _one_at_a_time = store.looking.lock().unwrap_or_else(PoisonError::into_inner);
        match self.store.recipe(chunk) {
            Ok(found) if found != *stale => return Ok(found),
            _ => {}
        }
        let manifest = history::read_manifest(&*store.disk, &self.place());
        let manifest = manifest.map_err(|error| match error.kind() {
            ErrorKind::NotFound => forgotten(&self.place()),
            _ => error,
        })?;
        self.store.forget_packs();
        store.reading.load_hinted(&*store.disk, &manifest.packs)?;
        let found = self.store.with_every_pack(
            &store.reading,
            &manifest.packs,
            std::iter::once(chunk),
            || self.store.recipe(chunk),
        );
        found.map_err(|error| self.unless_gone(std::iter::once(chunk), error))
    }
}
