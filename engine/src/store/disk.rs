//! The seam to storage: a handful of dumb verbs that know nothing of the format.
//!
//! The real disk implements them with system calls, the crash simulator with a model of what
//! a power cut may lose. Rules for every implementation:
//!
//! - A file's bytes never change once it has a name; files are only added, replaced whole or
//!   removed.
//! - Nothing is durable before [`Disk::sync`] or [`NewFile::sync`] returned: bytes need the
//!   file's sync, names the sync of their folder.
//! - A failed sync is final: the caller must drop the file and never retry it.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::memory;
use crate::store::path::StorePath;

/// What is at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else: never opened, never followed.
    Other,
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without its folder.
    pub name: String,
    /// What is there.
    pub kind: EntryKind,
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others.
    Shared,
    /// Alone.
    Exclusive,
}

/// What became of a file that was to get a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has the name now.
    New,
    /// The name was taken; nothing was changed.
    Exists,
}

/// Held until dropped; the operating system drops it when the process dies.
pub trait Lock: Debug + Send + Sync {}

/// A store's storage.
pub trait Disk: Debug + Send + Sync {
    /// The names in a folder, each once, in no order; none if there is no such folder.
    ///
    /// # Errors
    /// If the storage refuses.
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>>;

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Corrupt` if the name is no regular file.
    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>>;

    /// As [`Disk::open`], to read what the device has, whatever is kept in memory. Slow.
    ///
    /// # Errors
    /// As [`Disk::open`].
    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>>;

    /// Starts a file that has no name yet; `txn` names the writer.
    ///
    /// # Errors
    /// If the storage refuses.
    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>>;

    /// Makes a folder if there is none.
    ///
    /// # Errors
    /// If the storage refuses.
    fn make_folder(&self, folder: &StorePath) -> Result<()>;

    /// Makes a file's bytes, or a folder's names, durable.
    ///
    /// # Errors
    /// If the storage cannot say that they are.
    fn sync(&self, path: &StorePath) -> Result<()>;

    /// Gives a file that has a name a second one, which must not be taken.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, or if the storage refuses.
    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published>;

    /// Removes a file's name; no error if it has none.
    ///
    /// # Errors
    /// If the storage refuses.
    fn remove(&self, path: &StorePath) -> Result<()>;

    /// Takes a lock on a file, which is made if there is none. `None` if another holds it: it
    /// does not wait.
    ///
    /// # Errors
    /// If the storage has no locks or refuses.
    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>>;

    /// Bytes that files may still take, as far as is known.
    fn free_bytes(&self) -> Option<u64> {
        None
    }

    /// A value that changes whenever unsynced bytes may have been lost: the boot's id.
    fn boot_id(&self) -> [u8; 16];
}

/// A named file, open for reading. Its bytes never change.
pub trait FileView: Debug + Send + Sync {
    /// Bytes in all.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    /// `Corrupt` if the file ends before, else if the storage refuses.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// All bytes as memory, where the storage can map them and the reader wants that.
    fn mapped(&self) -> Option<&[u8]>;

    /// Whether no name leads to the file any more: its room comes back once nobody has it open.
    fn is_removed(&self) -> bool {
        false
    }

    /// Whether a byte is where reading it does not wait for a device, as far as is known.
    fn is_near(&self, _offset: u64) -> bool {
        true
    }

    /// Says that these bytes will be fetched soon: the storage may begin with them.
    fn announce(&self, _range: Range<u64>) {}

    /// Brings bytes near that are about to be read; waits for them.
    ///
    /// # Errors
    /// If the storage refuses.
    fn fetch(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
}

/// A file that nobody else sees yet.
pub trait NewFile: Debug + Send {
    /// Makes sure that there is room for `bytes` more.
    ///
    /// # Errors
    /// `NoSpace` if there is not.
    fn reserve(&mut self, bytes: u64) -> Result<()>;

    /// Appends bytes.
    ///
    /// # Errors
    /// If the storage refuses; the file must then be dropped.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the bytes durable; the last call before a name is given.
    ///
    /// # Errors
    /// If the storage cannot say that they are; the file must then be dropped.
    fn sync(&mut self) -> Result<()>;

    /// Gives the file a name that is not taken.
    ///
    /// # Errors
    /// If the storage refuses.
    fn publish(self: Box<Self>, path: &StorePath) -> Result<Published>;

    /// Gives the file a name, atomically in place of what had it: for tags, for what a power
    /// cut damaged, and for the manifest of a relaxed save that becomes durable.
    ///
    /// # Errors
    /// If the storage refuses.
    fn replace(self: Box<Self>, path: &StorePath) -> Result<()>;
}

/// What kernels read ahead of a reader, unless told otherwise: of a longer file they would fetch one
/// window after the other.
pub(crate) const READ_AHEAD_LEN: usize = 128 << 10;

/// Reads a whole small file, refusing one that is longer than `max`.
///
/// # Errors
/// `Limit` if it is longer, else as [`Disk::open`].
pub fn read_whole(disk: &dyn Disk, path: &StorePath, max: u64) -> Result<Vec<u8>> {
    let view = disk.open(path)?;
    let len = usize::try_from(view.len())
        .ok()
        .filter(|_| view.len() <= max)
        .ok_or_else(|| {
            crate::Error::new(
                crate::ErrorKind::Limit,
                "file-length",
                "a file is longer than it may be",
            )
            .file(path)
            .differs(format!("at most {max} bytes"), view.len())
        })?;
    let mut bytes = memory::zeros(view.len()).map_err(|e| e.file(path))?;
    if len > READ_AHEAD_LEN {
        view.announce(0..len as u64);
    }
    view.read_at(0, &mut bytes).map_err(|e| e.file(path))?;
    Ok(bytes)
}

/// Bytes of a file that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Appends a file's bytes to a new one.
///
/// # Errors
/// As [`FileView::read_at`] and [`NewFile::write`].
pub fn copy(view: &dyn FileView, file: &mut dyn NewFile) -> Result<()> {
    let mut piece = vec![0; COPIED_AT_ONCE];
    for offset in (0..view.len()).step_by(COPIED_AT_ONCE) {
        let len = (view.len() - offset).min(COPIED_AT_ONCE as u64);
        piece.truncate(usize::try_from(len).unwrap_or_default());
        view.read_at(offset, &mut piece)?;
        file.write(&piece)?;
    }
    Ok(())
}
