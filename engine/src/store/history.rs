//! Manifests as files: reading one, listing a run, summing up thousands quickly.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::cache_file;
use crate::format::limits;
use crate::format::manifest::Manifest;
use crate::format::name;
use crate::format::placement::{Durability, Placement};
use crate::store::Store;
use crate::store::cache;
use crate::store::catalog::Catalog;
use crate::store::disk::{Disk, Entry, EntryKind, read_whole};
use crate::store::pack_file::RecordExtent;
use crate::store::packs;
use crate::store::path::{self, Folder, StorePath};
use crate::store::txn::Transaction;

pub use crate::store::summary::{Damaged, Listing, Place, Summary};

/// The runs of a store, sorted.
pub(crate) fn runs(disk: &dyn Disk) -> Result<Vec<String>> {
    let listed = disk.list(&path::folder(Folder::Runs))?;
    let valid = listed
        .into_iter()
        .filter(|e| e.kind == EntryKind::Folder && name::is_valid(&e.name));
    let mut runs: Vec<String> = valid.map(|e| e.name).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// The manifests of a run, in order of their saves.
pub(crate) fn places(disk: &dyn Disk, run: &str) -> Result<Vec<Place>> {
    let mut places: Vec<Place> = newest_first(disk, run)?.collect();
    places.sort_unstable();
    Ok(places)
}

/// As [`places`], the other way round; a name is looked into when its turn comes.
pub(crate) fn newest_first(disk: &dyn Disk, run: &str) -> Result<impl Iterator<Item = Place>> {
    let mut listed = disk.list(&path::run_folder(run)?)?;
    // Names of manifests begin with their place, in digits of one number.
    listed.sort_unstable_by(|a, b| b.name.cmp(&a.name));
    let files = listed.into_iter().filter(|e| e.kind == EntryKind::File);
    let run = run.to_owned();
    Ok(files.filter_map(move |e| {
        let (seq, id) = path::parse_manifest(&e.name)?;
        let run = run.clone();
        Some(Place { run, seq, id })
    }))
}

/// Whether a run has a checkpoint.
pub(crate) fn has_run(disk: &dyn Disk, run: &str) -> Result<bool> {
    // What else has its name among the runs is none.
    let is_there = runs(disk)?.iter().any(|name| name == run);
    Ok(is_there && newest_first(disk, run)?.next().is_some())
}

/// Every manifest of the store, by run.
pub(crate) fn all_places(disk: &dyn Disk) -> Result<Vec<Place>> {
    let mut all = Vec::new();
    for run in runs(disk)? {
        all.extend(places(disk, &run)?);
    }
    Ok(all)
}

/// As [`all_places`], for who removes what no manifest needs: nothing may hide one.
///
/// # Errors
/// `Corrupt` if something lies where checkpoints would, and cannot be looked into.
pub(crate) fn unhidden_places(disk: &dyn Disk) -> Result<Vec<Place>> {
    match obstacles(disk)?.into_iter().next() {
        Some(error) => Err(error.hint(
            "nothing was removed: put the folder or the file itself in its place, or move it out \
             of the store, and try again",
        )),
        None => all_places(disk),
    }
}

/// What may hide checkpoints: what readers pass over where a run or a manifest would be
/// (format-spec.md section 5.1). Nothing is followed.
pub(crate) fn obstacles(disk: &dyn Disk) -> Result<Vec<Error>> {
    let folder = path::folder(Folder::Runs);
    let is_no_run = |e: &Entry| match e.kind {
        EntryKind::Folder => !name::is_valid(&e.name),
        EntryKind::Other => true,
        EntryKind::File => false,
    };
    let why = "what lies among the runs is no run's folder";
    let among_runs = disk.list(&folder)?.into_iter().filter(is_no_run);
    let mut obstacles: Vec<Error> = among_runs.map(|e| obstacle(why, &e, &folder)).collect();
    let is_no_manifest =
        |e: &Entry| e.kind != EntryKind::File && path::parse_manifest(&e.name).is_some();
    let why = "what is named like a manifest is no regular file";
    for run in runs(disk)? {
        let folder = path::run_folder(&run)?;
        let in_run = disk.list(&folder)?.into_iter().filter(is_no_manifest);
        obstacles.extend(in_run.map(|e| obstacle(why, &e, &folder)));
    }
    Ok(obstacles)
}

fn obstacle(why: &'static str, entry: &Entry, folder: &StorePath) -> Error {
    Error::corrupt("place", why)
        .subject(format!("{:?}", entry.name))
        .file(folder)
}

/// Reads a manifest and holds it against its place. A relaxed save of an earlier boot counts
/// only if all that it needs is whole.
pub(crate) fn read_manifest(disk: &dyn Disk, place: &Place) -> Result<Manifest> {
    Ok(read_with_len(disk, place)?.0)
}

fn read_with_len(disk: &dyn Disk, place: &Place) -> Result<(Manifest, u64)> {
    look(disk, place)?.map_err(|error| {
        let error = match path::manifest(&place.run, place.seq, &place.id) {
            Ok(path) => error.file(path),
            Err(_) => error,
        };
        error.hint(
            "a relaxed save of an earlier boot did not reach the disk whole; \
             `milepost forget --damaged` clears it away",
        )
    })
}

/// Reads a manifest and its length; in place of one that is whole but does not count, what is
/// wrong with the records that it needs.
fn look(disk: &dyn Disk, place: &Place) -> Result<Result<(Manifest, u64)>> {
    let (manifest, len) = read_unproven(disk, place)?;
    if counts_unproven(disk, &manifest.placement) {
        return Ok(Ok((manifest, len)));
    }
    let Err(error) = prove(disk, &manifest) else {
        return Ok(Ok((manifest, len)));
    };
    // A compaction may have moved what it needs meanwhile, and made it durable.
    let (now, len) = read_unproven(disk, place)?;
    Ok(match counts_unproven(disk, &now.placement) {
        true => Ok((now, len)),
        false => Err(error),
    })
}

/// Whether what cannot be read is a relaxed save that a power cut took: its manifest is whole,
/// and what it needs is not. Nothing that was to last is lost.
pub(crate) fn is_lost(disk: &dyn Disk, place: &Place) -> bool {
    let manifest = read_unproven(disk, place);
    manifest.is_ok_and(|(manifest, _)| !counts_unproven(disk, &manifest.placement))
}

/// Reads a manifest; `None` if it is whole and of a relaxed save that does not count.
pub(crate) fn read_counting(disk: &dyn Disk, place: &Place) -> Result<Option<Manifest>> {
    match look(disk, place)? {
        Ok((manifest, _)) => Ok(Some(manifest)),
        Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_unproven(disk: &dyn Disk, place: &Place) -> Result<(Manifest, u64)> {
    let path = path::manifest(&place.run, place.seq, &place.id)?;
    let file = read_whole(disk, &path, limits::MANIFEST_LEN_MAX)?;
    let manifest =
        Manifest::decode(&file, &codec::decompress_section).map_err(|e| e.file(&path))?;
    let placement = &manifest.placement;
    if manifest.id != place.id {
        return Err(
            Error::corrupt("manifest-id", "a manifest does not hash to its name")
                .file(&path)
                .differs(place.id, manifest.id),
        );
    }
    if placement.run != place.run || placement.seq != place.seq {
        return Err(Error::corrupt(
            "manifest-place",
            "a manifest is of another place than its name says",
        )
        .file(&path)
        .differs(
            format!("{} {}", place.run, place.seq),
            format!("{} {}", placement.run, placement.seq),
        ));
    }
    Ok((manifest, file.len() as u64))
}

/// Whether a checkpoint counts without a look at its records: it was made durable, or a relaxed
/// save of this boot left it in the page cache.
fn counts_unproven(disk: &dyn Disk, placement: &Placement) -> bool {
    // A boot that could not be told is nobody's: zeros match no boot.
    let same_boot = || placement.boot != [0; 16] && placement.boot == disk.boot_id();
    placement.durability != Durability::Relaxed || same_boot()
}

/// Checks every record that the checkpoint needs, in whichever packs they are by now.
fn prove(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    let catalog = Catalog::default();
    catalog.load_hinted(disk, &manifest.packs)?;
    let records = match catalog.closure(manifest.needed_chunks()) {
        Err(error) if packs::may_be_elsewhere(&error) => {
            catalog.load_all(disk)?;
            for chunk in manifest.needed_chunks() {
                catalog.settle(disk, chunk)?;
            }
            catalog.closure(manifest.needed_chunks())?
        }
        done => done?,
    };
    let mut buffer = Vec::new();
    for located in records {
        let pack = catalog.open_pack(disk, &located.pack)?;
        pack.record(RecordExtent::from(&*located.entry), &mut buffer)?;
    }
    Ok(())
}

/// Puts another file in place of a checkpoint's manifest: the same body, other words about how
/// it is stored. The name is durable once the run's folder is synced.
pub(crate) fn replace_manifest(
    store: &Store,
    txn: &Transaction,
    manifest: &Manifest,
) -> Result<()> {
    let disk = &*store.0.disk;
    let placement = &manifest.placement;
    let path = path::manifest(&placement.run, placement.seq, &manifest.id)?;
    let bytes = manifest.encode(&codec::compress_section)?;
    let mut file = disk.create(txn.id)?;
    file.write(&bytes)?;
    file.sync()?;
    // A cached summary may say what is no longer so.
    cache::discard(disk, cache::SUMMARIES)?;
    file.replace(&path)?;
    store.0.history.add(manifest, bytes.len() as u64);
    Ok(())
}

/// Summaries that this process has seen; manifests never change, so they stay true.
#[derive(Debug, Default)]
pub(crate) struct History {
    known: Mutex<HashMap<Place, Arc<Summary>>>,
    cache_loaded: Mutex<bool>,
}

impl History {
    /// The summary of one checkpoint.
    pub(crate) fn summary(&self, disk: &dyn Disk, place: &Place) -> Result<Arc<Summary>> {
        Ok(self.look_up(disk, place)?.0)
    }

    /// The summary of one checkpoint, and its manifest if that had to be read.
    pub(crate) fn look_up(
        &self,
        disk: &dyn Disk,
        place: &Place,
    ) -> Result<(Arc<Summary>, Option<Manifest>)> {
        let held = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(place)
            .cloned();
        if let Some(summary) = held {
            return Ok((summary, None));
        }
        let (manifest, len) = read_with_len(disk, place)?;
        let summary = Arc::new(Summary::new(&manifest, len));
        self.remember(place.clone(), Arc::clone(&summary));
        Ok((summary, Some(manifest)))
    }

    /// Adds what a save just committed.
    pub(crate) fn add(&self, manifest: &Manifest, manifest_len: u64) {
        let summary = Summary::new(manifest, manifest_len);
        self.remember(summary.place(), Arc::new(summary));
    }

    /// Forgets a checkpoint whose manifest turned out to be damaged.
    pub(crate) fn forget(&self, place: &Place) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(place);
    }

    fn remember(&self, place: Place, summary: Arc<Summary>) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(place, summary);
    }

    /// The summaries of these places, and the places that cannot be read.
    pub(crate) fn summaries(&self, disk: &dyn Disk, places: Vec<Place>) -> Result<Listing> {
        if places.len() > 16 {
            self.load_cache(disk);
        }
        let mut listing = Listing::default();
        for place in places {
            match self.summary(disk, &place) {
                Ok(summary) => listing.checkpoints.push(summary),
                // Removed between the listing and the reading.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) => {
                    return Err(error);
                }
                Err(error) if is_lost(disk, &place) => {
                    listing.lost.push(Damaged { place, error });
                }
                Err(error) => listing.damaged.push(Damaged { place, error }),
            }
        }
        Ok(listing)
    }

    pub(crate) fn load_cache(&self, disk: &dyn Disk) {
        let mut loaded = self
            .cache_loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut loaded, true) {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for file in cache::load(disk, cache::SUMMARIES) {
            for item in cache_file::decode(&file).unwrap_or_default() {
                let Ok(summary) = Summary::decode(item) else {
                    continue;
                };
                if counts_unproven(disk, &summary.placement) {
                    known
                        .entry(summary.place())
                        .or_insert_with(|| Arc::new(summary));
                }
            }
        }
    }

    /// Writes the summaries of all whole checkpoints to the cache, if enough are not there.
    pub(crate) fn refresh_cache(&self, disk: &dyn Disk, txn: u128) -> Result<()> {
        let places = all_places(disk)?;
        let held = cache::load(disk, cache::SUMMARIES);
        let cached = held
            .iter()
            .map(|file| cache_file::decode(file).map_or(0, |items| items.len()))
            .sum();
        if !cache::is_due(cached, places.len().saturating_sub(cached)) {
            return Ok(());
        }
        let listing = self.summaries(disk, places)?;
        let whole = listing.checkpoints.iter();
        let items = whole.map(|s| s.encode()).collect::<Result<Vec<_>>>()?;
        cache::replace(disk, txn, cache::SUMMARIES, &items)
    }
}
