//! The order of a commit (format-spec.md section 15.3): packs, then the manifest, each durable
//! before the next step relies on it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::chain::Bounds;
use crate::chunking::{self, Cut};
use crate::codec;
use crate::dtype::{self, Lane};
use crate::error::{Error, ErrorKind, Result};
use crate::format::body::{BlobEntry, Body, TensorEntry};
use crate::format::manifest::Manifest;
use crate::format::placement::{Durability, PackHint, Placement, TensorStatistics};
use crate::id::ChunkId;
use crate::progress::Observer;
use crate::restore::Checkpoint;
use crate::save::chunk::{self, ChunkSaver};
use crate::save::draft::Draft;
use crate::save::pipeline::{self, Item};
use crate::save::probe::Probe;
use crate::save::{Full, SaveReport};
use crate::store::Store;
use crate::store::cache;
use crate::store::catalog::{Catalog, missing_chunk};
use crate::store::disk::{Disk, LockMode, Published};
use crate::store::history::{self, Place};
use crate::store::pack_file::{PackFile, PackWriter, SealedPack};
use crate::store::path;
use crate::store::tags;
use crate::store::txn::{self, Transaction};

/// A pack is closed and another begun beyond this many bytes.
const PACK_LEN_TARGET: u64 = 1 << 30;
/// Caches are looked after every so many checkpoints of a run.
const CACHE_EVERY: u64 = 64;

/// Saves a draft: four hops, from the caller's bytes to a published manifest.
pub(crate) fn commit(draft: &Draft<'_>, observer: &dyn Observer) -> Result<SaveReport> {
    let store = &draft.store;
    let txn = store.begin()?;
    load_catalog(&draft.store, draft.parent())?;
    let full = full_kind(draft);
    let mut body = empty_body(draft, store.settings().chunk_len);
    body.chunk_count()?;
    let items = items(draft, &body);
    let written = write_packs(draft, &txn, full, &items, &mut body, observer)?;
    let manifest = Manifest::new(body, Placement::default(), Vec::new(), written.statistics)?;
    publish(
        store,
        &txn,
        manifest,
        Publication {
            run: &draft.options.run,
            parent: draft.parent_arc().map(|p| &**p),
            durability: draft.options.durability,
            packs: &written.packs,
            new_chunks: written.new_chunks,
            full,
            tags: &draft.options.tags,
        },
    )
}

/// Commits a checkpoint of a new run that holds what `source` holds.
pub(crate) fn fork(store: &Store, source: &Checkpoint, run: &str) -> Result<SaveReport> {
    let txn = store.begin()?;
    let from = source.manifest();
    load_catalog(store, Some(source))?;
    let body = Body {
        parent: Some(source.id()),
        ..from.body.clone()
    };
    let unchanged = vec![TensorStatistics::default(); body.tensors.len()];
    let manifest = Manifest::new(body, Placement::default(), Vec::new(), unchanged)?;
    publish(
        store,
        &txn,
        manifest,
        Publication {
            run,
            parent: Some(source),
            durability: Durability::Durable,
            packs: &[],
            new_chunks: 0,
            full: Full::Auto,
            tags: &[],
        },
    )
}

/// Makes the records known that chunks of this save may refer to.
fn load_catalog(store: &Store, parent: Option<&Checkpoint>) -> Result<()> {
    let store = &store.0;
    // A relaxed parent vouches for nothing: the device may have refused its bytes since.
    let parent = parent.map(Checkpoint::manifest);
    if let Some(parent) = parent.filter(|m| m.placement.durability != Durability::Relaxed) {
        store.catalog.load_hinted(&*store.disk, &parent.packs)?;
    }
    // Other processes' packs are looked for once; what they add later is at worst stored twice.
    if !store.catalog.is_complete() {
        store.catalog.load_all(&*store.disk)?;
    }
    Ok(())
}

fn full_kind(draft: &Draft<'_>) -> Full {
    let every = u64::from(draft.store.settings().full_every);
    let seq = draft.parent().map_or(0, |p| p.manifest().placement.seq);
    let periodic = every > 0 && seq.is_multiple_of(every);
    if draft.options.full == Full::Auto && periodic {
        Full::Shared
    } else {
        draft.options.full
    }
}

/// The body without chunk ids.
fn empty_body(draft: &Draft<'_>, chunk_len: u32) -> Body {
    let tensor = |(name, t): (&String, &crate::save::draft::DraftTensor<'_>)| TensorEntry {
        name: name.clone(),
        dtype: t.dtype,
        byte_len: dtype::elements(&t.shape)
            .and_then(|n| t.dtype.byte_len(n))
            .unwrap_or_default(),
        shape: t.shape.clone(),
        chunk_elements: chunking::chunk_elements(chunk_len, t.dtype.bits()),
        chunks: Vec::new(),
    };
    let blob = |(name, (_, byte_len)): (&String, &(_, u64))| BlobEntry {
        name: name.clone(),
        byte_len: *byte_len,
        chunk_len: u64::from(chunk_len),
        chunks: Vec::new(),
    };
    Body {
        parent: draft.parent().map(Checkpoint::id),
        step: draft.step(),
        metadata: draft.metadata.clone(),
        metrics: draft.metrics.clone(),
        tensors: draft.tensors.iter().map(tensor).collect(),
        blobs: draft.blobs.iter().map(blob).collect(),
    }
}

/// Tensors first, then blobs: the order of the body.
fn items<'a>(draft: &'a Draft<'_>, body: &Body) -> Vec<Item<'a>> {
    let parent = draft.parent().map(|p| &p.manifest().body);
    let alike = |cut: Cut, found: Option<(Cut, &'a [ChunkId])>| match found {
        Some((parent_cut, chunks)) if parent_cut == cut => chunks,
        _ => &[],
    };
    let tensors = draft
        .tensors
        .values()
        .zip(&body.tensors)
        .map(|(t, entry)| Item {
            source: t.source,
            lane: t.dtype.lane(),
            cut: entry.cut(),
            parent_chunks: alike(
                entry.cut(),
                parent
                    .and_then(|p| p.tensor(&entry.name))
                    .filter(|p| p.dtype == entry.dtype)
                    .map(|p| (p.cut(), p.chunks.as_slice())),
            ),
            row_len: row_len(entry),
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
        });
    let blobs = draft
        .blobs
        .values()
        .zip(&body.blobs)
        .map(|((source, _), entry)| Item {
            source: *source,
            lane: Lane {
                width: 1,
                float: false,
            },
            cut: entry.cut(),
            parent_chunks: alike(
                entry.cut(),
                parent
                    .and_then(|p| p.blob(&entry.name))
                    .map(|p| (p.cut(), p.chunks.as_slice())),
            ),
            row_len: None,
            base_probe: Probe::default(),
            grid_probe: Probe::default(),
        });
    tensors.chain(blobs).collect()
}

/// Lanes in a row of a tensor, where it is a table.
fn row_len(entry: &TensorEntry) -> Option<usize> {
    let lane_bits = entry.dtype.lane().width as u64 * 8;
    let elements = chunking::row_elements(&entry.shape, entry.chunk_elements)?;
    let bits = elements.checked_mul(entry.dtype.bits())?;
    let lanes = (bits % lane_bits == 0).then_some(bits / lane_bits)?;
    usize::try_from(lanes).ok()
}

/// What the second and third hop made.
struct Written {
    packs: Vec<SealedPack>,
    statistics: Vec<TensorStatistics>,
    new_chunks: u64,
}

fn write_packs(
    draft: &Draft<'_>,
    txn: &Transaction,
    full: Full,
    items: &[Item<'_>],
    body: &mut Body,
    observer: &dyn Observer,
) -> Result<Written> {
    let store = &draft.store;
    let disk = &*store.0.disk;
    let durability = draft.options.durability;
    let saver = ChunkSaver {
        store,
        bounds: Bounds::from(store.settings()),
        level: draft.options.level.unwrap_or(store.settings().level),
        full,
        verify: durability == Durability::Verified,
        claimed: Mutex::default(),
    };
    let durable = durability != Durability::Relaxed;
    let mut written = Written {
        packs: Vec::new(),
        statistics: vec![TensorStatistics::default(); body.tensors.len()],
        new_chunks: 0,
    };
    let mut open: Option<PackWriter> = None;
    let pieces = pipeline::pieces(items);
    pipeline::run(&saver, items, &pieces, observer, |piece, saved| {
        if let Some(statistics) = written.statistics.get_mut(piece.item) {
            statistics.changed_elements += saved.changed_lanes;
            statistics.stored_bytes += saved
                .record
                .as_ref()
                .map_or(0, |(record, _)| record.len() as u64);
            statistics.new_chunks += u64::from(saved.record.is_some());
        }
        chunks_of(body, piece.item).push(saved.id);
        let Some((record, entry)) = saved.record else {
            return Ok(());
        };
        written.new_chunks += 1;
        let writer = match &mut open {
            Some(writer) => writer,
            none => none.insert(PackWriter::create(disk, txn.id)?),
        };
        writer.append(&record, entry)?;
        if writer.len() >= PACK_LEN_TARGET {
            written
                .packs
                .extend(open.take().map(|w| w.seal(disk, durable)).transpose()?);
        }
        Ok(())
    })?;
    written
        .packs
        .extend(open.take().map(|w| w.seal(disk, durable)).transpose()?);
    for pack in &written.packs {
        pack.add_to(&store.0.catalog);
    }
    scale_to_elements(body, &mut written.statistics);
    Ok(written)
}

fn chunks_of(body: &mut Body, item: usize) -> &mut Vec<ChunkId> {
    let tensors = body.tensors.len();
    match item.checked_sub(tensors) {
        None => &mut body.tensors[item].chunks,
        Some(blob) => &mut body.blobs[blob].chunks,
    }
}

/// Lanes to elements: a complex element has two lanes, a sub-byte lane several elements.
fn scale_to_elements(body: &Body, statistics: &mut [TensorStatistics]) {
    for (tensor, s) in body.tensors.iter().zip(statistics) {
        let lane_bits = tensor.dtype.lane().width as u64 * 8;
        s.changed_elements = s
            .changed_elements
            .saturating_mul(lane_bits)
            .div_ceil(tensor.dtype.bits());
    }
}

/// What the last hop needs beside the manifest.
struct Publication<'p> {
    run: &'p str,
    parent: Option<&'p Checkpoint>,
    durability: Durability,
    packs: &'p [SealedPack],
    new_chunks: u64,
    full: Full,
    tags: &'p [String],
}

impl<'p> Publication<'p> {
    /// The packs that must hold everything, if the checkpoint is to share with no other.
    fn own_only(&self) -> Option<&'p [SealedPack]> {
        (self.full == Full::SelfContained).then_some(self.packs)
    }
}

/// Completes the manifest, makes everything it needs durable, and gives it its name: the
/// commit point.
fn publish(
    store: &Store,
    txn: &Transaction,
    mut manifest: Manifest,
    save: Publication<'_>,
) -> Result<SaveReport> {
    let disk = &*store.0.disk;
    let closure = store.with_every_pack(&[], manifest.body.chunks(), || {
        Closure::of(store, &manifest.body, save.own_only())
    })?;
    manifest.packs.clone_from(&closure.packs);
    require_packs(store, &closure.packs)?;
    if save.durability != Durability::Relaxed {
        sync_packs(store, save.parent, save.packs, &closure.packs)?;
    }
    if save.durability == Durability::Verified {
        verify_packs(store, save.packs)?;
    }
    let run_folder = path::run_folder(save.run)?;
    let _ordered = txn::wait_for(disk, &path::run_lock(save.run)?, LockMode::Exclusive)?;
    disk.make_folder(&run_folder)?;
    let places = history::places(disk, save.run)?;
    if let Some(existing) = same_step(store, &places, &manifest)? {
        let existing = match save.durability {
            Durability::Relaxed => existing,
            durability => make_durable(store, txn, existing, durability, &closure)?,
        };
        set_tags(store, txn, &existing, save.tags)?;
        return Ok(report(&existing, 0, true));
    }
    manifest.placement = Placement {
        run: save.run.to_owned(),
        seq: next_seq(&places)?,
        time_ms: (store.0.options.clock)(),
        full: closure.depth == 0,
        depth: closure.depth,
        logical_bytes: manifest.body.logical_bytes(),
        added_bytes: save
            .packs
            .iter()
            .filter(|p| p.new)
            .map(|p| p.hint.len)
            .sum(),
        restore_cost: closure.cost,
        chunks: closure.chunks,
        new_chunks: save.new_chunks,
        durability: save.durability,
        boot: if save.durability == Durability::Relaxed {
            disk.boot_id()
        } else {
            [0; 16]
        },
    };
    let bytes = manifest.encode(&codec::compress_section)?;
    write_manifest(store, txn, &manifest, &bytes)?;
    store.0.history.add(&manifest, bytes.len() as u64);
    after_commit(store, txn, &manifest, save.tags)?;
    Ok(report(&manifest, bytes.len() as u64, false))
}

fn next_seq(places: &[Place]) -> Result<u64> {
    let last = places.last().map_or(0, |p| p.seq);
    last.checked_add(1).ok_or_else(|| {
        Error::new(
            ErrorKind::Limit,
            "run-full",
            "the run has used its last number",
        )
        .hint("fork a new run")
    })
}

fn write_manifest(
    store: &Store,
    txn: &Transaction,
    manifest: &Manifest,
    bytes: &[u8],
) -> Result<()> {
    let disk = &*store.0.disk;
    let placement = &manifest.placement;
    let path = path::manifest(&placement.run, placement.seq, &manifest.id)?;
    let durable = placement.durability != Durability::Relaxed;
    let mut file = disk.create(txn.id)?;
    file.write(bytes)?;
    if durable {
        // The run's folder must have its own name before a name in it can count.
        disk.sync(&path.parent().parent())?;
        file.sync()?;
    }
    if file.publish(&path)? == Published::Exists {
        return Err(Error::new(
            ErrorKind::Conflict,
            "manifest-exists",
            "another writer took this place in the run",
        )
        .file(&path)
        .hint("save again"));
    }
    if durable {
        disk.sync(&path.parent())?;
    }
    Ok(())
}

/// Makes a checkpoint durable that the run has already: who saved it may have asked for less, or
/// died before its name was synced. What it needs is durable by now.
fn make_durable(
    store: &Store,
    txn: &Transaction,
    mut existing: Manifest,
    durability: Durability,
    closure: &Closure,
) -> Result<Manifest> {
    let disk = &*store.0.disk;
    let placement = &mut existing.placement;
    let path = path::manifest(&placement.run, placement.seq, &existing.id)?;
    disk.sync(&path.parent().parent())?;
    if placement.durability == Durability::Relaxed {
        placement.durability = durability;
        placement.boot = [0; 16];
        placement.full = closure.depth == 0;
        placement.depth = closure.depth;
        placement.restore_cost = closure.cost;
        existing.packs.clone_from(&closure.packs);
        let bytes = existing.encode(&codec::compress_section)?;
        let mut file = disk.create(txn.id)?;
        file.write(&bytes)?;
        file.sync()?;
        // A cached summary may call it relaxed.
        cache::discard(disk, cache::SUMMARIES)?;
        file.replace(&path)?;
        store.0.history.add(&existing, bytes.len() as u64);
    }
    disk.sync(&path.parent())?;
    Ok(existing)
}

/// Makes the bytes of a file durable that was named without that. Whoever opens it next reads
/// what the device has: of a sync that failed, only the first caller is told, and the kernel
/// goes on showing the bytes that it could not write.
fn sync_named(disk: &dyn Disk, path: &path::StorePath) -> Result<()> {
    let synced = disk.sync(path);
    disk.open(path)?.forget_cached();
    synced
}

/// A tag that was asked for and not set is an error, though the checkpoint is committed.
fn set_tags(store: &Store, txn: &Transaction, manifest: &Manifest, tags: &[String]) -> Result<()> {
    tags.iter()
        .try_for_each(|tag| tags::write(&*store.0.disk, txn.id, tag, &manifest.id))
}

/// Tags and caches: the checkpoint is committed whatever happens here.
fn after_commit(
    store: &Store,
    txn: &Transaction,
    manifest: &Manifest,
    tags: &[String],
) -> Result<()> {
    let disk = &*store.0.disk;
    set_tags(store, txn, manifest, tags)?;
    if manifest.placement.seq.is_multiple_of(CACHE_EVERY) {
        let refreshed = store.0.history.refresh_cache(disk, txn.id).and_then(|()| {
            cache::refresh_indexes(disk, txn.id, &crate::store::catalog::list_packs(disk)?)
        });
        if let Err(error) = refreshed {
            tracing::warn!(%error, "a cache was not written");
        }
    }
    Ok(())
}

/// Everything that restoring a checkpoint needs.
struct Closure {
    packs: Vec<PackHint>,
    depth: u8,
    cost: u64,
    chunks: u64,
}

impl Closure {
    /// With `own`, the records of these packs are taken, whatever else the store has.
    fn of(store: &Store, body: &Body, own: Option<&[SealedPack]>) -> Result<Self> {
        let own = own.map(|packs| {
            let own = Catalog::default();
            packs.iter().for_each(|pack| pack.add_to(&own));
            own
        });
        let catalog = own.as_ref().unwrap_or(&store.0.catalog);
        let mut closure = Self {
            packs: Vec::new(),
            depth: 0,
            cost: 0,
            chunks: 0,
        };
        let mut seen: HashSet<ChunkId> = HashSet::new();
        let mut packs: HashMap<crate::id::PackId, u64> = HashMap::new();
        for chunk in body.chunks() {
            if !catalog.settle(&*store.0.disk, chunk)? {
                return Err(missing_chunk(chunk));
            }
            let located = catalog.find(chunk).ok_or_else(|| missing_chunk(chunk))?;
            closure.chunks += 1;
            closure.depth = closure.depth.max(located.entry.depth);
            closure.cost += u64::from(located.entry.cost);
            let mut stack = vec![*chunk];
            while let Some(next) = stack.pop() {
                if !seen.insert(next) {
                    continue;
                }
                let located = catalog.find(&next).ok_or_else(|| missing_chunk(&next))?;
                packs.insert(
                    located.pack,
                    catalog.pack_len(&located.pack).unwrap_or_default(),
                );
                stack.extend(&located.entry.inputs);
            }
        }
        closure.packs = packs
            .into_iter()
            .map(|(pack, len)| PackHint { pack, len })
            .collect();
        closure.packs.sort_unstable_by_key(|hint| hint.pack);
        Ok(closure)
    }
}

/// Holds that every pack found by dedup is still there: a collector may have run meanwhile.
fn require_packs(store: &Store, packs: &[PackHint]) -> Result<()> {
    for hint in packs {
        let opened = PackFile::open_for_records(&*store.0.disk, &hint.pack);
        if let Err(error) = opened.and_then(|pack| pack.require_len(hint.len)) {
            // What this process knows of the store is out of date.
            store.forget_packs();
            return Err(error.hint("the store changed during the save; save again"));
        }
    }
    Ok(())
}

/// Makes packs and their names durable. What the parent needs is so already if the parent is
/// durable; packs of others, found by dedup, may not be.
fn sync_packs(
    store: &Store,
    parent: Option<&Checkpoint>,
    own: &[SealedPack],
    needed: &[PackHint],
) -> Result<()> {
    let disk = &*store.0.disk;
    let parent = parent
        .map(Checkpoint::manifest)
        .filter(|m| m.placement.durability != Durability::Relaxed);
    let settled: HashSet<_> = parent
        .iter()
        .flat_map(|m| &m.packs)
        .map(|h| h.pack)
        .collect();
    let own: HashSet<_> = own.iter().filter(|p| p.new).map(|p| p.hint.pack).collect();
    let mut folders = HashSet::new();
    for hint in needed {
        let (path, is_own) = (path::pack(&hint.pack), own.contains(&hint.pack));
        if settled.contains(&hint.pack) && !is_own {
            continue;
        }
        if !is_own {
            let proved =
                sync_named(disk, &path).and_then(|()| PackFile::open(disk, &hint.pack)?.prove());
            if let Err(error) = proved {
                store.forget_packs();
                return Err(error.hint("save again: what another save left could not be kept"));
            }
        }
        folders.insert(path.parent());
    }
    let mut folders: Vec<_> = folders.into_iter().collect();
    folders.sort_unstable();
    for folder in &folders {
        disk.sync(folder)?;
    }
    // A folder may be new; its own name must last as well.
    folders
        .first()
        .map_or(Ok(()), |folder| disk.sync(&folder.parent()))
}

/// Reads every new record back from the device and decodes it.
fn verify_packs(store: &Store, packs: &[SealedPack]) -> Result<()> {
    let mut held = store.decoder();
    for sealed in packs {
        let pack = store
            .0
            .catalog
            .open_pack(&*store.0.disk, &sealed.hint.pack)?;
        pack.forget_cached();
        for entry in &sealed.entries {
            chunk::read_back(store, &entry.chunk, &mut held.decoder)?;
        }
    }
    Ok(())
}

/// The run's checkpoint of the same step, if it is the very same; another one is a conflict.
fn same_step(store: &Store, places: &[Place], manifest: &Manifest) -> Result<Option<Manifest>> {
    let disk = &*store.0.disk;
    let listing = store.0.history.summaries(disk, places.to_vec())?;
    let Some(found) = listing
        .checkpoints
        .iter()
        .find(|s| s.step == manifest.body.step)
    else {
        return Ok(None);
    };
    let existing = match history::read_manifest(disk, &found.place()) {
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            store.0.history.forget(&found.place());
            return Ok(None);
        }
        read => read?,
    };
    let same = Body {
        parent: None,
        ..existing.body.clone()
    }
    .encode()?
        == Body {
            parent: None,
            ..manifest.body.clone()
        }
        .encode()?;
    if same {
        return Ok(Some(existing));
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "step-exists",
        format!(
            "run {:?} has another checkpoint of step {}",
            found.placement.run, found.step
        ),
    )
    .subject(format!("checkpoint {}", found.id.short()))
    .hint("fork a new run at the checkpoint that was resumed from, or save another step"))
}

fn report(manifest: &Manifest, manifest_len: u64, existed: bool) -> SaveReport {
    let placement = &manifest.placement;
    SaveReport {
        id: manifest.id,
        run: placement.run.clone(),
        seq: placement.seq,
        step: manifest.body.step,
        existed,
        full: placement.full,
        depth: placement.depth,
        logical_bytes: placement.logical_bytes,
        added_bytes: if existed {
            0
        } else {
            placement.added_bytes + manifest_len
        },
        restore_cost: placement.restore_cost,
        chunks: placement.chunks,
        new_chunks: if existed { 0 } else { placement.new_chunks },
    }
}
