//! Which record of which pack holds a chunk: in memory, and always rebuilt from packs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::IndexEntry;
use crate::format::placement::PackHint;
use crate::id::{ChunkId, PackId};
use crate::store::cache;
use crate::store::disk::{Disk, EntryKind};
use crate::store::pack_file::PackFile;
use crate::store::path::{self, Folder};

/// A chunk's record: its pack and its index entry.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) pack: PackId,
    pub(crate) entry: Arc<IndexEntry>,
}

/// Packs held open at once; an open pack costs a mapping or a file descriptor.
const OPEN_PACKS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Tables {
    records: HashMap<ChunkId, Located>,
    packs: HashMap<PackId, u64>,
    complete: bool,
}

/// The records that this process knows of, and the packs that it holds open.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    tables: RwLock<Tables>,
    open: Mutex<HashMap<PackId, Arc<PackFile>>>,
}

impl Catalog {
    /// The record of a chunk, if its pack was loaded.
    pub(crate) fn find(&self, chunk: &ChunkId) -> Option<Located> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.records.get(chunk).cloned()
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
        self.tables
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .packs
            .get(pack)
            .copied()
    }

    /// Adds a pack's records. Of several records of a chunk the one of least depth counts:
    /// inputs have less depth than what needs them, so no choice can make a cycle.
    pub(crate) fn add(
        &self,
        pack: PackId,
        len: u64,
        entries: impl IntoIterator<Item = IndexEntry>,
    ) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if tables.packs.insert(pack, len).is_some() {
            return;
        }
        for entry in entries {
            let chunk = entry.chunk;
            let found = Located {
                pack,
                entry: Arc::new(entry),
            };
            let rank = |l: &Located| (l.entry.depth, l.pack, l.entry.offset);
            let held = tables.records.entry(chunk).or_insert_with(|| found.clone());
            if rank(&found) < rank(held) {
                *held = found;
            }
        }
    }

    /// Loads the packs that a manifest hints at. A pack that is gone is no error: another may
    /// hold its chunks by now.
    pub(crate) fn load_hinted(&self, disk: &dyn Disk, hints: &[PackHint]) -> Result<()> {
        for hint in hints {
            if self.pack_len(&hint.pack).is_some() {
                continue;
            }
            match PackFile::open(disk, &hint.pack) {
                Ok(pack) => {
                    let pack = Arc::new(pack);
                    self.add(hint.pack, pack.len(), pack.index().iter().cloned());
                    self.hold_open(pack);
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Loads every pack of the store that was not loaded yet. A damaged pack is left out: what
    /// needs it will say so by name.
    pub(crate) fn load_all(&self, disk: &dyn Disk) -> Result<()> {
        let mut unknown = Vec::new();
        for id in list_packs(disk)? {
            if self.pack_len(&id).is_none() {
                unknown.push(id);
            }
        }
        for indexed in cache::load_indexes(disk, &unknown.iter().copied().collect::<HashSet<_>>()) {
            self.add(indexed.pack, indexed.len, indexed.entries);
        }
        for id in unknown.into_iter().filter(|id| self.pack_len(id).is_none()) {
            match PackFile::open(disk, &id) {
                Ok(pack) => self.add(id, pack.len(), pack.into_index()),
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
        let pack = Arc::new(PackFile::open_for_records(disk, id)?);
        self.hold_open(Arc::clone(&pack));
        Ok(pack)
    }

    fn hold_open(&self, pack: Arc<PackFile>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= OPEN_PACKS_MAX {
            open.retain(|_, held| Arc::strong_count(held) > 1);
        }
        open.insert(pack.id, pack);
    }
}

/// Every pack of the store.
pub(crate) fn list_packs(disk: &dyn Disk) -> Result<Vec<PackId>> {
    let mut packs = Vec::new();
    for folder in disk.list(&path::folder(Folder::Packs))? {
        let byte = u8::from_str_radix(&folder.name, 16)
            .ok()
            .filter(|_| folder.kind == EntryKind::Folder);
        let Some(byte) = byte.filter(|b| path::pack_folder(*b).file_name() == folder.name) else {
            continue;
        };
        for entry in disk.list(&path::pack_folder(byte))? {
            let id = path::parse_pack(&entry.name)
                .filter(|id| entry.kind == EntryKind::File && id.0[0] == byte);
            packs.extend(id);
        }
    }
    packs.sort_unstable();
    Ok(packs)
}

/// What to say of a chunk that no record holds.
pub(crate) fn missing_chunk(chunk: &ChunkId) -> Error {
    Error::corrupt("chunk-missing", "a chunk is in no pack of the store")
        .subject(format!("chunk {chunk}"))
        .hint("run `milepost verify` to see which checkpoints are hit")
}

/// Whether a pack that was not loaded may hold what was missed: the chunk itself, or a less
/// deep record of it.
pub(crate) fn may_be_elsewhere(error: &Error) -> bool {
    matches!(error.code(), "chunk-missing" | "input-depth")
}
