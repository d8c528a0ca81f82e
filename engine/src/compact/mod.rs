//! Compact: rewrite packs so that they hold what checkpoints need and little else, or code every
//! checkpoint anew (format-spec.md section 15.5). No checkpoint's id changes.
//!
//! Three steps, each durable before the next: new packs with the records that are needed,
//! manifests that hint at them, then a collection, which finds the old packs unneeded. Whatever
//! interrupts it, every checkpoint resolves as before or as after.

mod live;
mod old;
mod plan;
mod recode;
mod recoder;
mod rehint;
mod rewrite;

use std::collections::BTreeSet;

use crate::compact::live::Live;
use crate::compact::plan::Plan;
use crate::compact::rewrite::Copied;
use crate::error::{Error, Result};
use crate::format::store_file::Level;
use crate::gc::{self, GcOptions, GcReport};
use crate::id::PackId;
use crate::progress::Observer;
use crate::store::Store;
use crate::store::pack_file::UnnamedPack;
use crate::store::txn::Transaction;

/// What to compact.
#[derive(Clone, Copy, Debug)]
pub struct CompactOptions {
    /// Only say what would be done; coding anew cannot be foretold.
    pub dry_run: bool,
    /// A pack is rewritten if at least so many percent of its records' bytes are not needed.
    pub idle_min_percent: u8,
    /// Packs of fewer bytes are merged, if there are several.
    pub small_pack_len: u64,
    /// Code every checkpoint anew, each against the next newer one of its run. The newest of a
    /// run comes to stand alone, and bases that no checkpoint holds itself go. Kept only if it
    /// takes less space than the records that are needed now.
    pub reencode: bool,
    /// How hard to try when coding anew; by default the store's level.
    pub level: Option<Level>,
    /// Leave the old packs in `trash/`; the next collection unlinks them.
    pub keep_trash: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self {
            dry_run: false,
            idle_min_percent: 25,
            small_pack_len: 32 << 20,
            reencode: false,
            level: None,
            keep_trash: false,
        }
    }
}

/// What a compaction did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    /// Checkpoints of the store.
    pub checkpoints: u64,
    /// Packs whose records were written to others.
    pub rewritten_packs: u64,
    /// Bytes of those packs.
    pub rewritten_bytes: u64,
    /// Packs that were written.
    pub new_packs: u64,
    /// Bytes of those packs; for a dry run, of the records that would be copied.
    pub new_bytes: u64,
    /// Checkpoints whose manifests name other packs now.
    pub moved_checkpoints: u64,
    /// Packs that were left as they are, as a record that is needed fails its checksum.
    pub damaged_packs: Vec<PackId>,
    /// Bytes of records that only other records need, as no checkpoint holds their chunk any more.
    pub base_bytes: u64,
    /// Whether everything was coded anew.
    pub reencoded: bool,
    /// What the collection at the end did.
    pub collected: GcReport,
}

impl Store {
    /// Rewrites packs that are small or hold much that nothing needs. Saves and readers go on
    /// meanwhile; the disk must have room for the new packs beside the old.
    ///
    /// # Errors
    /// `Locked` if another process collects or compacts. `Corrupt` if a manifest cannot be read
    /// or a checkpoint lacks a chunk, `NoSpace` and `Interrupted`; nothing was removed then.
    pub fn compact(
        &self,
        options: &CompactOptions,
        observer: &dyn Observer,
    ) -> Result<CompactReport> {
        let disk = &*self.0.disk;
        if options.dry_run {
            let mark = gc::mark_all(disk, &[], observer)?;
            let live = Live::new(&mark);
            let plan = Plan::new(&mark, &live, options, &BTreeSet::new());
            return Ok(plan.report(&mark, &live));
        }
        let collector = gc::Collector::begin(self, self.patience(observer))?;
        let txn = self.begin(observer)?;
        let mut mark = collector.mark(observer)?;
        require_resolved(&mark)?;
        let live = Live::new(&mark);
        let (plan, made) = self.write(&mark, &live, options, &txn, observer)?;
        let mut report = plan.report(&mark, &live);
        report.reencoded = made.reencoded;
        let mut sealed = Vec::with_capacity(made.packs.len());
        for pack in made.packs {
            sealed.push(pack.publish(disk)?);
        }
        report.new_packs = sealed.len() as u64;
        report.new_bytes = sealed.iter().map(|pack| pack.hint.len).sum();
        report.damaged_packs = made.damaged.into_iter().collect();
        report.moved_checkpoints =
            rehint::rehint(self, &txn, &mut mark, &live, &plan, &sealed, observer)?;
        drop(txn);
        self.forget_packs();
        let options = GcOptions {
            keep_trash: options.keep_trash,
            ..GcOptions::default()
        };
        report.collected = collector.collect(&options, observer)?;
        Ok(report)
    }

    /// Writes the new packs, which have no names yet.
    fn write(
        &self,
        mark: &gc::mark::Mark<'_>,
        live: &Live,
        options: &CompactOptions,
        txn: &Transaction,
        observer: &dyn Observer,
    ) -> Result<(Plan, Made)> {
        if options.reencode {
            let packs = recode::recode(self, mark, live, options.level, txn, observer)?;
            let recoded_bytes = packs.iter().map(UnnamedPack::len).sum::<u64>();
            tracing::info!(recoded_bytes, live_bytes = live.bytes, "coded anew");
            if recoded_bytes < live.bytes {
                let made = Made {
                    packs,
                    damaged: BTreeSet::new(),
                    reencoded: true,
                };
                return Ok((Plan::of_all(mark), made));
            }
        }
        let mut damaged = BTreeSet::new();
        loop {
            let plan = Plan::new(mark, live, options, &damaged);
            match rewrite::copy(self, mark, live, &plan, txn, observer)? {
                Copied::All(packs) => {
                    let made = Made {
                        packs,
                        damaged,
                        reencoded: false,
                    };
                    return Ok((plan, made));
                }
                Copied::Damaged(pack, error) => {
                    tracing::warn!(%error, "a damaged pack is not rewritten");
                    damaged.insert(pack);
                }
            }
        }
    }
}

/// New packs without names.
struct Made {
    packs: Vec<UnnamedPack>,
    damaged: BTreeSet<PackId>,
    reencoded: bool,
}

/// What is of use to a damaged checkpoint cannot be told: nothing is moved while there is one.
fn require_resolved(mark: &gc::mark::Mark<'_>) -> Result<()> {
    let Some(place) = mark.unresolved.first() else {
        return Ok(());
    };
    Err(Error::corrupt(
        "unresolved",
        "a checkpoint lacks a chunk; nothing was moved or removed",
    )
    .subject(format!(
        "checkpoint {} of run {}",
        place.id.short(),
        place.run
    ))
    .hint("`milepost verify` names what is missing; forget the checkpoint, then compact"))
}
