//! Disks that break the commit protocol on purpose, one step each: the crash tests must catch
//! every one of them.

use std::sync::{Arc, Mutex};

use milepost_engine::Result;
use milepost_engine::store::disk::{Disk, Entry, FileView, Lock, LockMode, NewFile, Published};
use milepost_engine::store::path::{self, StorePath};

use crate::support::sim_disk::SimDisk;

/// What a path is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Root,
    Format,
    Packs,
    PackFolder,
    Pack,
    Runs,
    RunFolder,
    Manifest,
    Tags,
    Tag,
    Other,
}

impl Part {
    fn of(path: &StorePath) -> Self {
        let parts: Vec<&str> = path.as_str().split('/').filter(|p| !p.is_empty()).collect();
        match parts.as_slice() {
            [] => Self::Root,
            ["FORMAT"] => Self::Format,
            ["packs"] => Self::Packs,
            ["packs", _] => Self::PackFolder,
            ["packs", _, _] => Self::Pack,
            ["runs"] => Self::Runs,
            ["runs", _] => Self::RunFolder,
            ["runs", _, _] => Self::Manifest,
            ["tags"] => Self::Tags,
            ["tags", _] => Self::Tag,
            _ => Self::Other,
        }
    }
}

/// The step that is done wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None: the disk as it is.
    None,
    /// A new file gets its name, but its bytes are never synced.
    NoFileSync(Part),
    /// Syncing a folder does nothing.
    NoFolderSync(Part),
    /// Syncing a folder is put off to the writer's next transaction.
    LateFolderSync(Part),
    /// Syncing a file that has its name already does nothing.
    NoSyncOfNamed(Part),
    /// A new file is synced after it got its name.
    NameBeforeSync(Part),
    /// Packs get their names only after the manifest that needs them.
    ManifestBeforePack,
    /// A pack is written under its final name, and never synced.
    PackInPlace,
    /// A name that is taken is given to the new file.
    PublishReplaces(Part),
    /// A tag is removed before the new one takes its name.
    RemoveBeforeReplace,
    /// A sync that failed is said to have worked.
    SwallowFailedSync,
    /// The boot id stays over a crash.
    BootIdStays,
    /// Nothing is ever removed.
    NothingRemoved,
    /// Locks are always free.
    LocksDoNotExclude,
}

/// A file, the name that it is to get, and its bytes.
type Waiting = (Box<dyn NewFile>, StorePath, Arc<Vec<u8>>);

#[derive(Debug)]
struct Shared {
    disk: Arc<SimDisk>,
    fault: Fault,
    /// Packs that wait for their names.
    waiting: Mutex<Vec<Waiting>>,
    late: Mutex<Option<StorePath>>,
}

/// A disk with a fault.
#[derive(Clone, Debug)]
pub(crate) struct BrokenDisk(Arc<Shared>);

impl BrokenDisk {
    pub(crate) fn over(disk: Arc<SimDisk>, fault: Fault) -> Arc<dyn Disk> {
        if fault == Fault::None {
            return disk;
        }
        Arc::new(Self(Arc::new(Shared {
            disk,
            fault,
            waiting: Mutex::default(),
            late: Mutex::default(),
        })))
    }

    fn sync_late(&self) -> Result<()> {
        let late = self.0.late.lock().unwrap().take();
        late.map_or(Ok(()), |path| self.0.disk.sync(&path))
    }

    /// Gives waiting packs their names, durably.
    fn name_waiting(&self) -> Result<()> {
        for (file, path, _) in std::mem::take(&mut *self.0.waiting.lock().unwrap()) {
            file.publish(&path)?;
            self.0.disk.sync(&path.parent())?;
            self.0.disk.sync(&path.parent().parent())?;
        }
        Ok(())
    }

    fn waiting_bytes(&self, path: &StorePath) -> Option<Arc<Vec<u8>>> {
        let waiting = self.0.waiting.lock().unwrap();
        let found = waiting.iter().find(|(_, waits, _)| waits == path);
        found.map(|(_, _, bytes)| Arc::clone(bytes))
    }
}

impl Disk for BrokenDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.0.disk.list(folder)
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        match self.waiting_bytes(path) {
            Some(bytes) => Ok(Arc::new(Memory(bytes))),
            None => self.0.disk.open(path),
        }
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        match self.waiting_bytes(path) {
            Some(bytes) => Ok(Arc::new(Memory(bytes))),
            None => self.0.disk.open_uncached(path),
        }
    }

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        Ok(Box::new(BrokenFile {
            inner: self.0.disk.create(txn)?,
            disk: self.clone(),
            txn,
            bytes: Vec::new(),
            to_sync: false,
        }))
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        self.0.disk.make_folder(folder)
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        let part = Part::of(path);
        match self.0.fault {
            Fault::NoFolderSync(skipped) | Fault::NoSyncOfNamed(skipped) if skipped == part => {
                Ok(())
            }
            Fault::LateFolderSync(late) if late == part => {
                self.sync_late()?;
                *self.0.late.lock().unwrap() = Some(path.clone());
                Ok(())
            }
            Fault::SwallowFailedSync => self.0.disk.sync(path).or(Ok(())),
            Fault::ManifestBeforePack => {
                if self.waiting_bytes(path).is_some() {
                    return Ok(());
                }
                // A folder of packs is synced when its packs have names.
                if matches!(part, Part::PackFolder | Part::Packs) {
                    return Ok(());
                }
                self.0.disk.sync(path)?;
                match part {
                    Part::RunFolder => self.name_waiting(),
                    _ => Ok(()),
                }
            }
            _ => self.0.disk.sync(path),
        }
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        self.0.disk.link(from, to)
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        match self.0.fault {
            Fault::NothingRemoved => Ok(()),
            _ => self.0.disk.remove(path),
        }
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        if *path == path::gate() {
            self.sync_late()?;
        }
        if self.0.fault == Fault::LocksDoNotExclude {
            // The file is made all the same, and the real lock is let go at once.
            self.0.disk.lock(path, mode)?;
            return Ok(Some(Box::new(NoLock)));
        }
        self.0.disk.lock(path, mode)
    }

    fn boot_id(&self) -> [u8; 16] {
        match self.0.fault {
            Fault::BootIdStays => [7; 16],
            _ => self.0.disk.boot_id(),
        }
    }
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

#[derive(Debug)]
struct Memory(Arc<Vec<u8>>);

impl FileView for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0[start..start + out.len()]);
        Ok(())
    }

    fn mapped(&self) -> Option<&[u8]> {
        Some(&self.0)
    }
}

#[derive(Debug)]
struct BrokenFile {
    inner: Box<dyn NewFile>,
    disk: BrokenDisk,
    txn: u128,
    bytes: Vec<u8>,
    /// What a sync is to cover is known only when the file gets its name.
    to_sync: bool,
}

impl BrokenFile {
    fn sync_now(&mut self) -> Result<()> {
        match (self.to_sync, self.disk.0.fault) {
            (false, _) => Ok(()),
            (true, Fault::SwallowFailedSync) => self.inner.sync().or(Ok(())),
            (true, _) => self.inner.sync(),
        }
    }

    fn in_place(self, path: &StorePath) -> Result<Published> {
        let sim = &self.disk.0.disk;
        let published = sim.create(self.txn)?.publish(path)?;
        if published == Published::New {
            for piece in self.bytes.chunks(1500) {
                sim.machine().append_in_place(path, piece);
            }
        }
        Ok(published)
    }
}

impl NewFile for BrokenFile {
    fn reserve(&mut self, bytes: u64) -> Result<()> {
        self.inner.reserve(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.inner.write(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.to_sync = true;
        Ok(())
    }

    fn publish(mut self: Box<Self>, path: &StorePath) -> Result<Published> {
        let part = Part::of(path);
        match self.disk.0.fault {
            Fault::NoFileSync(skipped) if skipped == part => self.inner.publish(path),
            Fault::NameBeforeSync(early) if early == part => {
                let (to_sync, disk) = (self.to_sync, self.disk.clone());
                let published = self.inner.publish(path)?;
                if to_sync {
                    disk.0.disk.sync(path)?;
                }
                Ok(published)
            }
            Fault::ManifestBeforePack if part == Part::Pack => {
                self.sync_now()?;
                let bytes = Arc::new(self.bytes);
                let mut waiting = self.disk.0.waiting.lock().unwrap();
                waiting.push((self.inner, path.clone(), bytes));
                Ok(Published::New)
            }
            Fault::ManifestBeforePack if part == Part::Manifest && !self.to_sync => {
                let disk = self.disk.clone();
                let published = self.inner.publish(path)?;
                disk.name_waiting()?;
                Ok(published)
            }
            Fault::PackInPlace if part == Part::Pack => self.in_place(path),
            Fault::PublishReplaces(replaced) if replaced == part => {
                self.sync_now()?;
                self.inner.replace(path)?;
                Ok(Published::New)
            }
            _ => {
                self.sync_now()?;
                self.inner.publish(path)
            }
        }
    }

    fn replace(mut self: Box<Self>, path: &StorePath) -> Result<()> {
        match self.disk.0.fault {
            Fault::NoFileSync(skipped) if skipped == Part::of(path) => self.inner.replace(path),
            Fault::RemoveBeforeReplace => {
                self.sync_now()?;
                self.disk.0.disk.remove(path)?;
                self.inner.publish(path)?;
                Ok(())
            }
            _ => {
                self.sync_now()?;
                self.inner.replace(path)
            }
        }
    }
}
