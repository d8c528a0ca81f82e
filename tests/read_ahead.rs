//! What is far is fetched ahead of those who decode it; what is near is left alone.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use milepost_engine::store::disk::{Disk, Entry, FileView, Lock, LockMode, NewFile, Published};
use milepost_engine::store::path::{self, Folder, StorePath};
use milepost_engine::{
    Dtype, ReaderMode, RealDisk, Result, SaveOptions, Selection, Store, StoreOptions,
    StoreSettings, Unobserved,
};

use crate::support::sim_disk::Machine;
use crate::support::state::noise;

/// Reads as long as this are of records.
const LONG: usize = 64 << 10;

#[derive(Debug, Default)]
struct Fetched {
    ranges: Mutex<Vec<Range<u64>>>,
    announced: AtomicUsize,
    more: Condvar,
}

/// A disk of which packs are far: a record cannot be read before it was fetched.
#[derive(Debug)]
struct FarDisk {
    disk: Arc<dyn Disk>,
    fetched: Arc<Fetched>,
}

#[derive(Debug)]
struct FarView {
    view: Arc<dyn FileView>,
    fetched: Arc<Fetched>,
}

impl FileView for FarView {
    fn len(&self) -> u64 {
        self.view.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let wanted = offset..offset + out.len() as u64;
        let is_far = |ranges: &mut Vec<Range<u64>>| {
            let holds = |r: &Range<u64>| r.start <= wanted.start && wanted.end <= r.end;
            out.len() >= LONG && !ranges.iter().any(holds)
        };
        let ranges = self.fetched.ranges.lock().unwrap();
        let patience = Duration::from_secs(60);
        let (ranges, waited) = self
            .fetched
            .more
            .wait_timeout_while(ranges, patience, is_far)
            .unwrap();
        assert!(!waited.timed_out(), "{wanted:?} was never fetched");
        drop(ranges);
        self.view.read_at(offset, out)
    }

    fn mapped(&self) -> Option<&[u8]> {
        None
    }

    fn is_near(&self, _offset: u64) -> bool {
        false
    }

    fn announce(&self, range: Range<u64>) {
        self.fetched.announced.fetch_add(1, Ordering::Relaxed);
        self.fetch(range).unwrap();
    }

    fn fetch(&self, range: Range<u64>) -> Result<()> {
        let mut ranges = self.fetched.ranges.lock().unwrap();
        match ranges.last_mut().filter(|last| last.end == range.start) {
            Some(last) => last.end = range.end,
            None => ranges.push(range),
        }
        drop(ranges);
        self.fetched.more.notify_all();
        Ok(())
    }
}

impl Disk for FarDisk {
    fn open(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        let view = self.disk.open(path)?;
        if !path.as_str().starts_with("packs/") {
            return Ok(view);
        }
        let fetched = Arc::clone(&self.fetched);
        Ok(Arc::new(FarView { view, fetched }))
    }

    fn list(&self, folder: &StorePath) -> Result<Vec<Entry>> {
        self.disk.list(folder)
    }

    fn open_uncached(&self, path: &StorePath) -> Result<Arc<dyn FileView>> {
        self.disk.open_uncached(path)
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

    fn boot_id(&self) -> [u8; 16] {
        self.disk.boot_id()
    }
}

/// Workers wait for each record until it was fetched, so the restore ends only if all are, at
/// the latest when they are needed; and in the order of the disk, so none waits for a later one.
#[test]
fn whatever_is_far_is_fetched_in_the_order_of_the_disk() {
    let bytes = noise(1, 40 << 20);
    for threads in [1, 2, 3] {
        let options = || StoreOptions {
            threads,
            ..StoreOptions::default()
        };
        let near: Arc<dyn Disk> = Machine::new(1).process();
        let settings = StoreSettings::default();
        let store = Store::create_on(Arc::clone(&near), settings, options()).unwrap();
        let mut draft = store.draft(SaveOptions::new("main").step(1)).unwrap();
        let shape = [bytes.len() as u64];
        draft.tensor("weights", Dtype::U8, &shape, &bytes).unwrap();
        draft.commit().unwrap();
        let fetched = Arc::<Fetched>::default();
        let far = FarDisk {
            disk: near,
            fetched: Arc::clone(&fetched),
        };
        let store = Store::open_on(Arc::new(far), options()).unwrap();
        let found = store.checkpoint("main").unwrap().tensor("weights").unwrap();
        assert!(found == bytes);
        let ranges = fetched.ranges.lock().unwrap();
        assert!(ranges.is_sorted_by_key(|r| r.start), "{ranges:?}");
    }
}

/// One tensor of four is wanted: short spans, of which each worker waits for the announcement.
#[test]
fn what_lies_strewn_is_announced() {
    let near: Arc<dyn Disk> = Machine::new(1).process();
    let (settings, options) = (StoreSettings::default(), StoreOptions::default);
    let store = Store::create_on(Arc::clone(&near), settings, options()).unwrap();
    let names: Vec<String> = (0..32).map(|n| format!("{n:02}")).collect();
    let bytes: Vec<Vec<u8>> = (0..32).map(|n| noise(n, 200 << 10)).collect();
    let mut draft = store.draft(SaveOptions::new("main").step(1)).unwrap();
    for (name, bytes) in names.iter().zip(&bytes) {
        draft.tensor(name, Dtype::U8, &[200 << 10], bytes).unwrap();
    }
    draft.commit().unwrap();
    let fetched = Arc::<Fetched>::default();
    let far = FarDisk {
        disk: near,
        fetched: Arc::clone(&fetched),
    };
    let store = Store::open_on(Arc::new(far), options()).unwrap();
    let checkpoint = store.checkpoint("main").unwrap();
    let wanted: Vec<&str> = names.iter().step_by(4).map(String::as_str).collect();
    let (outputs, plan) = checkpoint
        .plan(&Selection::globs(&wanted).unwrap())
        .unwrap();
    let mut buffers = vec![vec![0; 200 << 10]; outputs.len()];
    let mut targets: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    checkpoint
        .restore_into(&plan, &mut targets, &Unobserved)
        .unwrap();
    assert!(buffers.iter().all(|found| bytes.contains(found)) && buffers.len() == 8);
    assert_eq!(fetched.announced.load(Ordering::Relaxed), 8);
}

/// On a file system that keeps files in memory nothing is ever far.
#[test]
fn what_the_page_cache_lost_is_far_until_it_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    for mode in [ReaderMode::Mmap, ReaderMode::Pread] {
        let disk = RealDisk::create(&root, mode).unwrap();
        disk.make_folder(&path::folder(Folder::Txn)).unwrap();
        disk.make_folder(&path::folder(Folder::Tags)).unwrap();
        let name = path::tag(&format!("{mode:?}").to_lowercase()).unwrap();
        let mut file = disk.create(1).unwrap();
        file.write(&noise(2, 8 << 20)).unwrap();
        file.sync().unwrap();
        file.publish(&name).unwrap();
        #[expect(clippy::disallowed_methods, reason = "makes the kernel forget a file")]
        let forgotten = std::fs::File::open(root.join(name.as_str())).unwrap();
        rustix::fs::fadvise(&forgotten, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let view = disk.open(&name).unwrap();
        let (middle, all) = (4 << 20, 0..view.len());
        if view.is_near(middle) {
            continue;
        }
        view.fetch(all.clone()).unwrap();
        for offset in all.clone().step_by(1 << 20).chain([all.end - 1]) {
            assert!(view.is_near(offset), "{offset}");
        }
    }
}
