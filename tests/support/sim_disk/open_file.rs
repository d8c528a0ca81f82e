//! Open files of a simulated machine: views of named ones, and new ones without a name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use milepost_engine::store::disk::{FileView, NewFile, Published};
use milepost_engine::store::path::{self, StorePath};
use milepost_engine::{Error, Result};

use super::inode::Inode;
use super::state::{InodeId, Node};
use super::{SimDisk, not_found};

/// A file open for reading.
#[derive(Debug)]
pub(super) struct SimView {
    path: StorePath,
    bytes: Arc<Vec<u8>>,
    maps: bool,
}

impl SimView {
    /// What readers see.
    pub(super) fn new(path: StorePath, inode: &Inode, maps: bool) -> Self {
        let bytes = Arc::clone(&inode.cache);
        Self { path, bytes, maps }
    }

    /// What the device has, once it has what waits to be written.
    pub(super) fn uncached(path: StorePath, inode: &Inode) -> Self {
        let bytes = inode.uncached();
        Self {
            path,
            bytes,
            maps: false,
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl FileView for SimView {
    fn len(&self) -> u64 {
        self.bytes().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.bytes().get(start..).and_then(|b| b.get(..out.len()));
        let early = || Error::corrupt("truncated", "a file ends early").file(&self.path);
        out.copy_from_slice(bytes.ok_or_else(early)?);
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.maps.then(|| self.bytes())
    }
}

/// A file that has no name yet.
#[derive(Debug)]
pub(super) struct SimNewFile {
    disk: SimDisk,
    id: InodeId,
    txn: u128,
}

/// Numbers temporaries over all machines: only their endings matter.
static TEMPORARIES: AtomicU64 = AtomicU64::new(0);

impl SimNewFile {
    pub(super) fn new(disk: SimDisk, id: InodeId, txn: u128) -> Self {
        Self { disk, id, txn }
    }
}

impl NewFile for SimNewFile {
    fn reserve(&mut self, _bytes: u64) -> Result<()> {
        self.disk.look(|_| Ok(()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        // In two halves: a crash may come in the middle of a write.
        let (head, tail) = bytes.split_at(bytes.len() / 2);
        for half in [head, tail].into_iter().filter(|half| !half.is_empty()) {
            self.disk.act(|inner| {
                inner.state.inode_mut(self.id).append(half);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.disk.act(|inner| inner.sync_inode(self.id))
    }

    fn publish(self: Box<Self>, path: &StorePath) -> Result<Published> {
        self.disk.act(|inner| {
            if inner.state.find(path.as_str()).is_some() {
                return Ok(Published::Exists);
            }
            match inner
                .state
                .set_name(path.as_str(), Some(Node::File(self.id)))
            {
                true => Ok(Published::New),
                false => Err(not_found("give a name to", path)),
            }
        })
    }

    /// As on a real disk, by a temporary name and a rename; what the rename does in either
    /// folder may survive without what it does in the other.
    fn replace(self: Box<Self>, path: &StorePath) -> Result<()> {
        let number = TEMPORARIES.fetch_add(1, Ordering::Relaxed) & 0xffff_ffff;
        let temporary = path::temporary(self.txn, number);
        let node = Some(Node::File(self.id));
        self.disk.act(
            |inner| match inner.state.set_name(temporary.as_str(), node) {
                true => Ok(()),
                false => Err(not_found("give a name to", &temporary)),
            },
        )?;
        self.disk.act(|inner| {
            if inner.state.find(temporary.as_str()) != node
                || !inner.state.set_name(path.as_str(), node)
            {
                return Err(not_found("give a name to", path));
            }
            inner.state.set_name(temporary.as_str(), None);
            Ok(())
        })
    }
}
