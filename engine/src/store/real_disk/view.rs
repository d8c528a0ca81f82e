//! Named files, open for reading: mapped or read, or read past the page cache.

use std::fs::File;
use std::io::IoSliceMut;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use rustix::fs;
use rustix::io::{self, Errno, ReadWriteFlags};

use crate::error::{Error, Result};
use crate::store::aligned::{ALIGN, AlignedBuffer};
use crate::store::disk::{FileView, READ_AHEAD_LEN};
use crate::store::map::Mapping;
use crate::store::path::StorePath;

/// Bytes that are read at once to bring them into the page cache: enough for the kernel to read on
/// in large folios, and no more than stays in a core's cache.
const FETCHED_AT_ONCE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct RealView {
    pub(super) path: StorePath,
    pub(super) file: File,
    pub(super) len: u64,
    pub(super) mapping: Option<Mapping>,
}

impl FileView for RealView {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(out, offset);
        read.map_err(|e| failed_read(e, &self.path, offset, out.len(), self.len))
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.mapping.as_ref().map(Mapping::bytes)
    }

    fn is_removed(&self) -> bool {
        has_no_name(&self.file)
    }

    fn is_near(&self, offset: u64) -> bool {
        let mut byte = [0];
        let bytes = &mut [IoSliceMut::new(&mut byte)];
        let asked = io::preadv2(&self.file, bytes, offset, ReadWriteFlags::NOWAIT);
        // A file system that cannot be asked may have no page cache to fetch into.
        asked != Err(Errno::AGAIN)
    }

    fn announce(&self, range: Range<u64>) {
        // The kernel takes no more at once than its read-ahead window.
        for start in range.clone().step_by(READ_AHEAD_LEN) {
            let len = NonZeroU64::new((range.end - start).min(READ_AHEAD_LEN as u64));
            let _ = fs::fadvise(&self.file, start, len, fs::Advice::WillNeed);
        }
    }

    fn fetch(&self, range: Range<u64>) -> Result<()> {
        let mut buffer = Vec::new();
        for start in range.clone().step_by(FETCHED_AT_ONCE) {
            let len = (range.end - start).min(FETCHED_AT_ONCE as u64);
            buffer.resize(usize::try_from(len).unwrap_or_default(), 0);
            let read = self.file.read_at(&mut buffer, start);
            read.map_err(|e| failed_read(e, &self.path, start, buffer.len(), self.len))?;
        }
        Ok(())
    }
}

/// Says which file ended early, or what the system said.
fn failed_read(
    error: std::io::Error,
    path: &StorePath,
    offset: u64,
    wanted: usize,
    len: u64,
) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::corrupt("truncated", "a file ends early")
            .file(path)
            .offset(offset)
            .differs(format!("{wanted} bytes"), format!("a file of {len}")),
        _ => Error::io("read", error).file(path).offset(offset),
    }
}

/// Bytes that are read from the device at once.
const WINDOW: usize = 1 << 20;

/// A file that was opened for direct reading: what comes back is what the device has, whatever
/// the page cache shows, and whoever maps it.
#[derive(Debug)]
pub(super) struct DirectView {
    path: StorePath,
    file: File,
    len: u64,
    /// The last window that was read, and where it starts.
    window: Mutex<(u64, AlignedBuffer)>,
}

impl DirectView {
    pub(super) fn new(path: StorePath, file: File, len: u64) -> Self {
        let window = Mutex::new((0, AlignedBuffer::new(WINDOW)));
        Self {
            path,
            file,
            len,
            window,
        }
    }
}

impl FileView for DirectView {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut held = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut at, mut rest) = (offset, out);
        let wanted = rest.len();
        while !rest.is_empty() {
            let (start, buffer) = &mut *held;
            let end = *start + buffer.held().len() as u64;
            if !(*start..end).contains(&at) {
                *start = at - at % ALIGN as u64;
                let read = buffer.fill_from(|room| self.file.read_at(room, *start));
                read.map_err(|e| failed_read(e, &self.path, offset, wanted, self.len))?;
            }
            let skip = usize::try_from(at - *start).unwrap_or(usize::MAX);
            let there = buffer.held().get(skip..).unwrap_or_default();
            if there.is_empty() {
                let early = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(failed_read(early, &self.path, offset, wanted, self.len));
            }
            let count = there.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(there.get(..count).unwrap_or_default());
            at += count as u64;
            rest = later;
        }
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        None
    }

    fn is_removed(&self) -> bool {
        has_no_name(&self.file)
    }
}

/// Whether the last name of a file was removed. A file system that cannot tell says no.
fn has_no_name(file: &File) -> bool {
    fs::fstat(file).is_ok_and(|stat| stat.st_nlink == 0)
}
