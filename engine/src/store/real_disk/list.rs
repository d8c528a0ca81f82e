//! What a folder holds, while others change it.

use rustix::fd::AsFd;
use rustix::fs::{self, AtFlags, Dir, FileType};
use rustix::io::Result;

use crate::store::disk::{Entry, EntryKind};

/// Times that a folder is read at most which changes all the while.
const LOOKS_MAX: usize = 10;

/// The names in a folder, each once, sorted.
///
/// POSIX leaves open whether a name that is replaced while the folder is read is met. On tmpfs it
/// moves to the folder's end: some readers meet it twice and some not at all. So a folder is read
/// until a second look shows nothing new; what was removed in between is not found when it is
/// opened, as it might be after every listing.
pub(super) fn list(mut dir: Dir) -> Result<Vec<Entry>> {
    let mut met = Vec::new();
    look(&mut dir, &mut met)?;
    for _ in 1..LOOKS_MAX {
        dir.rewind();
        let known = met.len();
        let is_as_before = look(&mut dir, &mut met)?;
        if is_as_before {
            break;
        }
        let again = met.split_off(known);
        if !take_in(&mut met, again) {
            break;
        }
    }
    sort_once(&mut met);
    Ok(met)
}

/// Adds what was met in another look, which tells of what was met before; whether a name is new.
fn take_in(met: &mut Vec<Entry>, again: Vec<Entry>) -> bool {
    sort_once(met);
    let known = met.len();
    met.splice(..0, again);
    sort_once(met);
    met.len() > known
}

/// Sorts by name and keeps the first of each.
fn sort_once(entries: &mut Vec<Entry>) {
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    entries.dedup_by(|a, b| a.name == b.name);
}

/// One look, from the beginning to the end: adds what does not stand in its place among what was
/// met before, as nearly everything does in a second look. Whether all does.
fn look(dir: &mut Dir, met: &mut Vec<Entry>) -> Result<bool> {
    let known = met.len();
    let mut next = 0;
    while let Some(entry) = dir.read() {
        let entry = entry?;
        // A name that is no UTF-8 is none of ours, and leads nowhere; that it is there is told.
        let name = entry.file_name().to_string_lossy();
        let name = name.as_ref();
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
            FileType::Directory if entry.file_name().to_str().is_ok() => EntryKind::Folder,
            _ => EntryKind::Other,
        };
        let before = met.get(next).filter(|_| next < known);
        if before.is_some_and(|before| before.name == name && before.kind == kind) {
            next += 1;
            continue;
        }
        met.push(Entry {
            name: name.to_owned(),
            kind,
        });
    }
    Ok(met.len() == known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(names: &str, kind: EntryKind) -> Vec<Entry> {
        let entry = |name: char| Entry {
            name: name.into(),
            kind,
        };
        names.chars().map(entry).collect()
    }

    /// A name that was met twice once made up for one that was new: there was no third look.
    #[test]
    fn what_is_new_is_seen_beside_what_was_met_twice() {
        for (first, again, is_new) in [
            ("aba", "bac", true),
            ("aba", "ba", false),
            ("ab", "", false),
            ("", "a", true),
        ] {
            let mut met = entries(first, EntryKind::File);
            let again = entries(again, EntryKind::Folder);
            assert_eq!(take_in(&mut met, again.clone()), is_new, "{first}");
            assert!(met.is_sorted_by(|a, b| a.name < b.name), "{met:?}");
            assert!(again.iter().all(|entry| met.contains(entry)), "{met:?}");
        }
    }
}
