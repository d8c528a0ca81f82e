//! What restoring a checkpoint needs: its packs, and what reading them costs.

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::placement::PackHint;
use crate::id::{ChunkId, PackId};
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::pack_file::SealedPack;
use crate::store::packs::missing_chunk;

/// Everything that restoring a checkpoint needs.
pub(super) struct Closure {
    pub(super) packs: Vec<PackHint>,
    pub(super) depth: u8,
    pub(super) cost: u64,
    pub(super) chunks: u64,
}

impl Closure {
    /// With `own`, the records of these packs are taken, whatever else the store has.
    pub(super) fn of(
        store: &Store,
        manifest: &Manifest,
        own: Option<&[SealedPack]>,
    ) -> Result<Self> {
        let own = own.map(|packs| {
            let own = Catalog::default();
            packs.iter().for_each(|pack| pack.add_to(&own));
            own
        });
        let catalog = own.as_ref().unwrap_or(&store.0.catalog);
        let mut closure = Self {
            packs: Vec::new(),
            depth: 0,
            cost: 0,
            chunks: 0,
        };
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut packs: HashMap<PackId, u64> = HashMap::new();
        for chunk in manifest.needed_chunks() {
            if !catalog.settle(&*store.0.disk, chunk)? {
                return Err(missing_chunk(chunk));
            }
            let located = catalog.find(chunk).ok_or_else(|| missing_chunk(chunk))?;
            closure.chunks += 1;
            closure.depth = closure.depth.max(located.entry.depth);
            closure.cost += u64::from(located.entry.cost);
            let mut stack = vec![*chunk];
            while let Some(next) = stack.pop() {
                if !seen.insert(next) {
                    continue;
                }
                let located = catalog.find(&next).ok_or_else(|| missing_chunk(&next))?;
                packs.insert(
                    located.pack,
                    catalog.pack_len(&located.pack).unwrap_or_default(),
                );
                stack.extend(&located.entry.inputs);
            }
        }
        closure.packs = packs
            .into_iter()
            .map(|(pack, len)| PackHint { pack, len })
            .collect();
        closure.packs.sort_unstable_by_key(|hint| hint.pack);
        Ok(closure)
    }
}
