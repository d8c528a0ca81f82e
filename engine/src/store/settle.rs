//! Which records may be relied on: packs of which only the index was read are proved first, and
//! records that lack an input are passed over (format-spec.md section 12.1).

use std::collections::HashSet;
use std::sync::PoisonError;

use crate::error::{ErrorKind, Result};
use crate::id::ChunkId;
use crate::store::catalog::{Catalog, Unproven};
use crate::store::disk::Disk;
use crate::store::pack_file::PackFile;

impl Catalog {
    /// Whether the chunk can be made of records that may be relied on. Proves the packs that
    /// this takes, and drops records that lack an input: their pack was written, but not what
    /// it was coded against.
    pub(crate) fn settle(&self, disk: &dyn Disk, chunk: &ChunkId) -> Result<bool> {
        self.settle_unless(disk, chunk, &mut HashSet::new())
    }

    fn settle_unless(
        &self,
        disk: &dyn Disk,
        chunk: &ChunkId,
        settled: &mut HashSet<ChunkId>,
    ) -> Result<bool> {
        if settled.contains(chunk) {
            return Ok(true);
        }
        self.prove_packs_of(disk, chunk)?;
        while let Some(found) = self.find(chunk) {
            let mut whole = true;
            for input in &found.entry.inputs {
                self.prove_packs_of(disk, input)?;
                // Depth falls with every input, so this ends.
                let below = self
                    .find(input)
                    .is_some_and(|i| i.entry.depth < found.entry.depth);
                whole = whole && below && self.settle_unless(disk, input, settled)?;
            }
            if whole {
                settled.insert(*chunk);
                return Ok(true);
            }
            self.drop_record(chunk);
        }
        Ok(false)
    }

    /// As [`Catalog::settle`], of packs that are all known. The last record of a chunk stays, so
    /// that what is wrong with it can be told.
    pub(crate) fn pass_over_unsound(&self, chunk: &ChunkId, sound: &mut HashSet<ChunkId>) -> bool {
        if sound.contains(chunk) {
            return true;
        }
        while let Some(found) = self.find(chunk) {
            // Depth falls with every input, so this ends.
            let is_sound = found.entry.inputs.iter().all(|input| {
                let below = self.find(input).map(|i| i.entry.depth < found.entry.depth);
                below == Some(true) && self.pass_over_unsound(input, sound)
            });
            if is_sound {
                sound.insert(*chunk);
                return true;
            }
            if self.records_of(chunk).len() == 1 {
                break;
            }
            self.drop_record(chunk);
        }
        false
    }

    /// Forgets the least deep record of a chunk; the next takes its place.
    pub(crate) fn drop_record(&self, chunk: &ChunkId) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.records.drop_first(chunk);
    }

    /// Proves every unproven pack that holds the chunk; those that fail are left out.
    fn prove_packs_of(&self, disk: &dyn Disk, chunk: &ChunkId) -> Result<()> {
        let unproven = || {
            let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
            tables.unproven.get(chunk).cloned().unwrap_or_default()
        };
        if unproven().is_empty() {
            return Ok(());
        }
        let _one_at_a_time = self.proving.lock().unwrap_or_else(PoisonError::into_inner);
        for pack in unproven() {
            if self.pack_len(&pack.pack).is_none() {
                match prove(disk, &pack) {
                    Ok(()) => self.add(pack.pack, pack.len, pack.entries.clone()),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
                    {
                        tracing::warn!(%error, "a damaged pack is left out");
                    }
                    Err(error) => return Err(error),
                }
            }
            let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
            for entry in &pack.entries {
                if let Some(held) = tables.unproven.get_mut(&entry.chunk) {
                    held.retain(|other| other.pack != pack.pack);
                    if held.is_empty() {
                        tables.unproven.remove(&entry.chunk);
                    }
                }
            }
        }
        Ok(())
    }
}

/// By what the device has: after a sync that failed, the kernel goes on showing more than that.
fn prove(disk: &dyn Disk, pack: &Unproven) -> Result<()> {
    let file = PackFile::open_uncached(disk, &pack.pack)?;
    file.require_len(pack.len)?;
    file.prove()
}
