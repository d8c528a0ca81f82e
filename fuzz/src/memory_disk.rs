//! The disk seam in memory: fast, single-threaded use, nothing ever lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use milepost_engine::store::disk::{
    Disk, Entry, EntryKind, FileView, Lock, LockMode, NewFile, Published,
};
use milepost_engine::store::path::StorePath;
use milepost_engine::{Error, ErrorKind, Result};

/// Files by path.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// Files and folders in memory; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    files: Arc<Mutex<Files>>,
    /// Whether views offer their bytes as a mapping.
    pub maps: bool,
}

impl MemoryDisk {
    /// A disk that holds these files.
    #[must_use]
    pub fn new(files: Files, maps: bool) -> Self {
        Self {
            files: Arc::new(Mutex::new(files)),
            maps,
        }
    }

    /// Every file.
    #[must_use]
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for MemoryDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        let prefix = format!("{folder}/");
        let mut entries: Vec<Entry> = Vec::new();
        for rest in self.files().keys().filter_map(|p| p.strip_prefix(&prefix)) {
            let (name, kind) = match rest.split_once('/') {
                Some((name, _)) => (name, EntryKind::Folder),
                None => (rest, EntryKind::File),
            };
            if entries.last().is_none_or(|last| last.name != name) {
                let name = name.to_owned();
                entries.push(Entry { name, kind });
            }
        }
        Ok(entries)
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        let bytes = self.files().get(path.as_str()).cloned();
        let missing = || Error::new(ErrorKind::NotFound, "io", "cannot open").file(path);
        Ok(Arc::new(View {
            bytes: bytes.ok_or_else(missing)?,
            maps: self.maps,
        }))
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.open(path)
    }

    fn create(&self, _: u128) -> Result<Box<dyn NewFile>> {
        Ok(Box::new(New {
            disk: self.clone(),
            bytes: Vec::new(),
        }))
    }

    fn make_folder(&self, _: &StorePath) -> Result<()> {
        Ok(())
    }

    fn sync(&self, _: &StorePath) -> Result<()> {
        Ok(())
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        let mut files = self.files();
        let missing = || Error::new(ErrorKind::NotFound, "io", "cannot link").file(from);
        let bytes = files.get(from.as_str()).cloned().ok_or_else(missing)?;
        if files.contains_key(to.as_str()) {
            return Ok(Published::Exists);
        }
        files.insert(to.to_string(), bytes);
        Ok(Published::New)
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        self.files().remove(path.as_str());
        Ok(())
    }

    fn lock(&self, path: &StorePath, _: LockMode) -> Result<Option<Box<dyn Lock>>> {
        self.files().entry(path.to_string()).or_default();
        Ok(Some(Box::new(Held)))
    }

    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }
}

#[derive(Debug)]
struct Held;

impl Lock for Held {}

#[derive(Debug)]
struct View {
    bytes: Arc<Vec<u8>>,
    maps: bool,
}

impl FileView for View {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let found = self.bytes.get(start..).and_then(|b| b.get(..out.len()));
        let short = || Error::corrupt("truncated", "a file ends early").offset(offset);
        out.copy_from_slice(found.ok_or_else(short)?);
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        self.maps.then_some(&self.bytes)
    }
}

#[derive(Debug)]
struct New {
    disk: MemoryDisk,
    bytes: Vec<u8>,
}

impl NewFile for New {
    fn reserve(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn publish(self: Box<Self>, path: &StorePath) -> Result<Published> {
        let mut files = self.disk.files();
        if files.contains_key(path.as_str()) {
            return Ok(Published::Exists);
        }
        files.insert(path.to_string(), Arc::new(self.bytes.clone()));
        Ok(Published::New)
    }

    fn replace(self: Box<Self>, path: &StorePath) -> Result<()> {
        let bytes = Arc::new(self.bytes.clone());
        self.disk.files().insert(path.to_string(), bytes);
        Ok(())
    }
}
