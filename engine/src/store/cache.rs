//! Caches that spare opening thousands of small files (format-spec.md section 5.5).
//!
//! Never trusted beyond their checksum, never needed: a missing, stale or damaged cache costs
//! time. Write-once like everything else: a new file replaces the old ones when the uncached
//! part has grown to a fraction of the cached, so the work stays proportional to what is added.

use std::collections::HashSet;

use crate::error::Result;
use crate::format::cache_file::{CachedIndex, decode, encode};
use crate::format::cursor::Reader;
use crate::format::envelope::{self, ENVELOPE_LEN, FileKind};
use crate::format::limits;
use crate::id::PackId;
use crate::store::disk::{Disk, EntryKind, read_whole};
use crate::store::pack_file::PackFile;
use crate::store::path::{self, Folder, StorePath};

/// Longest cache file that is read or written: a longer one saves no time.
const CACHE_LEN_MAX: u64 = 256 << 20;
/// Fewer uncached items than this are never worth a new cache.
const UNCACHED_MIN: usize = 64;
/// A new cache is made when one item in this many is uncached.
const UNCACHED_SHARE: usize = 8;

/// Cached pack indexes.
pub(crate) const INDEXES: &str = "indexes";
/// Cached summaries of manifests.
pub(crate) const SUMMARIES: &str = "summaries";

/// Whether so many uncached items call for a new cache.
pub(crate) fn is_due(cached: usize, uncached: usize) -> bool {
    uncached >= UNCACHED_MIN.max(cached / UNCACHED_SHARE)
}

/// The cache files of one kind.
fn files(disk: &dyn Disk, kind: &'static str) -> Vec<StorePath> {
    let listed = disk.list(&path::folder(Folder::Cache)).unwrap_or_default();
    let of_kind = |e: &crate::store::disk::Entry| {
        (e.kind == EntryKind::File)
            .then(|| path::parse_cache(kind, &e.name))
            .flatten()
    };
    listed.iter().filter_map(of_kind).collect()
}

/// The bytes of every whole cache file of a kind; damaged ones are passed over.
pub(crate) fn load(disk: &dyn Disk, kind: &'static str) -> Vec<Vec<u8>> {
    let read = |path: &StorePath| {
        // Whatever else lies here is not worth its memory.
        let mut head = [0; ENVELOPE_LEN];
        disk.open(path).ok()?.read_at(0, &mut head).ok()?;
        envelope::decode(&mut Reader::new(&head, 0), FileKind::Cache).ok()?;
        read_whole(disk, path, CACHE_LEN_MAX).ok()
    };
    files(disk, kind)
        .iter()
        .filter_map(read)
        .filter(|file| decode(file).is_ok())
        .collect()
}

/// Puts one cache file in place of all of its kind.
pub(crate) fn replace(
    disk: &dyn Disk,
    txn: u128,
    kind: &'static str,
    items: &[Vec<u8>],
) -> Result<()> {
    let old = files(disk, kind);
    let bytes = encode(items);
    if bytes.len() as u64 > CACHE_LEN_MAX {
        return Ok(());
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(blake3::hash(&bytes).as_bytes().split_at(16).0);
    let path = path::cache(kind, u128::from_le_bytes(hash));
    let mut file = disk.create(txn)?;
    file.write(&bytes)?;
    file.publish(&path)?;
    for stale in old.iter().filter(|old| **old != path) {
        disk.remove(stale)?;
    }
    Ok(())
}

/// Removes every cache file of a kind: what it says is about to become untrue.
pub(crate) fn discard(disk: &dyn Disk, kind: &'static str) -> Result<()> {
    let files = files(disk, kind);
    files.iter().try_for_each(|file| disk.remove(file))?;
    if files.is_empty() {
        return Ok(());
    }
    // What makes it untrue must not outlive a power cut alone.
    disk.sync(&path::folder(Folder::Cache))
}

/// Cached indexes of the packs that are wanted.
pub(crate) fn load_indexes(disk: &dyn Disk, wanted: &HashSet<PackId>) -> Vec<CachedIndex> {
    if wanted.len() < UNCACHED_MIN {
        return Vec::new();
    }
    let mut found = Vec::new();
    for file in load(disk, INDEXES) {
        let items = decode(&file).unwrap_or_default();
        found.extend(
            items
                .iter()
                .filter_map(|item| CachedIndex::decode(item, |id| wanted.contains(id)).ok()?),
        );
    }
    found
}

/// Caches the indexes of all packs anew, if enough of them are not cached.
pub(crate) fn refresh_indexes(disk: &dyn Disk, txn: u128, packs: &[PackId]) -> Result<()> {
    let listed: HashSet<PackId> = packs.iter().copied().collect();
    let held = load(disk, INDEXES);
    let mut items: Vec<Vec<u8>> = Vec::new();
    let mut cached = HashSet::new();
    for item in held
        .iter()
        .flat_map(|file| decode(file).unwrap_or_default())
    {
        let id = PackId(Reader::new(item, 0).array()?);
        if listed.contains(&id) && cached.insert(id) {
            items.push(item.to_vec());
        }
    }
    if !is_due(cached.len(), listed.len() - cached.len()) {
        return Ok(());
    }
    for id in packs.iter().filter(|id| !cached.contains(id)) {
        let Ok(mut pack) = PackFile::open(disk, id) else {
            continue;
        };
        let (len, entries) = (pack.len(), pack.take_index());
        items.push(
            CachedIndex {
                pack: *id,
                len,
                entries,
            }
            .encode()?,
        );
    }
    if items.len() > limits::RECORDS_MAX as usize {
        return Ok(());
    }
    replace(disk, txn, INDEXES, &items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewriting_stays_proportional() {
        assert!(!is_due(0, 63) && is_due(0, 64));
        assert!(!is_due(8000, 999) && is_due(8000, 1000));
    }
}
