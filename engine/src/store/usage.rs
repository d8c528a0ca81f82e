//! What a store takes on disk.

use crate::error::Result;
use crate::store::Store;
use crate::store::cache;
use crate::store::packs;
use crate::store::path::{self, Folder};
use crate::store::trash;

impl Store {
    /// Bytes that the store's files take, and how many packs there are.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let disk = &*self.0.disk;
        let mut usage = DiskUsage::default();
        for id in packs::list(disk)? {
            usage.packs += 1;
            usage.pack_bytes += disk.open(&path::pack(&id))?.len();
        }
        for summary in self.list(None)?.checkpoints {
            usage.manifest_bytes += summary.manifest_len;
        }
        let tags = self.tags()?;
        for file in tags
            .keys()
            .map(|t| path::tag(t))
            .chain([Ok(path::format_file())])
        {
            usage.other_bytes += disk.open(&file?)?.len();
        }
        for (_, len) in trash::list(disk)? {
            usage.trash_bytes += len;
        }
        for entry in disk.list(&path::folder(Folder::Cache))? {
            for kind in [cache::INDEXES, cache::SUMMARIES] {
                if let Some(path) = path::parse_cache(kind, &entry.name) {
                    usage.other_bytes += disk.open(&path)?.len();
                }
            }
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
    /// Bytes of tags, caches and the FORMAT file.
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
