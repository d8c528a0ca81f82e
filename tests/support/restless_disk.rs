//! A disk on which others are at work: something happens before a pack is opened, and what is
//! opened may be seen another way.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use milepost_engine::Result;
use milepost_engine::store::disk::{Disk, Entry, FileView, Lock, LockMode, NewFile, Published};
use milepost_engine::store::path::StorePath;

/// Is told how many packs were opened before.
type Meanwhile = Box<dyn Fn(u64) + Send + Sync>;
/// Puts another view in place of one that was opened.
type See = Box<dyn Fn(&StorePath, Arc<dyn FileView>) -> Arc<dyn FileView> + Send + Sync>;

/// Passes everything on to another disk.
pub(crate) struct RestlessDisk {
    disk: Arc<dyn Disk>,
    opened: AtomicU64,
    /// What was opened and may be open still.
    views: Mutex<Vec<Weak<dyn FileView>>>,
    most: AtomicUsize,
    meanwhile: Meanwhile,
    see: See,
}

impl RestlessDisk {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        meanwhile: impl Fn(u64) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Self::seen(disk, meanwhile, |_, view| view)
    }

    /// One of which whatever is opened is seen through another view.
    pub(crate) fn seen(
        disk: Arc<dyn Disk>,
        meanwhile: impl Fn(u64) + Send + Sync + 'static,
        see: impl Fn(&StorePath, Arc<dyn FileView>) -> Arc<dyn FileView> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            opened: AtomicU64::new(0),
            views: Mutex::default(),
            most: AtomicUsize::new(0),
            meanwhile: Box::new(meanwhile),
            see: Box::new(see),
        })
    }

    /// How often a pack was opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The most packs that were open at once.
    pub(crate) fn most_open(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn noted(&self, path: &StorePath, view: Arc<dyn FileView>) -> Arc<dyn FileView> {
        let view = (self.see)(path, view);
        if path.as_str().starts_with("packs/") {
            let mut views = self.views.lock().unwrap();
            views.retain(|view| view.strong_count() > 0);
            views.push(Arc::downgrade(&view));
            self.most.fetch_max(views.len(), Ordering::Relaxed);
        }
        view
    }

    fn before_open(&self, path: &StorePath) {
        if path.as_str().starts_with("packs/") {
            (self.meanwhile)(self.opened.fetch_add(1, Ordering::Relaxed));
        }
    }
}

impl fmt::Debug for RestlessDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RestlessDisk").field(&self.disk).finish()
    }
}

impl Disk for RestlessDisk {
    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.disk.list(folder)
    }

    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.before_open(path);
        Ok(self.noted(path, self.disk.open(path)?))
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.before_open(path);
        Ok(self.noted(path, self.disk.open_uncached(path)?))
    }

    fn create(&self, txn: u128) -> Result<Box<dyn NewFile>> {
        self.disk.create(txn)
    }

    fn make_folder(&self, folder: &StorePath) -> Result<()> {
        self.disk.make_folder(folder)
    }

    fn sync(&self, path: &StorePath) -> Result<()> {
        self.disk.sync(path)
    }

    fn link(&self, from: &StorePath, to: &StorePath) -> Result<Published> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &StorePath) -> Result<()> {
        self.disk.remove(path)
    }

    fn lock(&self, path: &StorePath, mode: LockMode) -> Result<Option<Box<dyn Lock>>> {
        self.disk.lock(path, mode)
    }

    /// That of a machine which was started anew: it is not known what a relaxed save left.
    fn boot_id(&self) -> [u8; 16] {
        [0xb0; 16]
    }
}
