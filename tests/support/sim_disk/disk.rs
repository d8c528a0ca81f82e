//! The verbs of a simulated disk.

use std::sync::Arc;

use milepost_engine::store::disk::{
    Disk, Entry, EntryKind, FileView, Lock, LockMode, NewFile, Published,
};
use milepost_engine::store::path::StorePath;
use milepost_engine::{Error, Result};

use super::open_file::{SimNewFile, SimView};
use super::state::Node;
use super::{SimDisk, lock, not_found, system_error};

impl Disk for SimDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.look(|inner| match inner.state.find(folder.as_str()) {
            None => Ok(Vec::new()),
            Some(Node::Folder(id)) => Ok(inner.state.names(id).map(entry).collect()),
            Some(_) => Err(system_error("list", 20).file(folder)),
        })
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.look(|inner| match inner.state.find(path.as_str()) {
            None => Err(not_found("open", path)),
            Some(Node::File(id)) => {
                let view = SimView::new(path.clone(), inner.state.inode(id), self.maps);
                Ok(Arc::new(view) as Arc<dyn FileView>)
            }
            Some(_) => Err(Error::corrupt("file-type", "this is no regular file").file(path)),
        })
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.look(|inner| match inner.state.find(path.as_str()) {
            None => Err(not_found("open", path)),
            Some(Node::File(id)) => {
                let view = SimView::uncached(path.clone(), inner.state.inode(id));
                Ok(Arc::new(view) as Arc<dyn FileView>)
            }
            Some(_) => Err(Error::corrupt("file-type", "this is no regular file").file(path)),
        })
    }

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        let id = self.act(|inner| Ok(inner.state.add_inode()))?;
        Ok(Box::new(SimNewFile::new(self.clone(), id, txn)))
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        self.act(|inner| {
            if inner.state.find(folder.as_str()).is_some() {
                return Ok(());
            }
            let node = inner.state.add_folder();
            match inner.state.set_name(folder.as_str(), Some(node)) {
                true => Ok(()),
                false => Err(not_found("make the folder", folder)),
            }
        })
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        self.act(|inner| match inner.state.find(path.as_str()) {
            Some(Node::Folder(id)) => {
                if inner.sync_fails() {
                    return Err(system_error("sync", 5).file(path));
                }
                inner.state.sync_folder(id);
                Ok(())
            }
            Some(Node::File(id)) => inner.sync_inode(id).map_err(|e| e.file(path)),
            Some(Node::Other) => Err(system_error("sync", 22).file(path)),
            None => Err(not_found("sync", path)),
        })
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        self.act(|inner| {
            let Some(Node::File(id)) = inner.state.find(from.as_str()) else {
                return Err(not_found("link", from));
            };
            if inner.state.find(to.as_str()).is_some() {
                return Ok(Published::Exists);
            }
            match inner.state.set_name(to.as_str(), Some(Node::File(id))) {
                true => Ok(Published::New),
                false => Err(not_found("link", to)),
            }
        })
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        self.act(|inner| match inner.state.find(path.as_str()) {
            Some(Node::Folder(_)) => Err(system_error("remove", 21).file(path)),
            Some(_) => {
                inner.state.set_name(path.as_str(), None);
                Ok(())
            }
            None => Ok(()),
        })
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        let id = self.act(|inner| match inner.state.find(path.as_str()) {
            Some(Node::File(id)) => Ok(id),
            Some(_) => Err(system_error("lock", 21).file(path)),
            None => {
                let id = inner.state.add_inode();
                match inner.state.set_name(path.as_str(), Some(Node::File(id))) {
                    true => Ok(id),
                    false => Err(not_found("lock", path)),
                }
            }
        })?;
        Ok(lock::take(&self.machine, id, mode))
    }

    fn boot_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        let boot = self.machine.inner().state.boot;
        id[..8].copy_from_slice(&boot.to_le_bytes());
        id
    }
}

fn entry((name, node): (&str, Node)) -> Entry {
    Entry {
        name: name.to_owned(),
        kind: match node {
            Node::File(_) => EntryKind::File,
            Node::Folder(_) => EntryKind::Folder,
            Node::Other => EntryKind::Other,
        },
    }
}
