//! Which record of which pack holds a chunk: in memory, and always rebuilt from packs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rayon::ThreadPool;

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::format::placement::PackHint;
use crate::id::{ChunkId, PackId};
use crate::store::cache;
use crate::store::disk::{Disk, FileView};
use crate::store::pack_file::PackFile;
use crate::store::pack_opening::{self, Opening};
use crate::store::packs::{self, missing_chunk};
use crate::store::path;
use crate::store::records::{Located, Records};

/// Packs held open at once; an open pack costs a mapping or a file descriptor.
const OPEN_PACKS_MAX: usize = 256;
/// Packs that are opened side by side, beyond those that are held open.
const OPENED_TOGETHER: usize = 16;

/// A pack of which only the index was read: what a power cut left of an unsynced pack may have
/// a whole index and damaged records.
#[derive(Debug)]
pub(super) struct Unproven {
    pub(super) pack: PackId,
    pub(super) len: u64,
    pub(super) entries: Vec<IndexEntry>,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) records: Records,
    pub(super) unproven: HashMap<ChunkId, Vec<Arc<Unproven>>>,
    /// Packs that a durable checkpoint needs: they are durable.
    settled: HashSet<PackId>,
    complete: bool,
}

/// The records that this process may rely on, and the packs that it holds open.
///
/// It relies on packs that it wrote, on those of durable checkpoints, and on those that it has
/// proved by reading every record.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(super) tables: RwLock<Tables>,
    /// Held while a pack is proved, so that no thread takes its chunks for missing meanwhile.
    pub(super) proving: Mutex<()>,
    open: Mutex<HashMap<PackId, Arc<PackFile>>>,
    /// Whether packs are read from the device, whatever is kept in memory.
    of_device: bool,
}

impl Catalog {
    /// One whose packs are read from the device, whatever is kept in memory.
    pub(crate) fn of_device() -> Self {
        Self {
            of_device: true,
            ..Self::default()
        }
    }

    fn view(&self, disk: &dyn Disk, pack: &PackId) -> Result<Arc<dyn FileView>> {
        match self.of_device {
            true => disk.open_uncached(&path::pack(pack)),
            false => disk.open(&path::pack(pack)),
        }
    }

    /// The record of a chunk, if its pack was loaded.
    pub(crate) fn find(&self, chunk: &ChunkId) -> Option<Located> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.records.find(chunk)
    }

    /// The least deep record of a chunk in the packs that are allowed.
    pub(crate) fn find_in(
        &self,
        chunk: &ChunkId,
        allowed: impl Fn(&PackId) -> bool,
    ) -> Option<Located> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.records.find_in(chunk, allowed)
    }

    /// Every record of a chunk.
    pub(crate) fn records_of(&self, chunk: &ChunkId) -> Vec<Located> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.records.all_of(chunk)
    }

    /// The records of these chunks and of all their inputs, each once.
    pub(crate) fn closure<'c>(
        &self,
        chunks: impl Iterator<Item = &'c ChunkId>,
    ) -> Result<Vec<Located>> {
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        let mut stack: Vec<(ChunkId, Option<u8>)> = chunks.map(|c| (*c, None)).collect();
        while let Some((chunk, below)) = stack.pop() {
            let located = self.find_below(&chunk, below)?;
            if seen.insert(chunk) {
                let depth = Some(located.entry.depth);
                stack.extend(located.entry.inputs.iter().map(|input| (*input, depth)));
                found.push(located);
            }
        }
        Ok(found)
    }

    /// The record of a chunk, which must be less deep than what needs it.
    pub(crate) fn find_below(&self, chunk: &ChunkId, below: Option<u8>) -> Result<Located> {
        let located = self.find(chunk).ok_or_else(|| missing_chunk(chunk))?;
        match below {
            Some(depth) if located.entry.depth >= depth => Err(Error::corrupt(
                "input-depth",
                "a record's input is not less deep than the record",
            )
            .subject(format!("chunk {chunk}"))
            .differs(format!("a depth below {depth}"), located.entry.depth)),
            _ => Ok(located),
        }
    }

    /// The length of a pack, if it was loaded.
    pub(crate) fn pack_len(&self, pack: &PackId) -> Option<u64> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.records.pack_len(pack)
    }

    /// Adds a pack's records.
    pub(crate) fn add(&self, pack: PackId, len: u64, entries: Vec<IndexEntry>) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.records.add(pack, len, entries);
    }

    /// Adds a pack that is to be proved before any of its records is relied on.
    fn add_unproven(&self, pack: PackId, len: u64, entries: Vec<IndexEntry>) {
        let pack = Arc::new(Unproven { pack, len, entries });
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        for entry in &pack.entries {
            let held = tables.unproven.entry(entry.chunk).or_default();
            held.push(Arc::clone(&pack));
        }
    }

    /// Loads the packs that a checkpoint hints at, which vouches for them. A pack that is gone or
    /// damaged is no error yet: another may hold its chunks by now.
    pub(crate) fn load_hinted(&self, disk: &dyn Disk, hints: &[PackHint]) -> Result<()> {
        for pack in self.unknown_of(hints) {
            let view = self.view(disk, &pack);
            self.take_in(view.and_then(|view| Opening::new(pack, view).open()))?;
        }
        Ok(())
    }

    /// As [`Catalog::load_hinted`], a few packs at a time.
    pub(crate) fn load_hinted_on(
        &self,
        threads: &ThreadPool,
        disk: &dyn Disk,
        hints: &[PackHint],
    ) -> Result<()> {
        let view = |pack: &PackId| self.view(disk, pack);
        for packs in self.unknown_of(hints).chunks(OPENED_TOGETHER) {
            let opened = pack_opening::open_together(threads, packs, view);
            opened.into_iter().try_for_each(|pack| self.take_in(pack))?;
        }
        Ok(())
    }

    /// Whether several of the packs that are hinted at were not loaded yet.
    pub(crate) fn lacks_several(&self, hints: &[PackHint]) -> bool {
        self.unknown_of(hints).len() > 1
    }

    fn unknown_of(&self, hints: &[PackHint]) -> Vec<PackId> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        let packs = hints.iter().map(|hint| hint.pack);
        let mut unknown: Vec<PackId> = packs
            .filter(|pack| tables.records.pack_len(pack).is_none())
            .collect();
        // A manifest may name one as often as it likes.
        let mut met = HashSet::with_capacity(unknown.len());
        unknown.retain(|pack| met.insert(*pack));
        unknown
    }

    /// Makes the records of a pack known, unless it is gone or damaged.
    fn take_in(&self, opened: Result<PackFile>) -> Result<()> {
        match opened {
            Ok(mut pack) => {
                self.add(pack.id, pack.len(), pack.take_index());
                self.hold_open(Arc::new(pack));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(%error, "a damaged pack is left out");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Catalog::load_hinted`], of a durable checkpoint.
    pub(crate) fn load_settled(&self, disk: &dyn Disk, hints: &[PackHint]) -> Result<()> {
        self.load_hinted(disk, hints)?;
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.settled.extend(hints.iter().map(|hint| hint.pack));
        Ok(())
    }

    /// Forgets which packs durable checkpoints need: those may have been forgotten since.
    pub(crate) fn unsettle(&self) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        tables.settled.clear();
    }

    /// Whether a durable checkpoint is known to need the pack.
    pub(crate) fn is_settled(&self, pack: &PackId) -> bool {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.settled.contains(pack)
    }

    /// Loads every pack of the store that was not loaded yet, to be proved when it is needed. A
    /// damaged pack is left out: what needs it will say so by name.
    pub(crate) fn load_all(&self, disk: &dyn Disk) -> Result<()> {
        let mut unknown = Vec::new();
        for id in packs::list(disk)? {
            if self.pack_len(&id).is_none() {
                unknown.push(id);
            }
        }
        let mut cached = HashSet::new();
        for indexed in cache::load_indexes(disk, &unknown.iter().copied().collect::<HashSet<_>>()) {
            cached.insert(indexed.pack);
            self.add_unproven(indexed.pack, indexed.len, indexed.entries);
        }
        for id in unknown.into_iter().filter(|id| !cached.contains(id)) {
            match PackFile::open(disk, &id) {
                Ok(mut pack) => self.add_unproven(id, pack.len(), pack.take_index()),
                Err(error) => tracing::warn!(%error, "a pack is left out"),
            }
        }
        self.tables
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .complete = true;
        Ok(())
    }

    /// Whether [`Catalog::load_all`] has run since the catalog was made or forgotten.
    pub(crate) fn is_complete(&self) -> bool {
        self.tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .complete
    }

    /// Forgets everything, so that packs that were removed or added since are seen.
    pub(crate) fn forget(&self) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = Tables::default();
        self.open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// A pack, open for reading records.
    pub(crate) fn open_pack(&self, disk: &dyn Disk, id: &PackId) -> Result<Arc<PackFile>> {
        if let Some(pack) = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
        {
            return Ok(Arc::clone(pack));
        }
        let pack = Arc::new(match self.of_device {
            true => PackFile::open_uncached(disk, id)?,
            false => PackFile::open_for_records(disk, id)?,
        });
        self.hold_open(Arc::clone(&pack));
        Ok(pack)
    }

    /// Closes packs that a collection has removed since they were opened.
    pub(crate) fn close_removed(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, pack| !pack.is_removed());
    }

    fn hold_open(&self, pack: Arc<PackFile>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_PACKS_MAX {
            open.retain(|_, held| Arc::strong_count(held) > 1);
        }
        open.insert(pack.id, pack);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its index was read, and its records taken in, as often as a manifest named it.
    #[test]
    fn a_pack_that_is_named_twice_is_opened_once() {
        let hint = |byte| PackHint {
            pack: PackId([byte; 32]),
            len: 100,
        };
        let unknown = Catalog::default().unknown_of(&[hint(2), hint(1), hint(2)]);
        assert_eq!(unknown, [PackId([2; 32]), PackId([1; 32])]);
    }
}
