//! Making a store and opening one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::format::limits;
use crate::format::store_file::StoreSettings;
use crate::progress::Unobserved;
use crate::store::base_cache::BaseCache;
use crate::store::catalog::Catalog;
use crate::store::disk::{Disk, Published, read_whole};
use crate::store::history::{self, History};
use crate::store::path::{self, Folder};
use crate::store::real_disk::RealDisk;
use crate::store::txn::{self, Patience, Transaction, Turn};
use crate::store::{Inner, Store, StoreOptions};

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
        if !has_format(&*disk)? && has_checkpoints(&*disk)? && !options.adopt {
            return Err(format_lost());
        }
        for folder in Folder::ALL {
            disk.make_folder(&path::folder(folder))?;
        }
        disk.sync(&path::root())?;
        let patience = Patience {
            observer: &Unobserved,
            limit: options.lock_timeout,
        };
        let txn = Transaction::begin(&disk, patience, Turn::Taken)?;
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
                ErrorKind::NotFound if has_checkpoints(&*disk).unwrap_or(false) => format_lost(),
                ErrorKind::NotFound => no_store(),
                _ => e,
            })?;
        let (settings, writable) = StoreSettings::decode(&file).map_err(|e| e.file(&path))?;
        Ok(Self(Arc::new(Inner {
            disk,
            settings,
            writable,
            bases: Mutex::new(BaseCache::new(options.cache_bytes)),
            save_queue: Arc::default(),
            options,
            catalog: Catalog::default(),
            reading: Catalog::default(),
            history: History::default(),
            decoders: Mutex::default(),
            whole: Mutex::default(),
            looking: Mutex::default(),
            root_synced: AtomicBool::new(false),
            pool: OnceLock::new(),
        })))
    }
}

fn has_format(disk: &dyn Disk) -> Result<bool> {
    let name = path::format_file();
    let listed = disk.list(&path::root())?;
    Ok(listed.iter().any(|e| e.name == name.as_str()))
}

fn has_checkpoints(disk: &dyn Disk) -> Result<bool> {
    Ok(!history::all_places(disk)?.is_empty())
}

fn format_lost() -> Error {
    Error::corrupt(
        "format-missing",
        "the store has checkpoints and no FORMAT file",
    )
    .file(path::format_file())
    .hint("bring the file back, or make a new one with `milepost init --adopt`")
}

fn no_store() -> Error {
    Error::new(ErrorKind::NotFound, "no-store", "there is no store here")
        .hint("make one with `milepost init`")
}
