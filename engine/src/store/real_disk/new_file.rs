//! A file that is being written: past the page cache where the file system can, and without a
//! name until it is whole.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, FallocateFlags, OFlags};
use rustix::io::Errno;

use super::failed;
use super::root::Root;
use crate::error::{Error, ErrorKind, Result};
use crate::store::aligned::{ALIGN, AlignedBuffer};
use crate::store::disk::{NewFile, Published};
use crate::store::path::StorePath;

/// Bytes that are gathered before a write; larger than what a disk needs for full speed.
const BLOCK_LEN: usize = 4 << 20;
/// Bytes that are reserved ahead of a growing file.
const RESERVE_STEP: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direct {
    Untried,
    On,
    Refused,
}

#[derive(Debug)]
pub(super) struct RealNewFile {
    root: Arc<Root>,
    file: File,
    name: StorePath,
    named: bool,
    buffer: Option<AlignedBuffer>,
    written: u64,
    reserved: u64,
    direct: Direct,
}

impl RealNewFile {
    /// A file that was just made; `named` says whether it has the temporary name already.
    pub(super) fn new(root: Arc<Root>, file: File, name: StorePath, named: bool) -> Self {
        Self {
            root,
            file,
            name,
            named,
            buffer: None,
            written: 0,
            reserved: 0,
            direct: Direct::Untried,
        }
    }

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
        let (parent, name) = (self.root.parent(path)?, path.file_name());
        if self.named {
            let own = self.root.parent(&self.name)?;
            return fs::linkat(own, self.name.file_name(), parent, name, AtFlags::empty());
        }
        let own = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
        fs::linkat(fs::CWD, own, parent, name, AtFlags::SYMLINK_FOLLOW)
    }

    fn rename_to(&self, path: &StorePath) -> std::result::Result<(), Errno> {
        let (own, parent) = (self.root.parent(&self.name)?, self.root.parent(path)?);
        fs::renameat(own, self.name.file_name(), parent, path.file_name())
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
        self.rename_to(path)
            .map_err(|e| failed("give a name to", path, e))?;
        self.named = false;
        Ok(())
    }
}

impl Drop for RealNewFile {
    fn drop(&mut self) {
        if self.named {
            // Best effort: the next writer removes what is left of a writer that is gone.
            let own = self.root.parent(&self.name);
            let _ = own.and_then(|own| fs::unlinkat(own, self.name.file_name(), AtFlags::empty()));
        }
    }
}
