//! Which packs there are, and what it means if one is missing.

use crate::error::{Error, ErrorKind, Result};
use crate::format::placement::PackHint;
use crate::id::{ChunkId, PackId};
use crate::store::disk::{Disk, EntryKind};
use crate::store::pack_file::PackFile;
use crate::store::path::{self, Folder};

/// Every pack of the store.
pub(crate) fn list(disk: &dyn Disk) -> Result<Vec<PackId>> {
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

/// Why a chunk is missing: one of the packs that were to hold it may be damaged.
pub(crate) fn explain_missing(disk: &dyn Disk, hints: &[PackHint], missing: Error) -> Error {
    let damaged = |hint: &PackHint| match PackFile::open(disk, &hint.pack) {
        Err(error) if error.kind() == ErrorKind::Corrupt => Some(error),
        _ => None,
    };
    hints.iter().find_map(damaged).unwrap_or(missing)
}

/// Whether a pack that was not loaded may hold what was missed: the chunk itself, or a less
/// deep record of it.
pub(crate) fn may_be_elsewhere(error: &Error) -> bool {
    matches!(error.code(), "chunk-missing" | "input-depth")
}
