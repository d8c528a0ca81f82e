//! The user's own files: those that are saved and those that a restore makes.

#![expect(
    clippy::disallowed_methods,
    reason = "these files are the user's, not the store's: the engine's disk seam is not for them"
)]

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use milepost_engine::{ByteSource, Error, Result};
use tempfile::NamedTempFile;

/// A file that is read by position, and must not change while it is.
#[derive(Debug)]
pub(crate) struct InputFile {
    file: File,
    path: PathBuf,
    stamp: Stamp,
}

/// What changes when a file is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl InputFile {
    /// Opens a regular file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        // A FIFO would block when opened, so the kind is looked at first.
        let found = fs::metadata(path).map_err(|e| cannot_read(path, &e))?;
        if found.is_dir() {
            return Err(
                Error::invalid("input-folder", "this is a folder, not a file")
                    .subject(path.display())
                    .hint("name the .safetensors files in it"),
            );
        }
        if !found.is_file() {
            let kind = if found.file_type().is_fifo() {
                "a pipe"
            } else {
                "no regular file"
            };
            return Err(Error::invalid("input-kind", format!("this is {kind}"))
                .subject(path.display())
                .hint("write it to a file first: a save reads by position"));
        }
        let file = File::open(path).map_err(|e| cannot_read(path, &e))?;
        let metadata = file.metadata().map_err(|e| cannot_read(path, &e))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            stamp: Stamp::of(&metadata),
        })
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.stamp.len
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Holds that it is as it was when it was opened.
    fn require_unchanged(&self) -> Result<()> {
        let now = self
            .file
            .metadata()
            .map_err(|e| cannot_read(&self.path, &e))?;
        if Stamp::of(&now) == self.stamp {
            return Ok(());
        }
        Err(
            Error::invalid("input-changed", "the file changed while it was saved")
                .subject(self.path.display())
                .hint("save it once its writer is done"),
        )
    }
}

impl ByteSource for InputFile {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(out, offset);
        // A file that was cut short meanwhile has changed: that is the better message.
        self.require_unchanged()?;
        read.map_err(|e| cannot_read(&self.path, &e))
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    let (code, why, hint) = match error.kind() {
        io::ErrorKind::NotFound => (
            "input-missing",
            "there is no such file".to_owned(),
            "check the path",
        ),
        io::ErrorKind::PermissionDenied => (
            "input-denied",
            "the file may not be read".to_owned(),
            "check the file's permissions",
        ),
        _ => (
            "input-unreadable",
            format!("the file cannot be read: {error}"),
            "check the disk that it lies on",
        ),
    };
    Error::invalid(code, why).subject(path.display()).hint(hint)
}

/// A file that appears under its name whole, or not at all.
#[derive(Debug)]
pub(crate) struct OutputFile {
    temporary: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Refuses what could only fail at the end, then makes a temporary file beside `path`.
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(Error::invalid("output-folder", "the output is a folder")
                    .subject(path.display())
                    .hint("name a file in it"));
            }
            Ok(found) if !found.is_file() => {
                return Err(
                    Error::invalid("output-kind", "the output is no regular file")
                        .subject(path.display())
                        .hint("name a new file, or use `-o -` for standard output"),
                );
            }
            Ok(_) if !overwrite => return Err(exists(path)),
            _ => {}
        }
        let folder = folder_of(path);
        let temporary = tempfile::Builder::new()
            .prefix(".milepost-")
            .suffix(".tmp")
            // As any new file: what the user's umask leaves of it.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(|e| cannot_write(path, "make a file", e))?;
        Ok(Self {
            temporary,
            path: path.to_owned(),
            overwrite,
        })
    }

    /// Gives it its length, so that it can be written in any order.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        let file = self.temporary.as_file();
        file.set_len(len)
            .map_err(|e| cannot_write(&self.path, "set a file's length", e))
    }

    /// Writes at a position; from any thread.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.temporary.as_file();
        file.write_all_at(bytes, offset)
            .map_err(|e| cannot_write(&self.path, "write a file", e))
    }

    /// Makes it durable and gives it its name.
    pub(crate) fn publish(self) -> Result<()> {
        let failed = |action, e| cannot_write(&self.path, action, e);
        let synced = self.temporary.as_file().sync_all();
        synced.map_err(|e| failed("sync a file", e))?;
        let named = if self.overwrite {
            self.temporary.persist(&self.path)
        } else {
            self.temporary.persist_noclobber(&self.path)
        };
        named.map_err(|e| match e.error.kind() {
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => cannot_write(&self.path, "name a file", e.error),
        })?;
        File::open(folder_of(&self.path))
            .and_then(|folder| folder.sync_all())
            .map_err(|e| cannot_write(&self.path, "sync a folder", e))
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn exists(path: &Path) -> Error {
    Error::new(
        milepost_engine::ErrorKind::Conflict,
        "output-exists",
        "the output exists already",
    )
    .subject(path.display())
    .hint("name another file, or replace it with --force")
}

fn cannot_write(path: &Path, action: &'static str, error: io::Error) -> Error {
    let missing = error.kind() == io::ErrorKind::NotFound;
    if missing {
        return Error::invalid("output-missing", "there is no folder to write to")
            .subject(path.display())
            .hint("make the folder first");
    }
    let full = error.kind() == io::ErrorKind::StorageFull;
    let error = Error::io(action, error).subject(path.display());
    if full {
        return error.hint("free space, or name a file on another disk; nothing was left behind");
    }
    error
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("make a folder", e).subject(path.display()))
}

/// Writes a small file whole.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(bytes));
    written.map_err(|e| Error::io("write a file", e).subject(path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (later, code) in [
            (&b"longer than before"[..], "input-changed"),
            (b"x", "input-changed"),
        ] {
            write(&path, b"0123456789").unwrap();
            let file = InputFile::open(&path).unwrap();
            let mut out = [0; 10];
            file.read_at(0, &mut out).unwrap();
            assert_eq!(&out, b"0123456789");
            write(&path, later).unwrap();
            assert_eq!(file.read_at(0, &mut out).unwrap_err().code(), code);
        }
    }

    #[test]
    fn an_output_that_is_not_published_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let output = OutputFile::create(&path, false).unwrap();
        output.set_len(3).unwrap();
        output.write_at(1, b"bc").unwrap();
        drop(output);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        // Somebody else takes the name meanwhile.
        let output = OutputFile::create(&path, false).unwrap();
        write(&path, b"theirs").unwrap();
        assert_eq!(output.publish().unwrap_err().code(), "output-exists");
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
