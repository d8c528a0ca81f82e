//! Tags: names for checkpoints, replaced atomically (format-spec.md section 13).

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{limits, name, tag};
use crate::id::CheckpointId;
use crate::store::disk::{Disk, EntryKind, read_whole};
use crate::store::path::{self, Folder};

/// Every readable tag.
pub(crate) fn list(disk: &dyn Disk) -> Result<BTreeMap<String, CheckpointId>> {
    let mut tags = BTreeMap::new();
    for entry in disk.list(&path::folder(Folder::Tags))? {
        if entry.kind != EntryKind::File || !name::is_valid(&entry.name) {
            continue;
        }
        match read(disk, &entry.name) {
            Ok(Some(id)) => {
                tags.insert(entry.name, id);
            }
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) => {
                return Err(error);
            }
            Err(error) => tracing::warn!(%error, "a tag is left out"),
        }
    }
    Ok(tags)
}

/// The checkpoint of a tag, if there is such a tag.
pub(crate) fn read(disk: &dyn Disk, name: &str) -> Result<Option<CheckpointId>> {
    let path = path::tag(name)?;
    match read_whole(disk, &path, limits::SMALL_FILE_LEN_MAX) {
        Ok(file) => tag::decode(&file).map(Some).map_err(|e| e.file(&path)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes or moves a tag; durable when it returns.
pub(crate) fn write(disk: &dyn Disk, txn: u128, name: &str, id: &CheckpointId) -> Result<()> {
    let path = path::tag(name)?;
    let mut file = disk.create(txn)?;
    file.write(&tag::encode(id))?;
    file.sync()?;
    file.replace(&path)?;
    disk.sync(&path.parent())
}

/// Removes a tag; durable when it returns.
pub(crate) fn remove(disk: &dyn Disk, name: &str) -> Result<()> {
    let path = path::tag(name)?;
    // A damaged tag can be removed as well.
    if matches!(read(disk, name), Ok(None)) {
        return Err(Error::new(
            ErrorKind::NotFound,
            "tag",
            format!("there is no tag {name:?}"),
        ));
    }
    disk.remove(&path)?;
    disk.sync(&path.parent())
}
