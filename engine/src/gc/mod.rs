//! Collect: give back the space of records that no checkpoint needs (format-spec.md section
//! 15.5).
//!
//! Mark, then sweep in two phases. The mark reads every manifest, and one that cannot be read
//! stops it with nothing removed. With the gate closed, so that no writer is about to refer to
//! a pack, it marks what is new and moves unneeded packs to `trash/`. With the gate open again
//! it looks once more, brings back what is needed after all, and unlinks the rest.

pub(crate) mod mark;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::gc::mark::Mark;
use crate::id::PackId;
use crate::progress::{self, Observer};
use crate::store::Store;
use crate::store::disk::{Disk, Lock, LockMode};
use crate::store::history;
use crate::store::path::{self, Folder};
use crate::store::trash;
use crate::store::txn::{self, Patience};

/// How to collect.
#[derive(Clone, Copy, Debug, Default)]
pub struct GcOptions {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Leave what this collection sets aside in `trash/`; the next one unlinks it.
    pub keep_trash: bool,
    /// How long to wait for writers, if not as long as the store was opened for.
    pub patience: Option<Duration>,
}

impl GcOptions {
    /// Waits for nobody: `Locked` if a writer is in a transaction.
    #[must_use]
    pub fn at_once() -> Self {
        Self {
            patience: Some(Duration::ZERO),
            ..Self::default()
        }
    }

    pub(crate) fn patience_of<'o>(
        &self,
        store: &Store,
        observer: &'o dyn Observer,
    ) -> Patience<'o> {
        let of_store = store.patience(observer);
        Patience {
            limit: self.patience.or(of_store.limit),
            ..of_store
        }
    }
}

/// What a collection found and did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Checkpoints whose needs were marked.
    pub checkpoints: u64,
    /// Packs that stay.
    pub packs: u64,
    /// Packs that were unlinked.
    pub removed_packs: u64,
    /// Bytes of those packs.
    pub removed_bytes: u64,
    /// Packs that were set aside and are still in `trash/`.
    pub trashed_packs: u64,
    /// Bytes of those packs.
    pub trashed_bytes: u64,
    /// Packs that came back from `trash/` because a checkpoint needs them.
    pub rescued_packs: u64,
    /// Bytes in packs that stay which no checkpoint needs: only rewriting frees them.
    pub idle_bytes: u64,
    /// Checkpoints that lack a chunk; all that might be of use to them was kept.
    pub unresolved: u64,
}

impl Store {
    /// Removes packs that no checkpoint needs. Saves that run meanwhile are waited for.
    ///
    /// # Errors
    /// `Locked` if another collection runs, or a save takes longer than there is patience for. `Corrupt` if a manifest cannot be read, and
    /// `Interrupted`; nothing was removed then.
    pub fn gc(&self, options: &GcOptions, observer: &dyn Observer) -> Result<GcReport> {
        let disk = &*self.0.disk;
        if options.dry_run {
            let mut mark = Mark::new(disk)?;
            mark.add(history::unhidden_places(disk)?, observer)?;
            return planned(disk, &mark);
        }
        let patience = options.patience_of(self, observer);
        Collector::begin(self, patience)?.collect(options, observer)
    }
}

/// The one process that may remove packs of a store.
pub(crate) struct Collector<'s> {
    store: &'s Store,
    _alone: Box<dyn Lock>,
}

impl<'s> Collector<'s> {
    /// Becomes it, and clears away what dead writers left.
    pub(crate) fn begin(store: &'s Store, patience: Patience<'_>) -> Result<Self> {
        store.require_writable()?;
        let disk = &*store.0.disk;
        let alone = lock_collector(disk)?;
        txn::clean(disk, patience)?;
        Ok(Self {
            store,
            _alone: alone,
        })
    }

    /// Marks what every checkpoint needs.
    pub(crate) fn mark(&self, observer: &dyn Observer) -> Result<Mark<'s>> {
        let disk = &*self.store.0.disk;
        settle_removals(disk)?;
        mark_all(disk, &trash::list(disk)?, observer)
    }

    /// Removes packs that no checkpoint needs.
    pub(crate) fn collect(&self, options: &GcOptions, observer: &dyn Observer) -> Result<GcReport> {
        let disk = &*self.store.0.disk;
        let before = trash::list(disk)?;
        let mut mark = self.mark(observer)?;
        let patience = options.patience_of(self.store, observer);
        let swept = sweep(disk, &mut mark, patience)?;
        self.store.forget_packs();
        // Where locks hold, nothing can have come to need what was moved; not everywhere do they.
        mark.add_new(observer)?;
        let (back, gone): (Vec<_>, Vec<_>) = swept
            .moved
            .iter()
            .partition(|pack| mark.needed.contains_key(*pack));
        back.iter().try_for_each(|pack| trash::rescue(disk, pack))?;
        let mut report = GcReport {
            checkpoints: mark.checkpoints(),
            packs: (mark.listed.len() - gone.len()) as u64,
            rescued_packs: back.len() as u64,
            idle_bytes: mark.idle_bytes(),
            unresolved: mark.unresolved.len() as u64,
            ..GcReport::default()
        };
        let emptied = match options.keep_trash {
            true => before,
            false => trash::list(disk)?,
        };
        trash::empty(disk, &emptied)?;
        report.removed_packs = swept.unlinked + emptied.len() as u64;
        report.removed_bytes = swept.unlinked_bytes + bytes_of(&emptied);
        let left = trash::list(disk)?;
        report.trashed_packs = left.len() as u64;
        report.trashed_bytes = bytes_of(&left);
        Ok(report)
    }
}

/// What a collection would do.
fn planned(disk: &dyn Disk, mark: &Mark<'_>) -> Result<GcReport> {
    let unneeded = mark.unneeded();
    // A crash may have left a pack both where it was and in the trash.
    let mut going: BTreeMap<PackId, u64> = trash::list(disk)?.into_iter().collect();
    going.extend(unneeded.iter().copied());
    Ok(GcReport {
        checkpoints: mark.checkpoints(),
        packs: (mark.listed.len() - unneeded.len()) as u64,
        removed_packs: going.len() as u64,
        removed_bytes: going.values().sum(),
        idle_bytes: mark.idle_bytes(),
        unresolved: mark.unresolved.len() as u64,
        ..GcReport::default()
    })
}

fn bytes_of(packs: &[(PackId, u64)]) -> u64 {
    packs.iter().map(|(_, len)| len).sum()
}

/// Keeps other collectors out; does not wait for one.
pub(crate) fn lock_collector(disk: &dyn Disk) -> Result<Box<dyn Lock>> {
    let taken = disk.lock(&path::collector(), LockMode::Exclusive)?;
    taken.ok_or_else(|| {
        Error::new(
            ErrorKind::Locked,
            "collector",
            "another process collects or compacts this store",
        )
        .hint("wait for it to end, then try again")
    })
}

/// Makes sure that no manifest that was unlinked can come back once its packs are gone.
fn settle_removals(disk: &dyn Disk) -> Result<()> {
    for run in history::runs(disk)? {
        disk.sync(&path::run_folder(&run)?)?;
    }
    disk.sync(&path::folder(Folder::Runs))
}

/// Marks what every checkpoint needs; packs in the trash that one lacks are brought back first.
pub(crate) fn mark_all<'d>(
    disk: &'d dyn Disk,
    trash: &[(PackId, u64)],
    observer: &dyn Observer,
) -> Result<Mark<'d>> {
    let mut mark = Mark::new(disk)?;
    mark.add(history::unhidden_places(disk)?, observer)?;
    if mark.unresolved.is_empty() || trash.is_empty() {
        return Ok(mark);
    }
    for (pack, _) in trash {
        trash::rescue(disk, pack)?;
    }
    let mut mark = Mark::new(disk)?;
    mark.add(history::unhidden_places(disk)?, observer)?;
    Ok(mark)
}

/// What the first phase did.
struct Swept {
    moved: Vec<PackId>,
    /// Packs for which there was no room in the trash.
    unlinked: u64,
    unlinked_bytes: u64,
}

/// The first phase: closes the gate, marks what is new, and moves the rest to the trash.
fn sweep(disk: &dyn Disk, mark: &mut Mark<'_>, patience: Patience<'_>) -> Result<Swept> {
    let mut swept = Swept {
        moved: Vec::new(),
        unlinked: 0,
        unlinked_bytes: 0,
    };
    if mark.unneeded().is_empty() {
        return Ok(swept);
    }
    let _gate = txn::close_gate(disk, patience)?;
    mark.add_new(patience.observer)?;
    progress::check(patience.observer)?;
    for (pack, len) in mark.unneeded() {
        if !trash::set_aside(disk, &pack)? {
            swept.unlinked += 1;
            swept.unlinked_bytes += len;
        }
        swept.moved.push(pack);
    }
    trash::settle(disk, &swept.moved)?;
    Ok(swept)
}
