//! Every checkpoint coded anew, the newest of a run first and each against the one after it.
//!
//! What is resumed from most, the newest, stands alone; what is old becomes small; and a base
//! that no checkpoint holds any more is not needed by anything.

use std::sync::Mutex;

use crate::compact::live::Live;
use crate::compact::recoder::{Recoded, Recoder};
use crate::compact::rewrite::{self, Packs};
use crate::error::Result;
use crate::format::manifest::Manifest;
use crate::format::store_file::Level;
use crate::gc::mark::Mark;
use crate::progress::Observer;
use crate::store::Store;
use crate::store::base_cache::BaseCache;
use crate::store::pack_file::UnnamedPack;
use crate::store::txn::Transaction;

/// Writes packs that hold everything the marked checkpoints hold.
///
/// # Errors
/// `Corrupt` if a chunk's record is damaged, `NoSpace`, `Interrupted`; nothing has changed then.
pub(super) fn recode(
    store: &Store,
    mark: &Mark<'_>,
    live: &Live,
    level: Option<Level>,
    txn: &Transaction,
    observer: &dyn Observer,
) -> Result<Vec<UnnamedPack>> {
    let disk = &*store.0.disk;
    let recoded = Recoded::new(store, live);
    let cache = Mutex::new(BaseCache::new(store.0.options.cache_bytes));
    let mut recoder = Recoder::new(&recoded, &cache, level);
    let mut packs = Packs::new(disk, txn);
    let full_every = u64::from(store.settings().full_every);
    let mut progress = OfAll {
        observer,
        before: 0,
        total: logical_bytes(store, mark),
    };
    for places in mark.runs().into_values() {
        let mut newer: Option<Manifest> = None;
        for (age, place) in (0u64..).zip(places.into_iter().rev()) {
            let Some(manifest) = rewrite::read(disk, place)? else {
                continue;
            };
            let is_full = full_every > 0 && age.is_multiple_of(full_every);
            if is_full {
                // It may store a chunk again, and a pack holds a chunk once.
                packs.close()?;
            }
            recoder.recode(&manifest, newer.as_ref(), is_full, &mut packs, &progress)?;
            progress.before += manifest.body.logical_bytes();
            progress.advance(0, 0);
            newer = Some(manifest);
        }
    }
    packs.finish()
}

/// What there is to do, as far as summaries tell.
fn logical_bytes(store: &Store, mark: &Mark<'_>) -> u64 {
    let summary = |place| store.0.history.summary(&*store.0.disk, place).ok();
    let summaries = mark.places().filter_map(summary);
    summaries.map(|s| s.placement.logical_bytes).sum()
}

/// Tells of one checkpoint's progress as part of all.
struct OfAll<'o> {
    observer: &'o dyn Observer,
    /// Bytes of the checkpoints that are done.
    before: u64,
    total: u64,
}

impl Observer for OfAll<'_> {
    fn advance(&self, done: u64, _: u64) {
        self.observer.advance(self.before + done, self.total);
    }

    fn waiting(&self, lock: &str) {
        self.observer.waiting(lock);
    }

    fn is_cancelled(&self) -> bool {
        self.observer.is_cancelled()
    }
}
