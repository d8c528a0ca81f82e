//! Looking chunks up: in the packs that a manifest hints at, then in every pack of the store.

use crate::error::Result;
use crate::format::placement::PackHint;
use crate::id::ChunkId;
use crate::restore::recipe::Recipe;
use crate::store::Store;
use crate::store::catalog::Catalog;
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
