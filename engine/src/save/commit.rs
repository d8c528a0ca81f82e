//! The first hops of a save: a draft is cut, its chunks are encoded and written into packs. The
//! last hop, which makes a checkpoint of them, is `publish.rs`.

use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::chain::Bounds;
use crate::error::Result;
use crate::format::body::Body;
use crate::format::manifest::Manifest;
use crate::format::placement::{Durability, Placement, TensorStatistics};
use crate::id::ChunkId;
use crate::progress::{Observer, Unobserved};
use crate::restore::Checkpoint;
use crate::save::chunk::ChunkSaver;
use crate::save::draft::Draft;
use crate::save::encoder::ChunkEncoder;
use crate::save::family::{self, Family};
use crate::save::items::{empty_body, items, relations};
use crate::save::like::{self, Alike, Likeness};
use crate::save::new_packs::NewPacks;
use crate::save::parts::Parts;
use crate::save::pipeline::{self, Item};
use crate::save::probe::Probe;
use crate::save::publish::{Publication, keep_closure, publish};
use crate::save::room::{self, Allowance};
use crate::save::spare::Spare;
use crate::save::stored_relations;
use crate::save::taken;
use crate::save::{Full, SaveReport};
use crate::store::Store;
use crate::store::history;
use crate::store::pack_file::SealedPack;
use crate::store::txn::Transaction;

/// Saves a draft: four hops, from the caller's bytes to a published manifest.
pub(crate) fn commit(draft: &Draft<'_>, observer: &dyn Observer) -> Result<SaveReport> {
    let store = &draft.store;
    store.close_removed_packs();
    if !draft.parts.is_empty() {
        // Its writers keep collectors away, so no room can be made now.
        let txn = store.begin_beside_others(observer)?;
        return store
            .with_packs_there(|| commit_within(draft, &txn, &Allowance::of(store)?, observer));
    }
    room::with_room(store, observer, |needed| {
        let txn = store.begin(observer)?;
        store.with_packs_there(|| {
            let room = Allowance::of(store)?;
            let saved = commit_within(draft, &txn, &room, observer);
            needed.store(room.asked(), Ordering::Relaxed);
            saved
        })
    })
}

fn commit_within(
    draft: &Draft<'_>,
    txn: &Transaction,
    room: &Allowance,
    observer: &dyn Observer,
) -> Result<SaveReport> {
    let store = &draft.store;
    draft.parts.require_whole(&*store.0.disk)?;
    let (mut body, mut written) = write(draft, txn, Whole::Yes, room, observer)?;
    draft.parts.merge_into(&mut body, &mut written.statistics)?;
    body.chunk_count()?;
    let statistics = std::mem::take(&mut written.statistics);
    let mut manifest = Manifest::new(body, Placement::default(), Vec::new(), statistics)?;
    let mut related = draft.parts.relations();
    related.extend(draft.relations.clone());
    manifest.relations = stored_relations::to_places(&related, &manifest.body)?;
    let publication = publication(draft, room, &written, observer);
    let mut report = publish(store, txn, manifest, publication)?;
    report.like = written.like;
    Ok(report)
}

/// Saves a draft up to the point where it could be published: its packs are kept, and what is
/// returned names them.
pub(super) fn write_part(
    draft: &Draft<'_>,
    txn: &Transaction,
    observer: &dyn Observer,
) -> Result<Manifest> {
    let store = &draft.store;
    let room = Allowance::of(store)?;
    let (body, mut written) = write(draft, txn, Whole::No, &room, observer)?;
    let statistics = std::mem::take(&mut written.statistics);
    let mut manifest = Manifest::new(body, Placement::default(), Vec::new(), statistics)?;
    manifest.relations = stored_relations::to_places(&draft.relations, &manifest.body)?;
    let save = publication(draft, &room, &written, observer);
    let closure = keep_closure(store, txn, &mut manifest, &save)?;
    closure.describe(&mut manifest);
    manifest.placement.added_bytes = save.added_bytes();
    manifest.placement.new_chunks = save.new_chunks;
    Ok(manifest)
}

fn publication<'p>(
    draft: &'p Draft<'_>,
    room: &'p Allowance,
    written: &'p Written,
    observer: &'p dyn Observer,
) -> Publication<'p> {
    Publication {
        run: &draft.options.run,
        durability: draft.options.durability,
        room,
        packs: &written.packs,
        parts: &draft.parts,
        new_chunks: written.new_chunks,
        full: full_kind(draft),
        tags: &draft.options.tags,
        new_run: false,
        time_ms: None,
        observer,
    }
}

/// Whether a draft is all that its checkpoint will hold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// The first three hops: cuts, encodes and writes the tensors and blobs of a draft.
fn write(
    draft: &Draft<'_>,
    txn: &Transaction,
    whole: Whole,
    room: &Allowance,
    observer: &dyn Observer,
) -> Result<(Body, Written)> {
    let store = &draft.store;
    load_catalog(store, draft.parent())?;
    draft.parts.load(store)?;
    let mut body = empty_body(draft, store.settings().chunk_len);
    let relations = relations(draft, &mut body)?;
    body.chunk_count()?;
    if whole == Whole::Yes && draft.parts.is_empty() {
        let nothing = Likeness::default();
        let items = items(draft, &body, &relations, &nothing);
        taken::refuse(draft, &body, &items, observer)?;
    }
    let mut likeness = match full_kind(draft) {
        Full::Auto => like::find(draft, &body, observer)?,
        _ => Likeness::default(),
    };
    let alike = likeness.alike.take();
    let items = items(draft, &body, &relations, &likeness);
    let families = family::families(&items, &relations);
    let work = (&*items, &*families);
    let mut written = write_packs(draft, txn, work, &mut body, room, observer)?;
    written.like = alike;
    Ok((body, written))
}

/// Commits a checkpoint of a new run that holds what `source` holds.
pub(crate) fn fork(store: &Store, source: &Checkpoint, run: &str) -> Result<SaveReport> {
    let txn = store.begin(&Unobserved)?;
    // Until now a collector could take it away.
    let source = &store.checkpoint_at(&source.place())?;
    store.with_packs_there(|| fork_within(store, &txn, source, run))
}

fn fork_within(
    store: &Store,
    txn: &Transaction,
    source: &Checkpoint,
    run: &str,
) -> Result<SaveReport> {
    let from = source.manifest();
    load_catalog(store, Some(source))?;
    let body = Body {
        parent: Some(source.id()),
        ..from.body.clone()
    };
    let unchanged = vec![TensorStatistics::default(); body.tensors.len()];
    let mut manifest = Manifest::new(body, Placement::default(), Vec::new(), unchanged)?;
    manifest.dropped.clone_from(&from.dropped);
    manifest.relations.clone_from(&from.relations);
    publish(
        store,
        txn,
        manifest,
        Publication {
            run,
            durability: Durability::Durable,
            room: &Allowance::of(store)?,
            packs: &[],
            parts: &Parts::default(),
            new_chunks: 0,
            full: Full::Auto,
            tags: &[],
            new_run: true,
            // The state is as old as it was: `latest` stays with the run that was saved to last.
            time_ms: Some(from.placement.time_ms),
            observer: &Unobserved,
        },
    )
}

/// Makes the records known that chunks of this save may refer to.
fn load_catalog(store: &Store, parent: Option<&Checkpoint>) -> Result<()> {
    let (disk, catalog) = (&*store.0.disk, &store.0.catalog);
    // A relaxed parent vouches for nothing: the device may have refused its bytes since.
    let is_durable = |m: &&Manifest| m.placement.durability != Durability::Relaxed;
    catalog.unsettle();
    // Nor does one that was forgotten before this transaction.
    let is_there = |p: &&Checkpoint| p.is_there();
    let parent = parent.filter(is_there).map(Checkpoint::manifest);
    if let Some(parent) = parent.filter(is_durable) {
        catalog.load_settled(disk, &parent.packs)?;
    }
    if catalog.is_complete() {
        return Ok(());
    }
    // What the newest of another run needs need not be proved either.
    for run in history::runs(disk)? {
        let Some((newest, read)) = store.newest_read(&run)? else {
            continue;
        };
        match read.map_or_else(|| history::read_manifest(disk, &newest.place()), Ok) {
            Ok(manifest) if is_durable(&&manifest) => {
                catalog.load_settled(disk, &manifest.packs)?
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a checkpoint vouches for nothing"),
        }
    }
    // Other processes' packs are looked for once; what they add later is at worst stored twice.
    catalog.load_all(disk)
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

/// What the second and third hop made.
struct Written {
    packs: Vec<SealedPack>,
    statistics: Vec<TensorStatistics>,
    new_chunks: u64,
    like: Option<Alike>,
}

fn write_packs(
    draft: &Draft<'_>,
    txn: &Transaction,
    (items, families): (&[Item<'_>], &[Family]),
    body: &mut Body,
    room: &Allowance,
    observer: &dyn Observer,
) -> Result<Written> {
    let store = &draft.store;
    let disk = &*store.0.disk;
    let durability = draft.options.durability;
    let saver = ChunkSaver {
        store,
        encoder: ChunkEncoder {
            bases: store,
            cache: &store.0.bases,
            spare: Spare::default(),
            bounds: Bounds::from(store.settings()),
            level: draft.options.level.unwrap_or(store.settings().level),
            verify: durability == Durability::Verified,
            patches: Probe::default(),
        },
        full: full_kind(draft),
        claimed: Mutex::default(),
    };
    saver.encoder.begin();
    let mut written = Written {
        packs: Vec::new(),
        statistics: vec![TensorStatistics::default(); body.tensors.len()],
        new_chunks: 0,
        like: None,
    };
    let durable = durability != Durability::Relaxed;
    let mut packs = NewPacks::new(disk, txn, room, durable);
    pipeline::run(&saver, items, families, observer, |piece, saved| {
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
        packs.add(record, entry, &saver.encoder.spare)
    })?;
    // Named only now: a save that fails or is killed before leaves nothing behind.
    for pack in packs.finish()? {
        let pack = pack.publish(disk)?;
        pack.add_to(&store.0.catalog);
        written.packs.push(pack);
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
