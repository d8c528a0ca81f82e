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
mod names;
mod open;
pub(crate) mod pack_file;
mod pack_opening;
pub(crate) mod packs;
pub mod path;
pub(crate) mod real_disk;
pub(crate) mod records;
pub(crate) mod save_queue;
mod settle;
mod summary;
pub(crate) mod tags;
pub(crate) mod trash;
pub(crate) mod txn;
mod usage;

pub use usage::DiskUsage;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::format::store_file::StoreSettings;
use crate::progress::Observer;
use crate::restore::decode::Decoder;
use crate::store::base_cache::BaseCache;
use crate::store::catalog::Catalog;
use crate::store::disk::{Disk, Lock, LockMode};
use crate::store::history::{History, Listing};
use crate::store::real_disk::ReaderMode;
use crate::store::save_queue::SaveQueue;
use crate::store::txn::{Patience, Transaction, Turn};

/// How this process uses a store; nothing of it is stored.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Threads that encode and decode; 0 for one each core.
    pub threads: usize,
    /// Bytes of raw chunks kept between saves, so that the next save need not decode its base.
    pub cache_bytes: u64,
    /// How packs are read.
    pub reader: ReaderMode,
    /// For [`Store::create`] only: whether a folder with checkpoints and without a FORMAT file,
    /// which was lost, gets a new one.
    pub adopt: bool,
    /// How long to wait for a lock that another process holds; without one, until the observer
    /// cancels.
    pub lock_timeout: Option<Duration>,
    /// Most bytes that saves may let the store's files grow to, instead of what the store
    /// records; writers that save at the same moment may exceed it together.
    pub quota: Option<u64>,
    /// Milliseconds since 1970; only shown to people and used to tell which run is newest.
    pub clock: fn() -> u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            threads: 0,
            cache_bytes: 512 << 20,
            reader: ReaderMode::Auto,
            adopt: false,
            lock_timeout: None,
            quota: None,
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
    /// The records that a save may refer to.
    pub(crate) catalog: Catalog,
    /// The records that restores take: those that each checkpoint names, trusted or not.
    pub(crate) reading: Catalog,
    pub(crate) history: History,
    pub(crate) bases: Mutex<BaseCache>,
    pub(crate) save_queue: Arc<SaveQueue>,
    decoders: Mutex<Vec<Decoder>>,
    /// Packs of which every record is sound; made only where a record is not.
    whole: Mutex<Option<Arc<Catalog>>>,
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
        let disk = &*self.0.disk;
        let mut runs = Vec::new();
        for run in history::runs(disk)? {
            if history::newest_first(disk, &run)?.next().is_some() {
                runs.push(run);
            }
        }
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

    /// Starts a transaction, if this version may write to the store.
    pub(crate) fn begin(&self, observer: &dyn Observer) -> Result<Transaction> {
        self.require_writable()?;
        Transaction::begin(&self.0.disk, self.patience(observer), Turn::Taken)
    }

    /// As [`Store::begin`], for one of several writers that wait for each other: a collector that
    /// waits for one must not keep out the next.
    pub(crate) fn begin_beside_others(&self, observer: &dyn Observer) -> Result<Transaction> {
        self.require_writable()?;
        Transaction::begin(&self.0.disk, self.patience(observer), Turn::Ignored)
    }

    /// Works with what this process knows of the packs; if one of them turns out to be gone,
    /// because a collector removed it before this transaction, once more with fresh eyes.
    /// Within a transaction no pack goes.
    pub(crate) fn with_packs_there<T>(&self, work: impl Fn() -> Result<T>) -> Result<T> {
        match work() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                tracing::info!(%error, "a pack is gone; the others are looked at again");
                self.forget_packs();
                work()
            }
            done => done,
        }
    }

    /// How long to wait for others.
    pub(crate) fn patience<'o>(&self, observer: &'o dyn Observer) -> Patience<'o> {
        Patience {
            observer,
            limit: self.0.options.lock_timeout,
        }
    }

    /// Keeps the order of a run's commits to itself until the lock is dropped.
    pub(crate) fn lock_run(&self, run: &str, observer: &dyn Observer) -> Result<Box<dyn Lock>> {
        let path = path::run_lock(run)?;
        let patience = self.patience(observer);
        txn::wait_for(&*self.0.disk, &path, LockMode::Exclusive, patience)
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
        self.0.reading.forget();
        *self.0.whole.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // Each holds a pack open.
        self.0
            .decoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Lets go of packs that another process has removed: held open, they keep their room.
    pub(crate) fn close_removed_packs(&self) {
        self.0.catalog.close_removed();
        self.0.reading.close_removed();
        if let Some(whole) = &*self.0.whole.lock().unwrap_or_else(PoisonError::into_inner) {
            whole.close_removed();
        }
        let mut idle = self
            .0
            .decoders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        idle.iter_mut().for_each(Decoder::close_removed);
    }

    /// The packs of the store, each to be proved whole before it is relied on.
    pub(crate) fn whole_packs(&self) -> Result<Arc<Catalog>> {
        let mut held = self.0.whole.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(whole) = &*held {
            return Ok(Arc::clone(whole));
        }
        let whole = Arc::new(Catalog::default());
        whole.load_all(&*self.0.disk)?;
        Ok(Arc::clone(held.insert(whole)))
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
