//! Verify: is every checkpoint whole, and if not, which tensors of which are hit. Must not
//! modify anything.
//!
//! Structure first: manifests, pack indexes, the checksum of every record, and that every chunk
//! has a record whose inputs are there. On request chunks are decoded and hashed as well.

mod graph;
mod hits;
mod records;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::id::{CheckpointId, ChunkId, PackId};
use crate::progress::{self, Observer};
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::history::{self, Place};
use crate::store::pack_file::PackFile;
use crate::store::packs;
use crate::store::{disk, path, tags};
use crate::verify::graph::Graph;
use crate::verify::records::Work;

/// Times that a collection may run under a verification before what it found is reported.
const RETRIES: usize = 3;

/// How much of the data is decoded and hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadData {
    /// None: checksums only.
    #[default]
    None,
    /// About that many percent of the chunks, the same ones every time.
    Percent(u8),
    /// Every chunk.
    All,
}

impl ReadData {
    fn takes(self, chunk: &ChunkId) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Percent(percent) => {
                let [low, high, ..] = chunk.0;
                u16::from_le_bytes([low, high]) % 100 < u16::from(percent)
            }
        }
    }
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Only this checkpoint and what it needs; everything if `None`.
    pub revision: Option<String>,
    /// How much of the data is decoded and hashed.
    pub data: ReadData,
}

/// A checkpoint that a problem hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its run.
    pub run: String,
    /// Its place in the run.
    pub seq: u64,
    /// Its id.
    pub id: CheckpointId,
    /// Its step, unless its manifest cannot be read.
    pub step: Option<u64>,
    /// The tensors that cannot be restored.
    pub tensors: Vec<String>,
    /// The blobs that cannot be restored.
    pub blobs: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct Problem {
    /// What is wrong, in which file, at which byte.
    pub error: Error,
    /// The chunk that is damaged, if it is one.
    pub chunk: Option<ChunkId>,
    /// The checkpoints that cannot be restored in full because of it.
    pub hits: Vec<Hit>,
}

/// What a verification found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Checkpoints looked at.
    pub checkpoints: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Records whose checksum was computed.
    pub records: u64,
    /// Bytes of those records.
    pub record_bytes: u64,
    /// Chunks that the checkpoints need.
    pub chunks: u64,
    /// Chunks that were decoded and hashed.
    pub decoded_chunks: u64,
    /// Bytes of those chunks.
    pub decoded_bytes: u64,
    /// Relaxed saves that a power cut took: nothing that was to last.
    pub lost: u64,
    /// Packs that no checkpoint needs or names; counted only if the whole store is verified.
    pub unneeded_packs: u64,
    /// Bytes of those packs.
    pub unneeded_bytes: u64,
    /// What is wrong, by file and offset.
    pub problems: Vec<Problem>,
}

/// What is wrong so far.
#[derive(Default)]
struct Findings {
    /// Of a chunk's record: what is hit follows from the chunk.
    chunks: BTreeMap<ChunkId, Error>,
    /// Packs that cannot be read.
    packs: BTreeMap<PackId, Error>,
    /// Everything else, with what it hits.
    others: Vec<(Error, Vec<Hit>)>,
}

impl Store {
    /// Verifies the store, or one checkpoint of it. Damage is in the report, not an error.
    ///
    /// # Errors
    /// `NotFound` if the revision names no checkpoint, `Interrupted`, or if the storage refuses.
    pub fn verify(&self, options: &VerifyOptions, observer: &dyn Observer) -> Result<VerifyReport> {
        for _ in 0..RETRIES {
            let before = self.files_that_matter()?;
            let report = self.verify_once(options, observer)?;
            // A collection that runs meanwhile looks like damage; then look again.
            if report.problems.is_empty() || before.is_subset(&self.files_that_matter()?) {
                return Ok(report);
            }
        }
        self.verify_once(options, observer)
    }

    /// The packs and manifests that there are.
    fn files_that_matter(&self) -> Result<BTreeSet<String>> {
        let disk = &*self.0.disk;
        let packs = packs::list(disk)?;
        let mut files: BTreeSet<String> =
            packs.iter().map(|id| path::pack(id).to_string()).collect();
        for place in history::all_places(disk)? {
            files.insert(path::manifest(&place.run, place.seq, &place.id)?.to_string());
        }
        Ok(files)
    }

    fn verify_once(
        &self,
        options: &VerifyOptions,
        observer: &dyn Observer,
    ) -> Result<VerifyReport> {
        let disk = &*self.0.disk;
        let mut findings = Findings::default();
        let places = self.places_to_verify(options)?;
        let whole_store = options.revision.is_none();
        let mut report = VerifyReport {
            checkpoints: places.len() as u64,
            ..VerifyReport::default()
        };
        let manifests = Manifests::read(self, places, &mut findings, observer)?;
        let catalog = Catalog::default();
        let mut packs = if whole_store {
            packs::list(disk)?
        } else {
            manifests.hinted.iter().copied().collect()
        };
        open_packs(self, &catalog, &packs, &mut findings, observer)?;
        let mut graph = Graph::new(&catalog, manifests.needed.keys());
        if !whole_store && !graph.is_whole() {
            // Hints may be stale: another pack may hold the chunks by now.
            packs = packs::list(disk)?;
            findings.packs.clear();
            open_packs(self, &catalog, &packs, &mut findings, observer)?;
            graph = Graph::new(&catalog, manifests.needed.keys());
        }
        if !graph.is_whole() {
            // Of two codings that a killed compaction left, one may lack what it was coded against.
            let mut sound = HashSet::new();
            for chunk in manifests.needed.keys() {
                catalog.pass_over_unsound(chunk, &mut sound);
            }
            graph = Graph::new(&catalog, manifests.needed.keys());
        }
        note_missing_packs(&catalog, &graph, &manifests, &mut findings);
        report.lost = manifests.lost;
        report.packs = packs.len() as u64;
        report.chunks = manifests.needed.len() as u64;
        check_lengths(&catalog, &manifests.needed, &mut findings);
        findings.chunks.extend(graph.errors());
        if whole_store {
            count_unneeded(&catalog, &graph, &manifests, &packs, &mut report);
            if graph.missing.is_empty() {
                // What a save had begun when it was cut off is of no use to anybody, whole or not.
                findings.packs.retain(|id, _| manifests.hinted.contains(id));
            }
            check_tags(self, &mut findings)?;
            let obstacles = history::obstacles(disk)?.into_iter();
            findings
                .others
                .extend(obstacles.map(|error| (error, Vec::new())));
        }
        let work = Work::new(&catalog, &graph, &packs, whole_store, options.data);
        work.check_records(self, &mut report, &mut findings, observer)?;
        work.decode_chunks(self, &graph, &mut report, &mut findings, observer)?;
        report.problems = hits::problems(self, &manifests.places, &graph, findings)?;
        Ok(report)
    }

    fn places_to_verify(&self, options: &VerifyOptions) -> Result<Vec<Place>> {
        if let Some(revision) = &options.revision {
            return Ok(vec![self.resolve(revision)?]);
        }
        history::all_places(&*self.0.disk)
    }
}

/// What the manifests call for.
#[derive(Default)]
struct Manifests {
    /// Those that can be read.
    places: Vec<Place>,
    /// The chunks that they need, with the length each must have.
    needed: HashMap<ChunkId, u64>,
    /// The packs that they name.
    hinted: BTreeSet<PackId>,
    /// Relaxed saves that a power cut took.
    lost: u64,
}

impl Manifests {
    fn read(
        store: &Store,
        places: Vec<Place>,
        findings: &mut Findings,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let mut manifests = Self::default();
        for place in places {
            progress::check(observer)?;
            match history::read_manifest(&*store.0.disk, &place) {
                Ok(manifest) => manifests.add(place, &manifest),
                // Removed since it was listed.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // What a relaxed save may come to is no damage.
                Err(_) if history::is_lost(&*store.0.disk, &place) => manifests.lost += 1,
                Err(error) => findings
                    .others
                    .push((error, vec![hits::unreadable(&place)])),
            }
        }
        Ok(manifests)
    }

    fn add(&mut self, place: Place, manifest: &Manifest) {
        let body = &manifest.body;
        let kept = |(place, _): &(usize, _)| !manifest.is_dropped(*place);
        let tensors = body.tensors.iter().enumerate().filter(kept);
        let tensors = tensors.map(|(_, t)| (t.cut(), &t.chunks));
        let blobs = body.blobs.iter().map(|b| (b.cut(), &b.chunks));
        for (cut, chunks) in tensors.chain(blobs) {
            for (index, chunk) in (0..).zip(chunks) {
                let range = cut.range(index);
                self.needed.insert(*chunk, range.end - range.start);
            }
        }
        self.hinted
            .extend(manifest.packs.iter().map(|hint| hint.pack));
        self.places.push(place);
    }
}

/// Reads every index into the catalog: envelope, trailer, hash and entries are checked. A pack
/// may be gone, if others hold its chunks by now; else they will be missing.
fn open_packs(
    store: &Store,
    catalog: &Catalog,
    packs: &[PackId],
    findings: &mut Findings,
    observer: &dyn Observer,
) -> Result<()> {
    for id in packs {
        progress::check(observer)?;
        if catalog.pack_len(id).is_some() {
            continue;
        }
        match PackFile::open(&*store.0.disk, id) {
            Ok(mut pack) => catalog.add(*id, pack.len(), pack.take_index()),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                findings.packs.insert(*id, error);
            }
        }
    }
    Ok(())
}

/// Counts what saves that failed, or checkpoints that are gone, have left.
fn count_unneeded(
    catalog: &Catalog,
    graph: &Graph,
    manifests: &Manifests,
    packs: &[PackId],
    report: &mut VerifyReport,
) {
    let mut needed = manifests.hinted.clone();
    let located = graph.closure.iter().filter_map(|chunk| catalog.find(chunk));
    needed.extend(located.map(|l| l.pack));
    for pack in packs.iter().filter(|pack| !needed.contains(pack)) {
        report.unneeded_packs += 1;
        report.unneeded_bytes += catalog.pack_len(pack).unwrap_or_default();
    }
}

/// If chunks are missing, the packs that are named and not there are the likely reason.
fn note_missing_packs(
    catalog: &Catalog,
    graph: &Graph,
    manifests: &Manifests,
    findings: &mut Findings,
) {
    if graph.missing.is_empty() {
        return;
    }
    for id in manifests
        .hinted
        .iter()
        .filter(|id| catalog.pack_len(id).is_none())
    {
        findings.packs.entry(*id).or_insert_with(|| {
            Error::corrupt(hits::PACK_MISSING, "a pack that is needed is not there")
                .file(path::pack(id))
        });
    }
}

/// Holds that each chunk is as long as its tensors call for.
fn check_lengths(catalog: &Catalog, needed: &HashMap<ChunkId, u64>, findings: &mut Findings) {
    for (chunk, len) in needed {
        let Some(located) = catalog.find(chunk) else {
            continue;
        };
        if u64::from(located.entry.raw_len) != *len {
            let error = Error::corrupt(
                "chunk-length",
                "a chunk is of another length than its tensor calls for",
            )
            .file(path::pack(&located.pack))
            .offset(located.entry.offset)
            .subject(format!("chunk {chunk}"))
            .differs(len, located.entry.raw_len);
            findings.chunks.insert(*chunk, error);
        }
    }
}

/// Holds that every tag can be read.
fn check_tags(store: &Store, findings: &mut Findings) -> Result<()> {
    let disk = &*store.0.disk;
    for entry in disk.list(&path::folder(path::Folder::Tags))? {
        let is_tag =
            entry.kind == disk::EntryKind::File && crate::format::name::is_valid(&entry.name);
        if let (true, Err(error)) = (is_tag, tags::read(disk, &entry.name)) {
            findings.others.push((error, Vec::new()));
        }
    }
    Ok(())
}
