//! What a store takes on disk.

use crate::error::{ErrorKind, Result};
use crate::store::Store;
use crate::store::disk::EntryKind;
use crate::store::history;
use crate::store::packs;
use crate::store::path::{self, Folder, StorePath};
use crate::store::trash;

impl Store {
    /// Bytes that the store's files take, and how many packs there are.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let disk = &*self.0.disk;
        let mut usage = DiskUsage::default();
        // What goes between the listing and the look takes nothing.
        let len = |path: &StorePath| match disk.open(path) {
            Ok(file) => Ok(file.len()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => Ok(0),
            Err(error) => Err(error),
        };
        for id in packs::list(disk)? {
            usage.packs += 1;
            usage.pack_bytes += len(&path::pack(&id))?;
        }
        for place in history::all_places(disk)? {
            usage.manifest_bytes += len(&path::manifest(&place.run, place.seq, &place.id)?)?;
        }
        usage.other_bytes += len(&path::format_file())?;
        for folder in [Folder::Tags, Folder::Txn, Folder::Cache] {
            let listed = disk.list(&path::folder(folder))?;
            for entry in listed.iter().filter(|e| e.kind == EntryKind::File) {
                if let Some(path) = path::known_file(folder, &entry.name) {
                    usage.other_bytes += len(&path)?;
                }
            }
        }
        for (_, len) in trash::list(disk)? {
            usage.trash_bytes += len;
        }
        Ok(usage)
    }
}

/// What a store's files take on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// How many packs there are.
    pub packs: u64,
    /// Bytes of packs.
    pub pack_bytes: u64,
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Bytes of tags, caches, temporary files and the FORMAT file.
    pub other_bytes: u64,
    /// Bytes of packs that a collection set aside.
    pub trash_bytes: u64,
}

impl DiskUsage {
    /// Bytes of all files.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pack_bytes + self.manifest_bytes + self.other_bytes + self.trash_bytes
    }
}
