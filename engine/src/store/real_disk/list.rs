//! What a folder holds, while others change it.

use std::collections::BTreeMap;

use rustix::fd::AsFd;
use rustix::fs::{self, AtFlags, Dir, FileType};
use rustix::io::Result;

use crate::store::disk::{Entry, EntryKind};

/// Times that a folder is read at most which changes all the while.
const LOOKS_MAX: usize = 10;

/// The names in a folder, each once.
///
/// POSIX leaves open whether a name that is replaced while the folder is read is met. On tmpfs it
/// moves to the folder's end: some readers meet it twice and some not at all. So a folder is read
/// until a second look shows nothing new; what was removed in between is not found when it is
/// opened, as it might be after every listing.
pub(super) fn list(mut dir: Dir) -> Result<Vec<Entry>> {
    let mut met = read(&mut dir)?;
    for _ in 1..LOOKS_MAX {
        dir.rewind();
        let known = met.len();
        met.extend(read(&mut dir)?);
        if met.len() == known {
            break;
        }
    }
    let entry = |(name, kind)| Entry { name, kind };
    Ok(met.into_iter().map(entry).collect())
}

/// One look, from the beginning to the end.
fn read(dir: &mut Dir) -> Result<BTreeMap<String, EntryKind>> {
    let mut names = BTreeMap::new();
    while let Some(entry) = dir.read() {
        let entry = entry?;
        // A name that is no UTF-8 is none of ours.
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let mut file_type = entry.file_type();
        if file_type == FileType::Unknown {
            let stat = fs::statat(dir.fd()?.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW);
            file_type = stat.map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode));
        }
        let kind = match file_type {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            _ => EntryKind::Other,
        };
        names.insert(name.to_owned(), kind);
    }
    Ok(names)
}
