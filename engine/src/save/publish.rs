//! The last hop of a save, in the order of format-spec.md section 15.3: packs, then the
//! manifest, each durable before the next step relies on it.

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::placement::{Durability, PackHint, Placement};
use crate::progress::Observer;
use crate::save::closure::Closure;
use crate::save::durable;
use crate::save::parts::Parts;
use crate::save::room::Allowance;
use crate::save::survivors;
use crate::save::taken;
use crate::save::{Full, SaveReport, run_exists};
use crate::store::Store;
use crate::store::cache;
use crate::store::catalog::Catalog;
use crate::store::disk::{Disk, Published};
use crate::store::history::{self, Place};
use crate::store::pack_file::SealedPack;
use crate::store::path;
use crate::store::tags;
use crate::store::txn::Transaction;

/// Caches are looked after every so many checkpoints of a run.
const CACHE_EVERY: u64 = 64;

/// What the last hop needs beside the manifest.
pub(super) struct Publication<'p> {
    pub(super) run: &'p str,
    pub(super) durability: Durability,
    pub(super) room: &'p Allowance,
    pub(super) packs: &'p [SealedPack],
    /// What other writers have saved of it.
    pub(super) parts: &'p Parts,
    pub(super) new_chunks: u64,
    pub(super) full: Full,
    pub(super) tags: &'p [String],
    /// Whether the run must not be there yet.
    pub(super) new_run: bool,
    /// When it was saved, if not now.
    pub(super) time_ms: Option<u64>,
    pub(super) observer: &'p dyn Observer,
}

impl Publication<'_> {
    /// Bytes of the packs that were written for it.
    pub(super) fn added_bytes(&self) -> u64 {
        let new = self.packs.iter().filter(|p| p.new);
        let own: u64 = new.map(|p| p.hint.len).sum();
        own.saturating_add(self.parts.added_bytes())
    }

    /// The packs that must hold everything, if the checkpoint is to share with no other.
    fn own_only(&self, disk: &dyn Disk) -> Result<Option<Catalog>> {
        if self.full != Full::SelfContained {
            return Ok(None);
        }
        let own = Catalog::default();
        self.packs.iter().for_each(|pack| pack.add_to(&own));
        let parts: Vec<PackHint> = self.parts.packs().copied().collect();
        own.load_hinted(disk, &parts)?;
        Ok(Some(own))
    }
}

/// Names the packs that hold what a manifest needs, and makes them as durable as was asked for:
/// whatever is not, of all the save needs, whoever wrote it.
pub(super) fn keep_closure(
    store: &Store,
    txn: &Transaction,
    manifest: &mut Manifest,
    save: &Publication<'_>,
) -> Result<Closure> {
    let disk = &*store.0.disk;
    let closure = store.with_every_pack(&store.0.catalog, &[], manifest.needed_chunks(), || {
        let own = save.own_only(disk)?;
        Closure::of(disk, own.as_ref().unwrap_or(&store.0.catalog), manifest)
    })?;
    manifest.packs.clone_from(&closure.packs);
    durable::require_packs(store, &closure.packs)?;
    if save.durability != Durability::Relaxed {
        durable::sync_packs(store, txn, save.packs, &closure.packs)?;
    }
    if save.durability == Durability::Verified {
        let verified = save.parts.verified_chunks();
        durable::verify(store, manifest, &verified, save.observer)?;
    }
    Ok(closure)
}

/// Completes the manifest, makes everything it needs durable, and gives it its name: the
/// commit point.
pub(super) fn publish(
    store: &Store,
    txn: &Transaction,
    mut manifest: Manifest,
    save: Publication<'_>,
) -> Result<SaveReport> {
    let disk = &*store.0.disk;
    let closure = keep_closure(store, txn, &mut manifest, &save)?;
    let run_folder = path::run_folder(save.run)?;
    let _ordered = store.lock_run(save.run, save.observer)?;
    disk.make_folder(&run_folder)?;
    let places = history::places(disk, save.run)?;
    let (seq, is_new) = (next_seq(&places), places.is_empty());
    let listing = store.0.history.summaries(disk, places)?;
    survivors::promote(store, txn, &listing)?;
    if save.new_run && !is_new {
        return Err(run_exists(save.run));
    }
    if let Some(existing) = taken::at_step(store, &listing, manifest.body.step)? {
        taken::require_same(&existing, &manifest.body)?;
        let thinned = existing.dropped != manifest.dropped;
        let existing = match save.durability {
            Durability::Relaxed if !thinned => existing,
            Durability::Relaxed => {
                // What takes the place of a durable manifest must be durable.
                durable::sync_packs(store, txn, save.packs, &closure.packs)?;
                make_durable(store, txn, existing, Durability::Durable, &closure)?
            }
            durability => make_durable(store, txn, existing, durability, &closure)?,
        };
        set_tags(store, txn, &existing, save.tags)?;
        return Ok(report(&existing, 0, true));
    }
    manifest.placement = Placement {
        run: save.run.to_owned(),
        seq: seq?,
        time_ms: save.time_ms.unwrap_or_else(store.0.options.clock),
        full: closure.depth == 0,
        depth: closure.depth,
        logical_bytes: manifest.body.logical_bytes(),
        added_bytes: save.added_bytes(),
        restore_cost: closure.cost,
        chunks: closure.chunks,
        new_chunks: save.new_chunks.saturating_add(save.parts.new_chunks()),
        durability: save.durability,
        boot: match save.durability {
            Durability::Relaxed if save.parts.are_of_boot(disk.boot_id()) => disk.boot_id(),
            _ => [0; 16],
        },
    };
    let bytes = manifest.encode(&codec::compress_section)?;
    save.room.take(bytes.len() as u64)?;
    write_manifest(store, txn, &manifest, &bytes)?;
    store.0.history.add(&manifest, bytes.len() as u64);
    after_commit(store, txn, &manifest, save.tags)?;
    Ok(report(&manifest, bytes.len() as u64, false))
}

fn next_seq(places: &[Place]) -> Result<u64> {
    // A file that only has the name of the last possible one must not end the run.
    let used = places.iter().map(|p| p.seq).filter(|seq| *seq < u64::MAX);
    let last = used.max().unwrap_or_default();
    last.checked_add(1)
        .filter(|next| *next < u64::MAX)
        .ok_or_else(|| {
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

/// Makes a checkpoint durable and complete that the run has already: who saved it may have asked
/// for less, or died before its name was synced, or tensors of it may have been dropped since.
/// What it needs is durable by now.
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
    if placement.durability == Durability::Relaxed || !existing.dropped.is_empty() {
        placement.durability = durability;
        placement.boot = [0; 16];
        closure.describe(&mut existing);
        existing.dropped.clear();
        history::replace_manifest(store, txn, &existing)?;
    }
    disk.sync(&path.parent())?;
    Ok(existing)
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
        let refreshed =
            store.0.history.refresh_cache(disk, txn.id).and_then(|()| {
                cache::refresh_indexes(disk, txn.id, &crate::store::packs::list(disk)?)
            });
        if let Err(error) = refreshed {
            tracing::warn!(%error, "a cache was not written");
        }
    }
    Ok(())
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
            placement.added_bytes.saturating_add(manifest_len)
        },
        restore_cost: placement.restore_cost,
        chunks: placement.chunks,
        new_chunks: if existed { 0 } else { placement.new_chunks },
        like: None,
        made_room: None,
    }
}
