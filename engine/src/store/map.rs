//! Read-only mapping of a file: with `codec/simd.rs`, the only `unsafe` of the engine.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// A whole file as memory.
#[derive(Debug)]
pub(crate) struct Mapping(Mmap);

impl Mapping {
    /// Maps a file of a store; `None` if the file is empty.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Option<Self>> {
        if len == 0 {
            return Ok(None);
        }
        #[expect(unsafe_code, reason = "the one place where a file becomes memory")]
        // SAFETY: a mapping is sound while nobody truncates or rewrites the file. milepost
        // writes a file before it has a name and never opens a named one for writing: files
        // are linked, replaced whole or unlinked, and an unlinked file's pages stay. Packs
        // have mode 0444, so that other programs do not write them by accident. A program
        // that truncates a pack on purpose can end this process (SIGBUS); where that is to be
        // feared, or the file system may lose pages, the `pread` reader is to be used, and
        // `auto` uses it on network file systems.
        let map = unsafe { Mmap::map(file) }?;
        Ok(Some(Self(map)))
    }

    /// The file's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_mapping_outlives_the_name_and_the_handle() {
        let path = std::env::temp_dir().join(format!("milepost-map-{}", std::process::id()));
        #[expect(clippy::disallowed_methods, reason = "the test makes a file to map")]
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        assert!(Mapping::new(&file, 0).unwrap().is_none());
        file.write_all(b"still here").unwrap();
        let map = Mapping::new(&file, 10).unwrap().unwrap();
        #[expect(clippy::disallowed_methods, reason = "the test removes what it made")]
        std::fs::remove_file(&path).unwrap();
        drop(file);
        assert_eq!(map.bytes(), b"still here");
    }
}
