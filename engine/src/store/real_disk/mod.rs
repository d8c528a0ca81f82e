//! The disk seam on a local or network file system, by system calls.
//!
//! Every name is resolved below the root and without following links, so a link or a FIFO
//! planted in a store is an error, never a way out of it or a hang.

mod list;
mod new_file;
mod root;
mod view;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::store::disk::{Disk, Entry, FileView, Lock, LockMode, NewFile, Published};
use crate::store::map::Mapping;
use crate::store::path::{self, StorePath};
use new_file::RealNewFile;
use root::Root;
use view::{DirectView, RealView};

/// How bytes of packs are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReaderMode {
    /// By mapping on local file systems, by reading on network ones.
    #[default]
    Auto,
    /// By mapping.
    Mmap,
    /// By positioned reads into owned memory.
    Pread,
}

/// A folder of a mounted file system.
#[derive(Debug)]
pub struct RealDisk {
    root: Arc<Root>,
    map: bool,
    counter: Arc<AtomicU64>,
}

fn failed(action: &'static str, path: &StorePath, errno: Errno) -> Error {
    let error = Error::io(action, errno.into()).file(path);
    match errno {
        Errno::LOOP | Errno::XDEV => {
            Error::corrupt("link", "a link lies where a store's file should be").file(path)
        }
        Errno::ROFS | Errno::ACCESS | Errno::PERM => {
            error.hint("the store is not writable here; readers do not need it to be")
        }
        Errno::NOSPC | Errno::DQUOT => {
            error.hint("free space or drop old checkpoints, then save again")
        }
        _ => error,
    }
}

impl RealDisk {
    /// Opens an existing folder.
    ///
    /// # Errors
    /// `NotFound` if it is none.
    pub fn open(root: &Path, mode: ReaderMode) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty())
            .map_err(|e| Error::io("open the store's folder", e.into()))?;
        let root = Root::new(root);
        let map = match mode {
            ReaderMode::Mmap => true,
            ReaderMode::Pread => false,
            ReaderMode::Auto => is_local(&root),
        };
        Ok(Self {
            root: Arc::new(root),
            map,
            counter: Arc::default(),
        })
    }

    /// Makes the folder, and those above it, if there are none, and opens it.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn create(root: &Path, mode: ReaderMode) -> Result<Self> {
        let there = root.ancestors().skip(1).find(|above| above.is_dir());
        let existed = there.and_then(|above| above.canonicalize().ok());
        #[expect(
            clippy::disallowed_methods,
            reason = "the folder that is to become the store's root"
        )]
        std::fs::create_dir_all(root).map_err(|e| Error::io("make the store's folder", e))?;
        // The root's own name must survive a power cut as well, and those of folders made for it.
        let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
        for above in whole.ancestors().skip(1) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = fs::open(above, flags, Mode::empty())
                .map_err(|e| Error::io("open a folder above", e.into()))?;
            fs::fsync(&folder).map_err(|e| Error::io("sync a folder above", e.into()))?;
            if existed.as_deref().is_some_and(|there| there == above) {
                break;
            }
        }
        Self::open(root, mode)
    }

    /// A regular file and its length.
    fn open_file(&self, path: &StorePath, flags: OFlags) -> Result<(File, u64)> {
        let fd = self
            .root
            .open(path, OFlags::RDONLY | flags)
            .map_err(|e| failed("open", path, e))?;
        let stat = fs::fstat(&fd).map_err(|e| failed("open", path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(
                Error::corrupt("file-type", "what lies here is no regular file").file(path),
            );
        }
        let len = u64::try_from(stat.st_size).unwrap_or_default();
        Ok((File::from(fd), len))
    }
}

/// Whether mapping is safe and fast: not on network or user-space file systems.
fn is_local(root: &Root) -> bool {
    const LOCAL: [i64; 8] = [
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0x794c_7630, // overlayfs
        0xf2f5_2010, // f2fs
        0x2fc1_2fc1, // zfs
        0x8584_58f6, // ramfs
    ];
    fs::fstatfs(root.folder()).is_ok_and(|s| LOCAL.contains(&s.f_type))
}

impl Disk for RealDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let fd = match self.root.open(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed("list", folder, errno)),
        };
        let listed = fs::Dir::new(fd).and_then(list::list);
        listed.map_err(|e| failed("list", folder, e))
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        let (file, len) = self.open_file(path, OFlags::empty())?;
        // Some file systems cannot map; reading works everywhere.
        let mapping = if self.map {
            Mapping::new(&file, len).ok().flatten()
        } else {
            None
        };
        Ok(Arc::new(RealView {
            path: path.clone(),
            file,
            len,
            mapping,
        }))
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        if let Ok((file, len)) = self.open_file(path, OFlags::DIRECT) {
            return Ok(Arc::new(DirectView::new(path.clone(), file, len)));
        }
        let (file, len) = self.open_file(path, OFlags::empty())?;
        // The next best: advice, which the kernel takes unless somebody maps the file.
        let _ = fs::fadvise(&file, 0, None, fs::Advice::DontNeed);
        Ok(Arc::new(RealView {
            path: path.clone(),
            file,
            len,
            mapping: None,
        }))
    }

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = path::temporary(txn, number);
        let begin = |flags: OFlags, last: &str| {
            let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC;
            let folder = self.root.parent(&name)?;
            fs::openat(folder, last, flags, Mode::from_raw_mode(0o444))
        };
        let (fd, named) = match begin(OFlags::TMPFILE, ".") {
            Ok(fd) => (fd, false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                let fd = begin(flags, name.file_name()).map_err(|e| failed("create", &name, e))?;
                (fd, true)
            }
            Err(errno) => return Err(failed("create a file in", &name.parent(), errno)),
        };
        let (root, file) = (Arc::clone(&self.root), File::from(fd));
        Ok(Box::new(RealNewFile::new(root, file, name, named)))
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        let parent = self.root.parent(folder);
        match parent.and_then(|parent| fs::mkdirat(parent, folder.file_name(), mode)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("make the folder", folder, errno)),
        }
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        let fd = self
            .root
            .open(path, OFlags::RDONLY)
            .map_err(|e| failed("sync", path, e))?;
        fs::fsync(&fd).map_err(|e| failed("sync", path, e))
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        // Not followed: a symbolic link would be linked as it is.
        let link = || {
            let parents = (self.root.parent(from)?, self.root.parent(to)?);
            let names = (from.file_name(), to.file_name());
            fs::linkat(parents.0, names.0, parents.1, names.1, AtFlags::empty())
        };
        match link() {
            Ok(()) => Ok(Published::New),
            Err(Errno::EXIST) => Ok(Published::Exists),
            Err(errno) => Err(failed("link", from, errno)),
        }
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        let parent = self.root.parent(path);
        match parent.and_then(|parent| fs::unlinkat(parent, path.file_name(), AtFlags::empty())) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", path, errno)),
        }
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let fd = self
            .root
            .open(path, flags)
            .map_err(|e| failed("lock", path, e))?;
        let file = File::from(fd);
        let taken = match mode {
            LockMode::Shared => file.try_lock_shared(),
            LockMode::Exclusive => file.try_lock(),
        };
        let taken = tried(taken).map_err(|e| Error::io("lock", e).file(path))?;
        let owner = std::process::id();
        Ok(taken.then(|| Box::new(RealLock { file, owner }) as Box<dyn Lock>))
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = fs::fstatvfs(self.root.folder()).ok()?;
        // Some blocks are kept for root alone.
        let blocks = match rustix::process::geteuid().is_root() {
            true => stat.f_bfree,
            false => stat.f_bavail,
        };
        blocks.checked_mul(stat.f_frsize)
    }

    fn boot_id(&self) -> [u8; 16] {
        *BOOT_ID
    }
}

/// No process outlives its boot, and a listing asks thousands of times.
static BOOT_ID: LazyLock<[u8; 16]> = LazyLock::new(|| {
    #[expect(
        clippy::disallowed_methods,
        reason = "the kernel's own file, not the store's"
    )]
    let file = File::open("/proc/sys/kernel/random/boot_id");
    let mut text = [0; 36];
    let read = file.and_then(|f| f.read_exact_at(&mut text, 0));
    let mut id = [0; 16];
    if read.is_ok() {
        id.copy_from_slice(blake3::hash(&text).as_bytes().split_at(16).0);
    }
    id
});

fn tried(result: std::result::Result<(), std::fs::TryLockError>) -> std::io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(std::fs::TryLockError::WouldBlock) => Ok(false),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// A kernel lock. It belongs to the open file, which a process that is forked meanwhile has as
/// well: it is given up in so many words, and by the process that took it alone.
#[derive(Debug)]
struct RealLock {
    file: File,
    owner: u32,
}

impl Lock for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        if self.owner != std::process::id() {
            return;
        }
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "a lock is given up only when its file is closed");
        }
    }
}
