//! Parts of one checkpoint that several writers save (format-spec.md section 15.3.1): what a
//! coordinator takes in, held against its draft and put together.

use std::collections::{BTreeMap, HashSet};

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::format::part::Part as PartFile;
use crate::format::placement::{Durability, PackHint, TensorStatistics};
use crate::id::ChunkId;
use crate::save::draft::Draft;
use crate::save::relation::Relation;
use crate::store::Store;
use crate::store::disk::Disk;
use crate::store::pack_file::PackFile;

/// The parts that a draft has taken in, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    by_index: BTreeMap<u32, PartFile>,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.by_index.is_empty()
    }

    fn files(&self) -> impl Iterator<Item = &PartFile> {
        self.by_index.values()
    }

    /// Bytes of packs that their writers added.
    pub(super) fn added_bytes(&self) -> u64 {
        let added = self.files().map(|p| p.manifest.placement.added_bytes);
        added.fold(0, u64::saturating_add)
    }

    /// Chunks that their writers stored.
    pub(super) fn new_chunks(&self) -> u64 {
        let new = self.files().map(|p| p.manifest.placement.new_chunks);
        new.fold(0, u64::saturating_add)
    }

    /// The packs that hold what their chunks need.
    pub(super) fn packs(&self) -> impl Iterator<Item = &PackHint> {
        self.files().flat_map(|p| &p.manifest.packs)
    }

    /// Chunks that their writers have read back from the device.
    pub(super) fn verified_chunks(&self) -> HashSet<ChunkId> {
        let verified = |p: &&PartFile| p.manifest.placement.durability == Durability::Verified;
        let parts = self.files().filter(verified);
        parts
            .flat_map(|p| p.manifest.body.chunks())
            .copied()
            .collect()
    }

    /// Whether a reader of this boot may take what a relaxed save of the parts left for whole.
    pub(super) fn are_of_boot(&self, boot: [u8; 16]) -> bool {
        let relaxed = |p: &&PartFile| p.manifest.placement.durability == Durability::Relaxed;
        let mut boots = self.files().filter(relaxed);
        boots.all(|p| p.manifest.placement.boot == boot)
    }

    /// Takes a part in.
    pub(super) fn add(&mut self, draft: DraftFacts<'_>, bytes: &[u8]) -> Result<()> {
        let part = PartFile::decode(bytes, &codec::decompress_section)?;
        let (index, placement) = (part.index, &part.manifest.placement);
        let differs = |code, what: &str| {
            Error::invalid(code, format!("part {index} is of another {what}"))
                .hint("give every writer of a checkpoint the same store, run and step")
        };
        if part.store != draft.store.settings().uuid {
            return Err(differs("part-store", "store"));
        }
        if placement.run != draft.run {
            return Err(differs("part-run", "run").differs(draft.run, &placement.run));
        }
        let step = part.manifest.body.step;
        if step != draft.step {
            return Err(differs("part-step", "step").differs(draft.step, step));
        }
        if let Some(other) = self.files().next().filter(|o| o.count != part.count) {
            return Err(differs("part-count", "number of parts").differs(other.count, part.count));
        }
        if self.by_index.contains_key(&index) {
            return Err(Error::invalid(
                "part-twice",
                format!("part {index} is there already"),
            ));
        }
        self.by_index.insert(index, part);
        Ok(())
    }

    /// Holds that every part is there, and with it every pack that it names.
    pub(super) fn require_whole(&self, disk: &dyn Disk) -> Result<()> {
        let count = self.files().next().map_or(0, |p| p.count);
        if let Some(missing) = (0..count).find(|i| !self.by_index.contains_key(i)) {
            return Err(Error::invalid(
                "part-missing",
                format!("part {missing} of {count} is missing"),
            )
            .hint("take in the parts of all writers, then commit"));
        }
        for part in self.files() {
            for hint in &part.manifest.packs {
                let opened = PackFile::open_for_records(disk, &hint.pack);
                let there = opened.and_then(|pack| pack.require_len(hint.len));
                there.map_err(|error| gone(part.index, error))?;
            }
        }
        Ok(())
    }

    /// Makes their records known. What their writers have synced need not be proved again.
    pub(super) fn load(&self, store: &Store) -> Result<()> {
        let (disk, catalog) = (&*store.0.disk, &store.0.catalog);
        for part in self.files() {
            match part.manifest.placement.durability {
                Durability::Relaxed => catalog.load_hinted(disk, &part.manifest.packs)?,
                _ => catalog.load_settled(disk, &part.manifest.packs)?,
            }
        }
        Ok(())
    }

    /// What their writers said of how tensors came from others.
    pub(super) fn relations(&self) -> BTreeMap<String, Relation> {
        let told = self.files().flat_map(|p| p.manifest.named_relations());
        told.collect()
    }

    /// Adds to a body what the parts hold. What is in several of them must be alike in all.
    pub(super) fn merge_into(
        &self,
        body: &mut Body,
        statistics: &mut Vec<TensorStatistics>,
    ) -> Result<()> {
        let own = std::mem::take(&mut body.tensors).into_iter();
        let own = own.zip(std::mem::take(statistics));
        let mut tensors: BTreeMap<String, (TensorEntry, TensorStatistics)> =
            own.map(|(t, s)| (t.name.clone(), (t, s))).collect();
        let own = std::mem::take(&mut body.blobs).into_iter();
        let mut blobs: BTreeMap<String, BlobEntry> = own.map(|b| (b.name.clone(), b)).collect();
        for part in self.files() {
            let theirs = &part.manifest.body;
            let all = part.manifest.statistics.iter().copied();
            let told = all.chain(std::iter::repeat(TensorStatistics::default()));
            for (tensor, told) in theirs.tensors.iter().zip(told) {
                let both = (tensor.clone(), told);
                let held = tensors.entry(tensor.name.clone()).or_insert(both);
                require_alike("tensor", &tensor.name, held.0 == *tensor)?;
            }
            for blob in &theirs.blobs {
                let held = blobs.entry(blob.name.clone()).or_insert(blob.clone());
                require_alike("blob", &blob.name, held == blob)?;
            }
            for (key, value) in &theirs.metadata {
                let held = body.metadata.entry(key.clone()).or_insert(value.clone());
                require_alike("metadata entry", key, held == value)?;
            }
            for (name, value) in &theirs.metrics {
                let held = body.metrics.entry(name.clone()).or_insert(*value);
                require_alike("metric", name, held.to_bits() == value.to_bits())?;
            }
        }
        (body.tensors, *statistics) = tensors.into_values().unzip();
        body.blobs = blobs.into_values().collect();
        Ok(())
    }
}

/// What a part must agree with.
#[derive(Clone, Copy)]
pub(super) struct DraftFacts<'d> {
    pub(super) store: &'d Store,
    pub(super) run: &'d str,
    pub(super) step: u64,
}

impl<'d> DraftFacts<'d> {
    pub(super) fn of(draft: &'d Draft<'_>) -> Self {
        Self {
            store: &draft.store,
            run: &draft.options.run,
            step: draft.step(),
        }
    }
}

fn require_alike(what: &str, name: &str, alike: bool) -> Result<()> {
    if alike {
        return Ok(());
    }
    let why = format!("two writers hold another {what} of one name");
    Err(Error::invalid("part-conflict", why)
        .subject(format!("{what} {name:?}"))
        .hint("let one writer save it, or give the others other names"))
}

/// What its writer kept is not there any more: it has ended, and a collector has come by.
fn gone(index: u32, error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(
            ErrorKind::Conflict,
            "part-gone",
            format!("what part {index} holds is gone from the store"),
        )
        .hint("keep every part until the checkpoint is committed; save all parts again"),
        _ => error,
    }
}
