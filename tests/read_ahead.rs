//! What is far is fetched ahead of those who decode it; what is near is left alone.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use milepost_engine::store::disk::{Disk, FileView};
use milepost_engine::store::path::{self, Folder};
use milepost_engine::{
    Dtype, ReaderMode, RealDisk, Result, SaveOptions, Selection, Store, StoreOptions,
    StoreSettings, Unobserved,
};

use crate::support::restless_disk::RestlessDisk;
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

/// What was asked of the packs' files, in order: whether it was only announced, the file and where.
type Asked = Arc<Mutex<Vec<(bool, String, u64)>>>;

#[derive(Debug)]
struct AskedView {
    path: String,
    view: Arc<dyn FileView>,
    asked: Asked,
}

impl AskedView {
    fn note(&self, is_announced: bool, offset: u64) {
        let asked = (is_announced, self.path.clone(), offset);
        self.asked.lock().unwrap().push(asked);
    }
}

impl FileView for AskedView {
    fn len(&self) -> u64 {
        self.view.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.note(false, offset);
        self.view.read_at(offset, out)
    }

    fn mapped(&self) -> Option<&[u8]> {
        None
    }

    fn announce(&self, range: Range<u64>) {
        self.note(true, range.start);
    }
}

/// A disk that notes what is asked of its files.
fn asked(disk: Arc<dyn Disk>, asked: &Asked) -> Arc<dyn Disk> {
    let asked = Arc::clone(asked);
    RestlessDisk::seen(
        disk,
        |_| {},
        move |path, view| {
            Arc::new(AskedView {
                path: path.as_str().to_owned(),
                view,
                asked: Arc::clone(&asked),
            })
        },
    )
}

/// A disk of which packs are far: a record cannot be read before it was fetched.
fn far(near: Arc<dyn Disk>, fetched: &Arc<Fetched>) -> Arc<dyn Disk> {
    let fetched = Arc::clone(fetched);
    RestlessDisk::seen(
        near,
        |_| {},
        move |path, view| {
            let fetched = Arc::clone(&fetched);
            match path.as_str().starts_with("packs/") {
                true => Arc::new(FarView { view, fetched }),
                false => view,
            }
        },
    )
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
        let store = Store::open_on(far(near, &fetched), options()).unwrap();
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
    let store = Store::open_on(far(near, &fetched), options()).unwrap();
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

/// A store whose newest checkpoint has its tensors in as many packs as it has saves.
fn save_one_by_one(disk: &Arc<dyn Disk>, saves: u64) {
    let (settings, options) = (StoreSettings::default(), StoreOptions::default());
    let store = Store::create_on(Arc::clone(disk), settings, options).unwrap();
    for step in 1..=saves {
        // The tensor of a number changes in as many steps.
        let bytes = |number: u64| noise(number * 100 + step.min(number), 1000);
        let tensors: Vec<Vec<u8>> = (1..=saves).map(bytes).collect();
        let mut draft = store.draft(SaveOptions::new("main").step(step)).unwrap();
        for (number, bytes) in (1..).zip(&tensors) {
            let name = number.to_string();
            draft.tensor(&name, Dtype::U8, &[1000], bytes).unwrap();
        }
        draft.commit().unwrap();
    }
}

/// A device that is asked for all at once waits once.
#[test]
fn several_packs_are_opened_side_by_side() {
    let disk: Arc<dyn Disk> = Machine::new(1).process();
    save_one_by_one(&disk, 5);
    let options = StoreOptions {
        threads: 2,
        ..StoreOptions::default()
    };
    let noted = Asked::default();
    let store = Store::open_on(asked(disk, &noted), options).unwrap();
    let checkpoint = store.checkpoint("main").unwrap();
    checkpoint.plan(&Selection::globs(&["3"]).unwrap()).unwrap();
    let mut noted = noted.lock().unwrap().clone();
    noted.retain(|(_, path, _)| path.starts_with("packs/"));
    let count = |part: &[(bool, String, u64)], is_announced: bool| {
        part.iter().filter(|(is, ..)| *is == is_announced).count()
    };
    let first_read = noted.iter().position(|(is, ..)| !is).unwrap();
    let packs = first_read / 2;
    assert!(
        packs >= 5,
        "both ends of each pack are announced first: {noted:?}"
    );
    // Then envelope, trailer and index of each are read, and no index before all are announced.
    let last_announced = noted.iter().rposition(|(is, ..)| *is).unwrap();
    assert_eq!(count(&noted[..=last_announced], true), 3 * packs);
    assert_eq!(count(&noted[..=last_announced], false), 2 * packs);
    assert_eq!(count(&noted[last_announced..], false), packs);
}

/// Looking for the newest checkpoint takes reading its manifest; opening it then does not.
#[test]
fn a_manifest_is_read_once_to_find_and_to_open_it() {
    let disk: Arc<dyn Disk> = Machine::new(1).process();
    save_one_by_one(&disk, 1);
    let noted = Asked::default();
    let store = Store::open_on(asked(disk, &noted), StoreOptions::default()).unwrap();
    for opened in 1..=3 {
        assert_eq!(store.checkpoint("latest").unwrap().manifest().body.step, 1);
        let noted = noted.lock().unwrap();
        let reads = noted
            .iter()
            .filter(|(is, path, _)| !is && path.starts_with("runs/"));
        // What may have been replaced since is read again.
        assert_eq!(reads.count(), opened);
    }
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
