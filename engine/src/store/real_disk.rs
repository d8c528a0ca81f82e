//! The disk seam on a local or network file system, by system calls.
//!
//! Every name is resolved below the root and without following links, so a link or a FIFO
//! planted in a store is an error, never a way out of it or a hang.

use std::fs::File;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Error, ErrorKind, Result};
use crate::store::aligned::{ALIGN, AlignedBuffer};
use crate::store::disk::{Disk, Entry, EntryKind, FileView, Lock, LockMode, NewFile, Published};
use crate::store::map::Mapping;
use crate::store::path::{self, StorePath};

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

/// Bytes that are gathered before a write; larger than what a disk needs for full speed.
const BLOCK_LEN: usize = 4 << 20;
/// Bytes that are reserved ahead of a growing file.
const RESERVE_STEP: u64 = 64 << 20;

/// A folder of a mounted file system.
#[derive(Debug)]
pub struct RealDisk {
    root: Arc<OwnedFd>,
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
        #[expect(
            clippy::disallowed_methods,
            reason = "the folder that is to become the store's root"
        )]
        std::fs::create_dir_all(root).map_err(|e| Error::io("make the store's folder", e))?;
        // The root's own name must survive a power cut as well.
        if let Some(above) = root.canonicalize().ok().as_deref().and_then(Path::parent) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let above = fs::open(above, flags, Mode::empty())
                .map_err(|e| Error::io("open the folder above", e.into()))?;
            fs::fsync(&above).map_err(|e| Error::io("sync the folder above", e.into()))?;
        }
        Self::open(root, mode)
    }

    fn open_below(&self, path: &StorePath, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let text = if path.as_str().is_empty() {
            "."
        } else {
            path.as_str()
        };
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mode = if flags.contains(OFlags::CREATE) {
            Mode::from_raw_mode(0o644)
        } else {
            Mode::empty()
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match fs::openat2(&*self.root, text, flags, mode, resolve) {
            // Old kernels and some sandboxes lack the call; O_NOFOLLOW still guards the last part.
            Err(Errno::NOSYS | Errno::PERM) => fs::openat(&*self.root, text, flags, mode),
            done => done,
        }
    }
}

/// Whether mapping is safe and fast: not on network or user-space file systems.
fn is_local(root: &OwnedFd) -> bool {
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
    fs::fstatfs(root).is_ok_and(|s| LOCAL.contains(&s.f_type))
}

impl Disk for RealDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let fd = match self.open_below(folder, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed("list", folder, errno)),
        };
        let mut entries = Vec::new();
        for entry in fs::Dir::new(fd).map_err(|e| failed("list", folder, e))? {
            let entry = entry.map_err(|e| failed("list", folder, e))?;
            // A name that is no UTF-8 is none of ours.
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name == "." || name == ".." {
                continue;
            }
            let mut file_type = entry.file_type();
            if file_type == FileType::Unknown {
                let path = format!("{}/{name}", folder.as_str());
                let stat = fs::statat(
                    &*self.root,
                    path.trim_start_matches('/'),
                    AtFlags::SYMLINK_NOFOLLOW,
                );
                file_type = stat.map_or(FileType::Unknown, |s| FileType::from_raw_mode(s.st_mode));
            }
            let kind = match file_type {
                FileType::RegularFile => EntryKind::File,
                FileType::Directory => EntryKind::Folder,
                _ => EntryKind::Other,
            };
            entries.push(Entry {
                name: name.to_owned(),
                kind,
            });
        }
        Ok(entries)
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        let fd = self
            .open_below(path, OFlags::RDONLY)
            .map_err(|e| failed("open", path, e))?;
        let stat = fs::fstat(&fd).map_err(|e| failed("open", path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(
                Error::corrupt("file-type", "what lies here is no regular file").file(path),
            );
        }
        let file = File::from(fd);
        let len = u64::try_from(stat.st_size).unwrap_or_default();
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

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        let folder = path::folder(path::Folder::Txn);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE;
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = path::temporary(txn, number);
        let (fd, named) = match fs::openat(
            &*self.root,
            folder.as_str(),
            flags,
            Mode::from_raw_mode(0o444),
        ) {
            Ok(fd) => (fd, false),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let flags = OFlags::WRONLY
                    | OFlags::CLOEXEC
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW;
                let fd = fs::openat(
                    &*self.root,
                    name.as_str(),
                    flags,
                    Mode::from_raw_mode(0o444),
                )
                .map_err(|e| failed("create", &name, e))?;
                (fd, true)
            }
            Err(errno) => return Err(failed("create a file in", &folder, errno)),
        };
        Ok(Box::new(RealNewFile {
            root: Arc::clone(&self.root),
            file: File::from(fd),
            name,
            named,
            buffer: None,
            written: 0,
            reserved: 0,
            direct: Direct::Untried,
        }))
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        match fs::mkdirat(&*self.root, folder.as_str(), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("make the folder", folder, errno)),
        }
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        let fd = self
            .open_below(path, OFlags::RDONLY)
            .map_err(|e| failed("sync", path, e))?;
        fs::fsync(&fd).map_err(|e| failed("sync", path, e))
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        // Not followed: a symbolic link would be linked as it is.
        let (root, flags) = (&*self.root, AtFlags::empty());
        match fs::linkat(root, from.as_str(), root, to.as_str(), flags) {
            Ok(()) => Ok(Published::New),
            Err(Errno::EXIST) => Ok(Published::Exists),
            Err(errno) => Err(failed("link", from, errno)),
        }
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        match fs::unlinkat(&*self.root, path.as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("remove", path, errno)),
        }
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        let flags = OFlags::RDWR | OFlags::CREATE;
        let fd = self
            .open_below(path, flags)
            .map_err(|e| failed("lock", path, e))?;
        let file = File::from(fd);
        let taken = match mode {
            LockMode::Shared => file.try_lock_shared(),
            LockMode::Exclusive => file.try_lock(),
        };
        let taken = tried(taken).map_err(|e| Error::io("lock", e).file(path))?;
        Ok(taken.then(|| Box::new(RealLock { _file: file }) as Box<dyn Lock>))
    }

    fn boot_id(&self) -> [u8; 16] {
        *BOOT_ID
    }
}

/// What kernels read ahead at once, unless told otherwise.
const READ_AHEAD: usize = 128 << 10;

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

/// A kernel lock that lives as long as the open file.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl Lock for RealLock {}

#[derive(Debug)]
struct RealView {
    path: StorePath,
    file: File,
    len: u64,
    mapping: Option<Mapping>,
}

impl FileView for RealView {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(out, offset)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    Error::corrupt("truncated", "a file ends early")
                        .file(&self.path)
                        .offset(offset)
                        .differs(
                            format!("{} bytes", out.len()),
                            format!("a file of {}", self.len),
                        )
                }
                _ => Error::io("read", error).file(&self.path).offset(offset),
            })
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.mapping.as_ref().map(Mapping::bytes)
    }

    fn will_need(&self, range: Range<u64>) {
        // The kernel takes no more at once than its read-ahead window.
        for start in range.clone().step_by(READ_AHEAD) {
            let len = NonZeroU64::new((range.end - start).min(READ_AHEAD as u64));
            let _ = fs::fadvise(&self.file, start, len, fs::Advice::WillNeed);
        }
    }

    fn forget_cached(&self) {
        // Advice only: where the kernel does not take it, the bytes are read from memory.
        let _ = fs::fadvise(&self.file, 0, None, fs::Advice::DontNeed);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direct {
    Untried,
    On,
    Refused,
}

#[derive(Debug)]
struct RealNewFile {
    root: Arc<OwnedFd>,
    file: File,
    name: StorePath,
    named: bool,
    buffer: Option<AlignedBuffer>,
    written: u64,
    reserved: u64,
    direct: Direct,
}

impl RealNewFile {
    fn set_direct(&mut self, on: bool) -> std::result::Result<(), Errno> {
        let mut flags = fs::fcntl_getfl(&self.file)?;
        flags.set(OFlags::DIRECT, on);
        fs::fcntl_setfl(&self.file, flags)?;
        self.direct = if on { Direct::On } else { Direct::Refused };
        Ok(())
    }

    /// Writes the held block; full blocks go past the page cache where the file system can.
    fn flush(&mut self) -> Result<()> {
        let Some(buffer) = self.buffer.take() else {
            return Ok(());
        };
        let aligned = buffer.held().len() % ALIGN == 0;
        if aligned && self.direct == Direct::Untried && self.set_direct(true).is_err() {
            self.direct = Direct::Refused;
        }
        if !aligned && self.direct == Direct::On {
            self.set_direct(false)
                .map_err(|e| failed("write", &self.name, e))?;
        }
        let mut done = self.write_out(buffer.held());
        if done == Err(Errno::INVAL) && self.direct == Direct::On {
            self.set_direct(false)
                .map_err(|e| failed("write", &self.name, e))?;
            done = self.write_out(buffer.held());
        }
        done.map_err(|e| failed("write", &self.name, e))?;
        self.written += buffer.held().len() as u64;
        let mut buffer = buffer;
        buffer.clear();
        self.buffer = Some(buffer);
        Ok(())
    }

    /// Keeps a growing file in few extents; asks for no more than a block on a nearly full disk.
    fn reserve_ahead(&mut self) -> Result<()> {
        let block = BLOCK_LEN as u64;
        if self.reserved >= self.written + block {
            return Ok(());
        }
        self.reserve(RESERVE_STEP).or_else(|_| self.reserve(block))
    }

    fn write_out(&self, bytes: &[u8]) -> std::result::Result<(), Errno> {
        let mut rest = bytes;
        let mut at = self.written;
        while !rest.is_empty() {
            match rustix::io::pwrite(&self.file, rest, at) {
                Ok(0) => return Err(Errno::IO),
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn link_to(&self, path: &StorePath) -> std::result::Result<(), Errno> {
        if self.named {
            return fs::linkat(
                &*self.root,
                self.name.as_str(),
                &*self.root,
                path.as_str(),
                AtFlags::empty(),
            );
        }
        let own = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        fs::linkat(
            fs::CWD,
            own,
            &*self.root,
            path.as_str(),
            AtFlags::SYMLINK_FOLLOW,
        )
    }

    /// Writes what is held and gives back what was reserved and not used.
    fn finish(&mut self) -> Result<()> {
        self.flush()?;
        if self.reserved > self.written {
            fs::ftruncate(&self.file, self.written).map_err(|e| failed("write", &self.name, e))?;
            self.reserved = self.written;
        }
        Ok(())
    }
}

impl NewFile for RealNewFile {
    fn reserve(&mut self, bytes: u64) -> Result<()> {
        let needed = self.written + bytes;
        if needed <= self.reserved {
            return Ok(());
        }
        let target = needed.next_multiple_of(ALIGN as u64);
        let len = target - self.reserved;
        match fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.reserved, len) {
            Ok(()) => self.reserved = target,
            // Without the call, a full disk shows at the write instead.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(errno) => return Err(failed("reserve space", &self.name, errno)),
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let buffer = self
                .buffer
                .get_or_insert_with(|| AlignedBuffer::new(BLOCK_LEN));
            rest = buffer.fill(rest);
            if buffer.is_full() {
                self.reserve_ahead()?;
                self.flush()?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.finish()?;
        fs::fsync(&self.file).map_err(|e| failed("sync", &self.name, e))
    }

    fn publish(mut self: Box<Self>, path: &StorePath) -> Result<Published> {
        self.finish()?;
        match self.link_to(path) {
            Ok(()) => Ok(Published::New),
            Err(Errno::EXIST) => Ok(Published::Exists),
            Err(Errno::NOENT) if !Path::new("/proc/self/fd").exists() => Err(Error::new(
                ErrorKind::Io,
                "no-proc",
                "files cannot be given names without /proc",
            )
            .file(path)),
            Err(errno) => Err(failed("give a name to", path, errno)),
        }
    }

    fn replace(mut self: Box<Self>, path: &StorePath) -> Result<()> {
        self.finish()?;
        if !self.named {
            self.link_to(&self.name)
                .map_err(|e| failed("give a name to", &self.name, e))?;
            self.named = true;
        }
        fs::renameat(&*self.root, self.name.as_str(), &*self.root, path.as_str())
            .map_err(|e| failed("give a name to", path, e))?;
        self.named = false;
        Ok(())
    }
}

impl Drop for RealNewFile {
    fn drop(&mut self) {
        if self.named {
            // Best effort: the next writer removes what is left of a writer that is gone.
            let _ = fs::unlinkat(&*self.root, self.name.as_str(), AtFlags::empty());
        }
    }
}
