//! Mark: which records of which packs the checkpoints of a store need.
//!
//! For each manifest the records are those that a reader takes: of the packs it hints at, where
//! that is enough, else of all packs that are whole (format-spec.md section 12.1). What cannot
//! be resolved keeps everything that might be of use to it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::pack::IndexEntry;
use crate::format::placement::{Durability, PackHint};
use crate::id::{ChunkId, PackId};
use crate::progress::{self, Observer};
use crate::store::cache;
use crate::store::catalog::Catalog;
use crate::store::disk::Disk;
use crate::store::history::{self, Place};
use crate::store::pack_file::{PackFile, SealedPack};
use crate::store::packs;
use crate::store::records::Located;

/// What is needed of one pack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// Offsets of the records.
    pub(crate) records: HashSet<u64>,
    /// Bytes of those records.
    pub(crate) bytes: u64,
    /// Whether all of it is to stay, whatever it holds.
    whole: bool,
}

/// The packs of a store, and what of them is needed so far.
pub(crate) struct Mark<'d> {
    disk: &'d dyn Disk,
    /// Every sound pack that was there when packs were last loaded.
    catalog: Catalog,
    /// Bytes of every pack that was there at the first loading.
    pub(crate) listed: BTreeMap<PackId, u64>,
    /// Bytes of the records of each pack.
    record_bytes: HashMap<PackId, u64>,
    /// Packs whose index cannot be read.
    damaged: BTreeSet<PackId>,
    /// Manifests that were marked.
    marked: HashSet<Place>,
    /// What of each pack is needed.
    pub(crate) needed: HashMap<PackId, Needed>,
    /// The records that are needed, each once.
    pub(crate) live: Vec<Located>,
    /// The chunks that checkpoints hold themselves.
    pub(crate) held: HashSet<ChunkId>,
    /// The packs that durable checkpoints name.
    pub(crate) vouched: HashSet<PackId>,
    /// Checkpoints that cannot be restored in full.
    pub(crate) unresolved: Vec<Place>,
    /// Every pack that is whole; made when hints are not enough.
    whole: Option<Catalog>,
}

impl<'d> Mark<'d> {
    /// Reads every pack's index; nothing is marked yet.
    pub(crate) fn new(disk: &'d dyn Disk) -> Result<Self> {
        let mut mark = Self {
            disk,
            catalog: Catalog::default(),
            listed: BTreeMap::new(),
            record_bytes: HashMap::new(),
            damaged: BTreeSet::new(),
            marked: HashSet::new(),
            needed: HashMap::new(),
            live: Vec::new(),
            held: HashSet::new(),
            vouched: HashSet::new(),
            unresolved: Vec::new(),
            whole: None,
        };
        mark.load_packs()?;
        for id in packs::list(disk)? {
            let len = mark.catalog.pack_len(&id);
            let len = len.or_else(|| Some(disk.open(&crate::store::path::pack(&id)).ok()?.len()));
            mark.listed.insert(id, len.unwrap_or_default());
        }
        Ok(mark)
    }

    fn load_packs(&mut self) -> Result<()> {
        let is_new = |id: &PackId| self.catalog.pack_len(id).is_none();
        let mut unknown: HashSet<PackId> =
            packs::list(self.disk)?.into_iter().filter(is_new).collect();
        for cached in cache::load_indexes(self.disk, &unknown) {
            unknown.remove(&cached.pack);
            self.add_pack(cached.pack, cached.len, cached.entries);
        }
        for id in unknown {
            match PackFile::open(self.disk, &id) {
                Ok(mut pack) => self.add_pack(id, pack.len(), pack.take_index()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) if error.kind() == ErrorKind::Io => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "a pack is damaged");
                    self.damaged.insert(id);
                }
            }
        }
        self.whole = None;
        Ok(())
    }

    fn add_pack(&mut self, id: PackId, len: u64, entries: Vec<IndexEntry>) {
        let bytes = entries.iter().map(|e| u64::from(e.stored_len)).sum();
        self.record_bytes.insert(id, bytes);
        self.catalog.add(id, len, entries);
    }

    /// Marks what these manifests need. One that is gone by now needs nothing.
    ///
    /// # Errors
    /// If a manifest cannot be read: nothing may be removed then.
    pub(crate) fn add(
        &mut self,
        places: impl IntoIterator<Item = Place>,
        observer: &dyn Observer,
    ) -> Result<()> {
        for place in places {
            if self.marked.contains(&place) {
                continue;
            }
            progress::check(observer)?;
            match history::read_counting(self.disk, &place) {
                Ok(Some(manifest)) => self.add_manifest(&place, &manifest)?,
                // A relaxed save of an earlier boot that is not whole: it never counts.
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error.hint(
                        "nothing was removed: drop the damaged checkpoint with \
                         `milepost forget --damaged`, or restore its manifest, and try again",
                    ));
                }
            }
            self.marked.insert(place);
        }
        Ok(())
    }

    /// Marks what manifests need that were not there before, in packs old and new.
    pub(crate) fn add_new(&mut self, observer: &dyn Observer) -> Result<()> {
        let places = history::unhidden_places(self.disk)?;
        let marked = &self.marked;
        let new: Vec<Place> = places.into_iter().filter(|p| !marked.contains(p)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.load_packs()?;
        self.add(new, observer)
    }

    /// The manifests that were marked, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.marked.iter()
    }

    /// The manifests that were marked, by run, in order of their saves.
    pub(crate) fn runs(&self) -> BTreeMap<&str, Vec<&Place>> {
        let mut runs: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
        for place in self.places() {
            runs.entry(&place.run).or_default().push(place);
        }
        runs.values_mut().for_each(|places| places.sort_unstable());
        runs
    }

    /// Packs that are needed and whose every needed record is known, and their bytes.
    pub(crate) fn rewritable(&self) -> impl Iterator<Item = (&PackId, u64)> {
        let known = self.needed.iter().filter(|(_, needed)| !needed.whole);
        known.filter_map(|(id, _)| Some((id, *self.listed.get(id)?)))
    }

    /// Bytes of the records of a pack.
    pub(crate) fn record_bytes(&self, pack: &PackId) -> u64 {
        self.record_bytes.get(pack).copied().unwrap_or_default()
    }

    /// Adds packs that were written since.
    pub(crate) fn add_packs(&mut self, packs: &[SealedPack]) {
        for pack in packs {
            self.add_pack(pack.hint.pack, pack.hint.len, pack.entries.clone());
        }
    }

    /// Whether a reader that is told of these packs alone finds all that a manifest needs.
    pub(crate) fn is_enough(&self, packs: &[PackHint], manifest: &Manifest) -> bool {
        let packs: HashSet<PackId> = packs.iter().map(|hint| hint.pack).collect();
        let chunks = manifest.needed_chunks();
        resolve(&self.catalog, chunks, |pack| packs.contains(pack)).is_some()
    }

    /// How many manifests were marked.
    pub(crate) fn checkpoints(&self) -> u64 {
        self.marked.len() as u64
    }

    /// The packs there were at first that nothing needs, and their bytes.
    pub(crate) fn unneeded(&self) -> Vec<(PackId, u64)> {
        let unneeded = |(id, _): &(&PackId, &u64)| !self.needed.contains_key(*id);
        let listed = self.listed.iter().filter(unneeded);
        listed.map(|(id, len)| (*id, *len)).collect()
    }

    /// Bytes in packs that stay which nothing needs.
    pub(crate) fn idle_bytes(&self) -> u64 {
        let idle = |(id, needed): (&PackId, &Needed)| match needed.whole {
            true => 0,
            false => self.record_bytes(id).saturating_sub(needed.bytes),
        };
        self.needed.iter().map(idle).sum()
    }

    /// Marks what a manifest needs, whether or not it is in the store as it is here.
    pub(crate) fn add_manifest(&mut self, place: &Place, manifest: &Manifest) -> Result<()> {
        let hinted: HashSet<PackId> = manifest.packs.iter().map(|hint| hint.pack).collect();
        let needs = || manifest.needed_chunks();
        self.held.extend(needs());
        if manifest.placement.durability != Durability::Relaxed {
            self.vouched.extend(&hinted);
        }
        if let Some(found) = resolve(&self.catalog, needs(), |pack| hinted.contains(pack)) {
            self.note(&found);
            return Ok(());
        }
        // A hinted pack is gone; whichever are there are kept all the same.
        for id in hinted {
            if self.is_there(&id) {
                self.needed.entry(id).or_default().whole = true;
            }
        }
        let disk = self.disk;
        let whole = match &mut self.whole {
            Some(whole) => whole,
            none => {
                let whole = none.insert(Catalog::default());
                whole.load_all(disk)?;
                whole
            }
        };
        for chunk in needs() {
            whole.settle(disk, chunk)?;
        }
        match resolve(whole, needs(), |_| true) {
            Some(found) => self.note(&found),
            None => {
                self.keep_all(manifest);
                self.unresolved.push(place.clone());
            }
        }
        Ok(())
    }

    fn is_there(&self, id: &PackId) -> bool {
        self.catalog.pack_len(id).is_some() || self.damaged.contains(id)
    }

    fn note(&mut self, records: &[Located]) {
        for located in records {
            let needed = self.needed.entry(located.pack).or_default();
            if needed.records.insert(located.entry.offset) {
                needed.bytes += u64::from(located.entry.stored_len);
                self.live.push(located.clone());
            }
        }
    }

    /// Keeps every record that a checkpoint might be made of.
    fn keep_all(&mut self, manifest: &Manifest) {
        let mut seen = HashSet::new();
        let mut stack: Vec<ChunkId> = manifest.needed_chunks().copied().collect();
        while let Some(chunk) = stack.pop() {
            if !seen.insert(chunk) {
                continue;
            }
            let records = self.catalog.records_of(&chunk);
            stack.extend(records.iter().flat_map(|r| r.entry.inputs.clone()));
            self.note(&records);
        }
        // An index that cannot be read may be of the pack that is missed.
        for id in &self.damaged {
            self.needed.entry(*id).or_default().whole = true;
        }
    }
}

/// The records that make these chunks, of the packs that are allowed; `None` if they do not.
fn resolve<'c>(
    catalog: &Catalog,
    chunks: impl Iterator<Item = &'c ChunkId>,
    allowed: impl Fn(&PackId) -> bool,
) -> Option<Vec<Located>> {
    let mut found: HashMap<ChunkId, Located> = HashMap::new();
    let mut stack: Vec<(ChunkId, Option<u8>)> = chunks.map(|c| (*c, None)).collect();
    while let Some((chunk, below)) = stack.pop() {
        let is_below = |l: &Located| below.is_none_or(|depth| l.entry.depth < depth);
        if let Some(held) = found.get(&chunk) {
            if !is_below(held) {
                return None;
            }
            continue;
        }
        let located = catalog.find_in(&chunk, &allowed).filter(is_below)?;
        let depth = Some(located.entry.depth);
        stack.extend(located.entry.inputs.iter().map(|input| (*input, depth)));
        found.insert(chunk, located);
    }
    Some(found.into_values().collect())
}
