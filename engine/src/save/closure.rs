//! What restoring a checkpoint needs: its packs, and what reading them costs.

use std::collections::{HashMap, HashSet};

use crate::chain::Costs;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::placement::PackHint;
use crate::id::{ChunkId, PackId};
use crate::store::catalog::Catalog;
use crate::store::disk::Disk;
use crate::store::packs::missing_chunk;

/// Everything that restoring a checkpoint needs.
pub(crate) struct Closure {
    pub(crate) packs: Vec<PackHint>,
    pub(crate) depth: u8,
    pub(crate) cost: u64,
    pub(crate) chunks: u64,
}

impl Closure {
    /// The least deep records of the catalog; those that lack an input are dropped from it.
    pub(crate) fn of(disk: &dyn Disk, catalog: &Catalog, manifest: &Manifest) -> Result<Self> {
        let mut closure = Self {
            packs: Vec::new(),
            depth: 0,
            cost: 0,
            chunks: 0,
        };
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut packs: HashMap<PackId, u64> = HashMap::new();
        for chunk in manifest.needed_chunks() {
            if !catalog.settle(disk, chunk)? {
                return Err(missing_chunk(chunk));
            }
            let located = catalog.find(chunk).ok_or_else(|| missing_chunk(chunk))?;
            closure.chunks += 1;
            closure.depth = closure.depth.max(located.entry.depth);
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
        let mut costs = Costs::new(|id: &ChunkId| catalog.find(id).map(|l| l.entry));
        let chunks: Vec<ChunkId> = manifest.needed_chunks().copied().collect();
        closure.cost = costs.closure(&chunks).iter().map(|(_, own)| own).sum();
        closure.packs = packs
            .into_iter()
            .map(|(pack, len)| PackHint { pack, len })
            .collect();
        closure.packs.sort_unstable_by_key(|hint| hint.pack);
        Ok(closure)
    }

    /// Says in a manifest what it needs.
    pub(crate) fn describe(&self, manifest: &mut Manifest) {
        manifest.packs.clone_from(&self.packs);
        let placement = &mut manifest.placement;
        placement.full = self.depth == 0;
        placement.depth = self.depth;
        placement.restore_cost = self.cost;
        placement.chunks = self.chunks;
    }
}
