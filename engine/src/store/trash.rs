//! The trash: packs that are on their way out, and the way back.

use std::collections::BTreeSet;

use crate::error::{ErrorKind, Result};
use crate::id::PackId;
use crate::store::disk::{Disk, EntryKind};
use crate::store::path::{self, Folder};

/// The packs in the trash and their bytes.
pub(crate) fn list(disk: &dyn Disk) -> Result<Vec<(PackId, u64)>> {
    let mut packs = Vec::new();
    for entry in disk.list(&path::folder(Folder::Trash))? {
        let id = path::parse_pack(&entry.name).filter(|_| entry.kind == EntryKind::File);
        let Some(id) = id else { continue };
        match disk.open(&path::trashed(&id)) {
            Ok(file) => packs.push((id, file.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    packs.sort_unstable();
    Ok(packs)
}

/// Moves a pack to the trash. `false` if the disk has no room for a name there: then the pack
/// is unlinked at once, as a full disk must not keep space from being freed.
pub(crate) fn set_aside(disk: &dyn Disk, pack: &PackId) -> Result<bool> {
    let linked = match disk.link(&path::pack(pack), &path::trashed(pack)) {
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::NoSpace => false,
        Err(error) => return Err(error),
    };
    disk.remove(&path::pack(pack))?;
    Ok(linked)
}

/// Makes the moves of these packs durable.
pub(crate) fn settle(disk: &dyn Disk, moved: &[PackId]) -> Result<()> {
    disk.sync(&path::folder(Folder::Trash))?;
    let folders: BTreeSet<_> = moved.iter().map(|p| path::pack(p).parent()).collect();
    folders.iter().try_for_each(|folder| disk.sync(folder))
}

/// Gives a pack in the trash its name in the store back; durable when it returns.
pub(crate) fn rescue(disk: &dyn Disk, pack: &PackId) -> Result<()> {
    let path = path::pack(pack);
    disk.make_folder(&path.parent())?;
    disk.link(&path::trashed(pack), &path)?;
    disk.sync(&path.parent())?;
    disk.sync(&path.parent().parent())
}

/// The second phase: unlinks packs in the trash.
pub(crate) fn empty(disk: &dyn Disk, packs: &[(PackId, u64)]) -> Result<()> {
    for (pack, _) in packs {
        disk.remove(&path::trashed(pack))?;
    }
    if !packs.is_empty() {
        disk.sync(&path::folder(Folder::Trash))?;
    }
    Ok(())
}
