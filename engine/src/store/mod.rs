//! The only code that touches storage: packs, manifests, tags, locks and caches as files.
//!
//! Knows no tensor and no codec beyond decompressing a manifest's sections.

mod aligned;
pub(crate) mod base_cache;
pub(crate) mod cache;
pub(crate) mod catalog;
pub mod disk;
pub(crate) mod history;
mod map;
pub(crate) mod pack_file;
pub mod path;
pub(crate) mod real_disk;
pub(crate) mod tags;
pub(crate) mod trash;
pub(crate) mod txn;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::format::limits;
use crate::format::store_file::StoreSettings;
use crate::id::CheckpointId;
use crate::restore::decode::Decoder;
use crate::store::base_cache::BaseCache;
use crate::store::catalog::Catalog;
use crate::store::disk::{Disk, Published, read_whole};
use crate::store::history::{History, Listing};
use crate::store::path::Folder;
use crate::store::real_disk::{ReaderMode, RealDisk};
use crate::store::txn::Transaction;

/// How this process uses a store; nothing of it is stored.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Threads that encode and decode; 0 for one each core.
    pub threads: usize,
    /// Bytes of raw chunks kept between saves, so that the next save need not decode its base.
    pub cache_bytes: u64,
    /// How packs are read.
    pub reader: ReaderMode,
    /// Milliseconds since 1970; only shown to people and used to tell which run is newest.
    pub clock: fn() -> u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            cache_bytes: 512 << 20,
            reader: ReaderMode::Auto,
            clock: system_clock,
        }
    }
}

fn system_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// A store, open in this process. Cheap to clone; clones share caches.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) settings: StoreSettings,
    writable: bool,
    pub(crate) options: StoreOptions,
    pub(crate) catalog: Catalog,
    pub(crate) history: History,
    pub(crate) bases: Mutex<BaseCache>,
    decoders: Mutex<Vec<Decoder>>,
    /// Held while a reader looks for records that are no longer where its plan says.
    pub(crate) looking: Mutex<()>,
    /// Whether this process knows that the names in the root are durable.
    root_synced: AtomicBool,
    pool: OnceLock<rayon::ThreadPool>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("disk", &self.0.disk)
            .field("settings", &self.0.settings)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Makes a new, empty store in a folder, which is made if there is none.
    ///
    /// # Errors
    /// `Conflict` if there is a store already; `InvalidInput` if a setting is out of range.
    pub fn create(root: &Path, settings: StoreSettings, options: StoreOptions) -> Result<Self> {
        Self::create_on(
            Arc::new(RealDisk::create(root, options.reader)?),
            settings,
            options,
        )
    }

    /// Opens the store in a folder. Nothing is written, so a read-only mount will do.
    ///
    /// # Errors
    /// `NotFound` if there is no store, `Corrupt` or `Unsupported` if it cannot be read.
    pub fn open(root: &Path, options: StoreOptions) -> Result<Self> {
        let disk = RealDisk::open(root, options.reader).map_err(|e| match e.kind() {
            ErrorKind::NotFound => no_store(),
            _ => e,
        })?;
        Self::open_on(Arc::new(disk), options)
    }

    /// As [`Store::create`], on any storage.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn create_on(
        disk: Arc<dyn Disk>,
        mut settings: StoreSettings,
        options: StoreOptions,
    ) -> Result<Self> {
        if settings.uuid == [0; 16] {
            settings.uuid = txn::random_bytes()?;
        }
        let bytes = settings.encode()?;
        for folder in Folder::ALL {
            disk.make_folder(&path::folder(folder))?;
        }
        disk.sync(&path::root())?;
        let txn = Transaction::begin(&disk)?;
        let mut file = disk.create(txn.id)?;
        file.write(&bytes)?;
        file.sync()?;
        if file.publish(&path::format_file())? == Published::Exists {
            return Err(Error::new(
                ErrorKind::Conflict,
                "store-exists",
                "there is a store here already",
            )
            .hint("open it, or choose another folder"));
        }
        disk.sync(&path::root())?;
        drop(txn);
        let store = Self::open_on(disk, options)?;
        store.0.root_synced.store(true, Ordering::Relaxed);
        Ok(store)
    }

    /// As [`Store::open`], on any storage.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self> {
        let path = path::format_file();
        let file =
            read_whole(&*disk, &path, limits::SMALL_FILE_LEN_MAX).map_err(|e| match e.kind() {
                ErrorKind::NotFound => no_store(),
                _ => e,
            })?;
        let (settings, writable) = StoreSettings::decode(&file).map_err(|e| e.file(&path))?;
        Ok(Self(Arc::new(Inner {
            disk,
            settings,
            writable,
            bases: Mutex::new(BaseCache::new(options.cache_bytes)),
            options,
            catalog: Catalog::default(),
            history: History::default(),
            decoders: Mutex::default(),
            looking: Mutex::default(),
            root_synced: AtomicBool::new(false),
            pool: OnceLock::new(),
        })))
    }

    /// What was fixed when the store was made.
    #[must_use]
    pub fn settings(&self) -> &StoreSettings {
        &self.0.settings
    }

    /// The runs that have a checkpoint, sorted by name.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn runs(&self) -> Result<Vec<String>> {
        let mut runs: Vec<String> = history::all_places(&*self.0.disk)?
            .into_iter()
            .map(|place| place.run)
            .collect();
        runs.dedup();
        Ok(runs)
    }

    /// Every checkpoint of a run, or of all runs, in the order of their saves.
    ///
    /// # Errors
    /// If the storage refuses; damaged manifests are part of the listing.
    pub fn list(&self, run: Option<&str>) -> Result<Listing> {
        let disk = &*self.0.disk;
        let places = run.map_or_else(
            || history::all_places(disk),
            |run| history::places(disk, run),
        )?;
        self.0.history.summaries(disk, places)
    }

    /// Every tag and the checkpoint it names.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn tags(&self) -> Result<BTreeMap<String, CheckpointId>> {
        tags::list(&*self.0.disk)
    }

    /// Names a checkpoint; a tag of that name is moved. Durable when it returns.
    ///
    /// # Errors
    /// `InvalidInput` if the name is not allowed, `NotFound` if there is no such checkpoint.
    pub fn tag(&self, name: &str, id: &CheckpointId) -> Result<()> {
        path::tag(name)?;
        let txn = self.begin()?;
        let place = self.checkpoint_by_id(id)?.place();
        // While it is held, nobody can drop the checkpoint.
        let run = path::run_lock(&place.run)?;
        let _ordered = txn::wait_for(&*self.0.disk, &run, disk::LockMode::Exclusive)?;
        self.checkpoint_at(&place)?;
        tags::write(&*self.0.disk, txn.id, name, id)
    }

    /// Removes a tag. Durable when it returns.
    ///
    /// # Errors
    /// `NotFound` if there is no such tag.
    pub fn untag(&self, name: &str) -> Result<()> {
        let _txn = self.begin()?;
        tags::remove(&*self.0.disk, name)
    }

    /// Bytes that the store's files take, and how many packs there are.
    ///
    /// # Errors
    /// If the storage refuses.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let disk = &*self.0.disk;
        let mut usage = DiskUsage::default();
        for id in catalog::list_packs(disk)? {
            usage.packs += 1;
            usage.pack_bytes += disk.open(&path::pack(&id))?.len();
        }
        for summary in self.list(None)?.checkpoints {
            usage.manifest_bytes += summary.manifest_len;
        }
        let tags = self.tags()?;
        for file in tags
            .keys()
            .map(|t| path::tag(t))
            .chain([Ok(path::format_file())])
        {
            usage.other_bytes += disk.open(&file?)?.len();
        }
        for (_, len) in trash::list(disk)? {
            usage.trash_bytes += len;
        }
        for entry in disk.list(&path::folder(Folder::Cache))? {
            for kind in [cache::INDEXES, cache::SUMMARIES] {
                if let Some(path) = path::parse_cache(kind, &entry.name) {
                    usage.other_bytes += disk.open(&path)?.len();
                }
            }
        }
        Ok(usage)
    }

    /// Starts a transaction, if this version may write to the store.
    pub(crate) fn begin(&self) -> Result<Transaction> {
        self.require_writable()?;
        let txn = Transaction::begin(&self.0.disk)?;
        // What a collector removed before this transaction, it must not rely on.
        if self.0.catalog.lacks_a_pack(&*self.0.disk)? {
            self.forget_packs();
        }
        Ok(txn)
    }

    /// Holds that this version may write to the store and that the store has its name for good.
    pub(crate) fn require_writable(&self) -> Result<()> {
        if !self.0.writable {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "writer-flags",
                "the store needs a newer milepost to be written; reading works",
            )
            .hint("upgrade milepost"));
        }
        // Who made the store may have died before it made the name of its FORMAT durable;
        // without that, nothing saved here would be.
        if !self.0.root_synced.load(Ordering::Relaxed) {
            self.0.disk.sync(&path::root())?;
            self.0.root_synced.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Forgets what is known of packs: files have changed beneath it.
    pub(crate) fn forget_packs(&self) {
        self.0.catalog.forget();
        // Each holds a pack open.
        self.0
            .decoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Threads that work on chunks.
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        if self.0.options.threads == 0 {
            all()
        } else {
            self.0.options.threads
        }
    }

    /// The store's own threads, made on first use; never rayon's global ones.
    pub(crate) fn pool(&self) -> Result<&rayon::ThreadPool> {
        if let Some(pool) = self.0.pool.get() {
            return Ok(pool);
        }
        let built = rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads())
            .thread_name(|i| format!("milepost-{i}"))
            .build()
            .map_err(|e| {
                Error::new(
                    ErrorKind::Io,
                    "threads",
                    format!("cannot start threads: {e}"),
                )
            })?;
        Ok(self.0.pool.get_or_init(|| built))
    }

    /// Scratch memory for one thread; goes back to the store when dropped.
    pub(crate) fn decoder(&self) -> HeldDecoder<'_> {
        let held = self
            .0
            .decoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        HeldDecoder {
            store: self,
            decoder: held.unwrap_or_default(),
        }
    }
}

/// A decoder on loan.
pub(crate) struct HeldDecoder<'s> {
    store: &'s Store,
    pub(crate) decoder: Decoder,
}

impl Drop for HeldDecoder<'_> {
    fn drop(&mut self) {
        let decoder = std::mem::take(&mut self.decoder);
        self.store
            .0
            .decoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(decoder);
    }
}

/// What a store's files take on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// How many packs there are.
    pub packs: u64,
    /// Bytes of packs.
    pub pack_bytes: u64,
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Bytes of tags, caches and the FORMAT file.
    pub other_bytes: u64,
    /// Bytes of packs that a collection set aside.
    pub trash_bytes: u64,
}

impl DiskUsage {
    /// Bytes of all files.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.pack_bytes + self.manifest_bytes + self.other_bytes + self.trash_bytes
    }
}

fn no_store() -> Error {
    Error::new(ErrorKind::NotFound, "no-store", "there is no store here")
        .hint("make one with `milepost init`")
}
