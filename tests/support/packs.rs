//! What the packs of a store on disk say, read with the format's own parsers.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use milepost_engine::PackId;
use milepost_engine::format::pack::{IndexEntry, TRAILER_LEN, Trailer, decode_index};

/// Every file below a folder, by its path there.
pub(crate) fn files_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_path_buf());
            }
        }
    }
    found.sort();
    found
}

/// The records of every pack of a store.
pub(crate) fn records(root: &Path) -> BTreeMap<PackId, Vec<IndexEntry>> {
    let packs = files_below(&root.join("packs"));
    packs
        .iter()
        .map(|path| {
            let file = std::fs::read(root.join("packs").join(path)).unwrap();
            let (body, trailer) = file.split_at(file.len() - TRAILER_LEN);
            let trailer = Trailer::decode(trailer, file.len() as u64).unwrap();
            let at = usize::try_from(trailer.index_offset).unwrap();
            let entries = decode_index(&body[at..], trailer.index_offset).unwrap();
            let id = path.file_stem().unwrap().to_str().unwrap();
            (id.parse().unwrap(), entries)
        })
        .collect()
}

/// Flips a bit of a file in place, as a bad medium would.
#[expect(
    clippy::disallowed_methods,
    reason = "the test is the fault in the disk"
)]
pub(crate) fn flip(path: &Path, at: u64) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path);
    let file = file.unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// The paths of a store's packs, sorted.
pub(crate) fn pack_files(root: &Path) -> Vec<PathBuf> {
    let packs = root.join("packs");
    let files = files_below(&packs);
    files.iter().map(|path| packs.join(path)).collect()
}
