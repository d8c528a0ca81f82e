//! Manifests that name the packs in which their records are by now.

use crate::compact::live::Live;
use crate::compact::plan::Plan;
use crate::compact::rewrite;
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::placement::{Durability, PackHint};
use crate::gc::mark::Mark;
use crate::id::PackId;
use crate::progress::{self, Observer};
use crate::save::closure::Closure;
use crate::save::durable;
use crate::store::Store;
use crate::store::catalog::Catalog;
use crate::store::history::{self, Place};
use crate::store::pack_file::SealedPack;
use crate::store::txn::Transaction;

/// Makes the new packs durable, then replaces the manifests that name a pack which was
/// rewritten. Returns how many. A manifest that has changed so that the new packs are not enough
/// for it is left as it is, and keeps the old ones. The collection that follows syncs the names
/// before any pack goes.
pub(super) fn rehint(
    store: &Store,
    txn: &Transaction,
    mark: &mut Mark<'_>,
    live: &Live,
    plan: &Plan,
    new: &[SealedPack],
    observer: &dyn Observer,
) -> Result<u64> {
    if plan.packs.is_empty() {
        return Ok(0);
    }
    let after = after(live, plan, new);
    mark.add_packs(new);
    make_durable(store, txn, mark, live, plan, new)?;
    let mut moved = 0;
    for (run, places) in mark.runs() {
        let _ordered = store.lock_run(run, observer)?;
        for place in places {
            progress::check(observer)?;
            moved += u64::from(rehint_one(store, txn, mark, &after, plan, place)?);
        }
    }
    Ok(moved)
}

/// The live records where they will be.
fn after(live: &Live, plan: &Plan, new: &[SealedPack]) -> Catalog {
    let after = Catalog::default();
    new.iter().for_each(|pack| pack.add_to(&after));
    for (pack, records) in &live.by_pack {
        if !plan.packs.contains(pack) {
            let len = live.records.pack_len(pack).unwrap_or_default();
            let entries = records.iter().map(|r| (*r.entry).clone());
            after.add(*pack, len, entries.collect());
        }
    }
    after
}

/// Syncs the new packs' names, and those packs that only relaxed checkpoints have named until
/// now: durable ones may come to name them.
fn make_durable(
    store: &Store,
    txn: &Transaction,
    mark: &Mark<'_>,
    live: &Live,
    plan: &Plan,
    new: &[SealedPack],
) -> Result<()> {
    let stays = |(pack, len): (&PackId, u64)| {
        let stays = live.by_pack.contains_key(pack) && !plan.packs.contains(pack);
        stays.then_some(PackHint { pack: *pack, len })
    };
    let staying = mark.rewritable().filter_map(stays);
    let unvouched = staying.filter(|hint| !mark.vouched.contains(&hint.pack));
    let needed: Vec<PackHint> = new.iter().map(|pack| pack.hint).chain(unvouched).collect();
    store.0.catalog.unsettle();
    durable::sync_packs(store, txn, new, &needed)
}

fn rehint_one(
    store: &Store,
    txn: &Transaction,
    mark: &Mark<'_>,
    after: &Catalog,
    plan: &Plan,
    place: &Place,
) -> Result<bool> {
    let disk = &*store.0.disk;
    let Some(mut manifest) = rewrite::read(disk, place)? else {
        return Ok(false);
    };
    let is_there = |hint: &PackHint| mark.listed.contains_key(&hint.pack);
    let stays = |hint: &PackHint| is_there(hint) && !plan.packs.contains(&hint.pack);
    if manifest.packs.iter().all(stays) {
        return Ok(false);
    }
    let Some(closure) = closure(disk, mark, after, &manifest)? else {
        return Ok(false);
    };
    closure.describe(&mut manifest);
    // All that it needs is durable by now.
    if manifest.placement.durability == Durability::Relaxed {
        manifest.placement.durability = Durability::Durable;
        manifest.placement.boot = [0; 16];
    }
    history::replace_manifest(store, txn, &manifest)?;
    Ok(true)
}

/// What the manifest needs of the records as they will be, if a reader that is told of these
/// packs alone finds it there.
fn closure(
    disk: &dyn crate::store::disk::Disk,
    mark: &Mark<'_>,
    after: &Catalog,
    manifest: &Manifest,
) -> Result<Option<Closure>> {
    if manifest.needed_chunks().any(|c| after.find(c).is_none()) {
        return Ok(None);
    }
    let closure = Closure::of(disk, after, manifest)?;
    Ok(mark.is_enough(&closure.packs, manifest).then_some(closure))
}
