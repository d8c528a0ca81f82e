//! Looking chunks up: in the packs that a manifest hints at, then in every pack of the store.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result};
use crate::format::placement::PackHint;
use crate::id::ChunkId;
use crate::restore::Checkpoint;
use crate::restore::recipe::Recipe;
use crate::restore::select::require_kept;
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::history::{self, Place};
use crate::store::packs;

/// Times that packs may move while they are looked for.
const MOVES_MAX: usize = 8;

impl Store {
    /// The recipe of a chunk whose pack was loaded, to restore it.
    pub(crate) fn recipe(&self, chunk: &ChunkId) -> Result<Recipe> {
        Recipe::find(&self.0.reading, chunk)
    }

    /// Looks something up in the packs that were hinted at. Hints may be stale or missing: before
    /// one of the chunks is given up, every pack is looked at.
    pub(crate) fn with_every_pack<'c, T>(
        &self,
        catalog: &Catalog,
        hints: &[PackHint],
        chunks: impl Iterator<Item = &'c ChunkId>,
        look_up: impl Fn() -> Result<T>,
    ) -> Result<T> {
        match look_up() {
            Err(first) if packs::may_be_elsewhere(&first) => {
                let chunks: Vec<&ChunkId> = chunks.collect();
                match self.look_everywhere(catalog, hints, &chunks, look_up)? {
                    Some(found) => Ok(found),
                    // What was missing at first says more than what settling left.
                    None => Err(packs::explain_missing(&*self.0.disk, hints, first)),
                }
            }
            done => done,
        }
    }

    /// Looks again with every pack of the store, and once more for as long as packs come and go:
    /// a compaction may have moved what was listed before it was opened.
    fn look_everywhere<T>(
        &self,
        catalog: &Catalog,
        hints: &[PackHint],
        chunks: &[&ChunkId],
        look_up: impl Fn() -> Result<T>,
    ) -> Result<Option<T>> {
        let disk = &*self.0.disk;
        let mut listed = packs::list(disk)?;
        for _ in 0..MOVES_MAX {
            self.forget_packs();
            catalog.load_hinted(disk, hints)?;
            catalog.load_all(disk)?;
            for chunk in chunks {
                catalog.settle(disk, chunk)?;
            }
            match look_up() {
                Err(error) if packs::may_be_elsewhere(&error) => {}
                done => return done.map(Some),
            }
            let now = packs::list(disk)?;
            if now == listed {
                break;
            }
            listed = now;
        }
        Ok(None)
    }
}

impl Checkpoint {
    /// Looks something up in the packs that the manifest hints at, then in every pack.
    ///
    /// # Errors
    /// `Corrupt` if a chunk is missing; `NotFound` if that is because the checkpoint was forgotten
    /// or thinned since its manifest was read.
    pub(crate) fn with_packs<'c, T>(
        &self,
        chunks: impl Iterator<Item = &'c ChunkId> + Clone,
        look_up: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let (store, hints) = (&self.store.0, &self.manifest.packs);
        if self.store.threads() > 1 && store.reading.lacks_several(hints) {
            let threads = self.store.pool()?;
            store.reading.load_hinted_on(threads, &*store.disk, hints)?;
        } else {
            store.reading.load_hinted(&*store.disk, hints)?;
        }
        let found = self
            .store
            .with_every_pack(&store.reading, hints, chunks.clone(), look_up);
        found.map_err(|error| self.unless_gone(chunks, error))
    }

    /// What to say of damage, unless the checkpoint is not to be there any more, or one of the
    /// tensors that the chunks are of.
    pub(super) fn unless_gone<'c>(
        &self,
        mut chunks: impl Iterator<Item = &'c ChunkId>,
        damage: Error,
    ) -> Error {
        if damage.kind() != ErrorKind::Corrupt {
            return damage;
        }
        if !self.is_there() {
            return forgotten(&self.place());
        }
        let Ok(now) = history::read_manifest(&*self.store.0.disk, &self.place()) else {
            return damage;
        };
        let needed: HashSet<&ChunkId> = now.needed_chunks().collect();
        let Some(dropped) = chunks.find(|chunk| !needed.contains(chunk)) else {
            return damage;
        };
        let tensors = now.body.tensors.iter();
        let of = tensors.filter(|t| t.chunks.contains(dropped));
        match require_kept(&now, of.map(|t| t.name.as_str()).take(1)) {
            Err(dropped) => dropped,
            Ok(()) => damage,
        }
    }
}

pub(super) fn forgotten(place: &Place) -> Error {
    let id = place.id.short();
    Error::new(
        ErrorKind::NotFound,
        "forgotten",
        "the checkpoint was forgotten while it was read",
    )
    .subject(format!("checkpoint {id} of run {}", place.run))
    .hint("`milepost log` shows what there is")
}
