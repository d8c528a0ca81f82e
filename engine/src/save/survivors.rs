//! Relaxed saves that came through a power cut: made durable by the next save to their run, so
//! that they need not be proved by every process that looks at them.

use crate::error::Result;
use crate::format::placement::Durability;
use crate::save::durable;
use crate::store::Store;
use crate::store::history::{self, Listing, Place};
use crate::store::path;
use crate::store::txn::Transaction;

/// Makes the relaxed checkpoints of earlier boots durable that are whole. The run's lock is held.
pub(super) fn promote(store: &Store, txn: &Transaction, listing: &Listing) -> Result<()> {
    let disk = &*store.0.disk;
    let survived = listing.checkpoints.iter().filter(|summary| {
        let placement = &summary.placement;
        placement.durability == Durability::Relaxed && placement.boot != disk.boot_id()
    });
    let mut folder = None;
    for summary in survived {
        let promoted = promote_one(store, txn, &summary.place());
        match promoted {
            Ok(()) => folder = Some(path::run_folder(&summary.placement.run)?),
            // It goes on as it was.
            Err(error) => tracing::warn!(%error, "a relaxed save was not made durable"),
        }
    }
    folder.map_or(Ok(()), |folder| disk.sync(&folder))
}

fn promote_one(store: &Store, txn: &Transaction, place: &Place) -> Result<()> {
    let mut manifest = history::read_manifest(&*store.0.disk, place)?;
    durable::sync_packs(store, txn, &[], &manifest.packs)?;
    manifest.placement.durability = Durability::Durable;
    manifest.placement.boot = [0; 16];
    history::replace_manifest(store, txn, &manifest)
}
