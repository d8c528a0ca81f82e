//! Dropping what a plan says: tags, then manifests, each durable before it is acknowledged
//! (format-spec.md section 15.5).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{ErrorKind, Result};
use crate::format::name;
use crate::progress::Observer;
use crate::restore::Selection;
use crate::retain::judge::judge;
use crate::retain::plan::{Fate, ForgetPlan, Judged, dropped_by};
use crate::store::Store;
use crate::store::cache;
use crate::store::disk::Disk;
use crate::store::history::{self, Place};
use crate::store::path;
use crate::store::tags;
use crate::store::txn::Transaction;

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForgetReport {
    /// Checkpoints that are gone.
    pub checkpoints: u64,
    /// Checkpoints that lost tensors.
    pub thinned: u64,
    /// Manifests that could not be read and are gone.
    pub damaged: u64,
    /// Tags that are gone.
    pub tags: u64,
    /// Checkpoints of the plan that stay, because the run has changed since.
    pub spared: u64,
}

impl Store {
    /// Does what a plan says. A checkpoint is gone for good when this returns; what it alone
    /// needed lies unused until a collection.
    ///
    /// A checkpoint that a rule would keep by now stays: of the changes since the plan was
    /// made, only those that keep more are heeded.
    ///
    /// # Errors
    /// If the storage refuses; what was dropped until then stays dropped.
    pub fn forget(&self, plan: &ForgetPlan, observer: &dyn Observer) -> Result<ForgetReport> {
        let mut report = ForgetReport::default();
        if plan.is_empty() {
            return Ok(report);
        }
        let txn = self.begin(observer)?;
        let mut runs: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
        for judged in plan.judged.iter() {
            if !matches!(judged.fate, Fate::Stays(_)) {
                let run = judged.checkpoint.placement.run.as_str();
                runs.entry(run).or_default().push(judged);
            }
        }
        for place in &plan.damaged {
            runs.entry(place.run.as_str()).or_default();
        }
        for (run, judged) in runs {
            let _ordered = self.lock_run(run, observer)?;
            self.forget_of_run(plan, &txn, run, &judged, &mut report)?;
        }
        Ok(report)
    }

    fn forget_of_run(
        &self,
        plan: &ForgetPlan,
        txn: &Transaction,
        run: &str,
        judged: &[&Judged],
        report: &mut ForgetReport,
    ) -> Result<()> {
        let disk = &*self.0.disk;
        // What stays must be there for good before anything goes: a writer may have died between
        // giving a manifest its name and making the name durable.
        disk.sync(&path::run_folder(run)?)?;
        let stays = self.stays_by_now(plan, run)?;
        let mut going = Vec::new();
        for judged in judged {
            let place = judged.checkpoint.place();
            if !judged.named && stays.contains(&place) {
                report.spared += 1;
                continue;
            }
            match judged.fate {
                Fate::Thinned(_) => {
                    report.thinned += u64::from(self.thin(plan, txn, &place)?);
                }
                _ => {
                    report.checkpoints += 1;
                    going.push(place);
                }
            }
        }
        let damaged = still_damaged(disk, plan.damaged.iter().filter(|p| p.run == run))?;
        report.damaged += damaged.len() as u64;
        report.tags += self.remove_tags_of(&going)?;
        going.extend(damaged);
        self.discard_summaries(run, &going)?;
        for place in &going {
            self.0.history.forget(place);
            disk.remove(&path::manifest(&place.run, place.seq, &place.id)?)?;
        }
        disk.sync(&path::run_folder(run)?)
    }

    /// The number of a run's newest checkpoint is given once more when that is gone, perhaps to
    /// the same state, kept in another way: what is cached of it would come true of the other.
    fn discard_summaries(&self, run: &str, going: &[Place]) -> Result<()> {
        let disk = &*self.0.disk;
        let newest = history::places(disk, run)?.pop();
        match newest.is_some_and(|newest| going.contains(&newest)) {
            true => cache::discard(disk, cache::SUMMARIES),
            false => Ok(()),
        }
    }

    /// The checkpoints of a run that the rules keep as it is now. Another process may have
    /// dropped what was the newest when the plan was made.
    fn stays_by_now(&self, plan: &ForgetPlan, run: &str) -> Result<BTreeSet<Place>> {
        name::check(run, "run")?;
        let listing = self.list(Some(run))?;
        let verdicts = judge(&listing.checkpoints, &self.tags()?, &plan.forget.rules);
        let stays = verdicts.iter().filter(|v| v.stays());
        Ok(stays.map(|v| v.checkpoint.place()).collect())
    }

    /// Drops tensors of a checkpoint: its manifest is replaced by one that says so. `false` if
    /// there was nothing to drop any more.
    fn thin(&self, plan: &ForgetPlan, txn: &Transaction, place: &Place) -> Result<bool> {
        let mut manifest = match history::read_manifest(&*self.0.disk, place) {
            Ok(manifest) => manifest,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let dropped = dropped_by(&manifest, &Selection::globs(&plan.forget.drop)?);
        if dropped == manifest.dropped {
            return Ok(false);
        }
        manifest.dropped = dropped;
        history::replace_manifest(self, txn, &manifest)?;
        Ok(true)
    }

    /// Removes the tags that name a checkpoint that is in no other place; durable when it
    /// returns. They go first: a tag must not outlive what it names.
    fn remove_tags_of(&self, going: &[Place]) -> Result<u64> {
        let disk = &*self.0.disk;
        let mut removed = 0;
        let left: BTreeSet<_> = history::all_places(disk)?
            .into_iter()
            .filter(|place| !going.contains(place))
            .map(|place| place.id)
            .collect();
        for (tag, id) in self.tags()? {
            if going.iter().any(|place| place.id == id) && !left.contains(&id) {
                tags::remove(disk, &tag)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Those that cannot be read now either: what somebody has mended meanwhile stays.
fn still_damaged<'p>(
    disk: &dyn Disk,
    damaged: impl Iterator<Item = &'p Place>,
) -> Result<Vec<Place>> {
    let mut still = Vec::new();
    for place in damaged {
        match history::read_manifest(disk, place) {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Io | ErrorKind::NoSpace) => {
                return Err(error);
            }
            Err(_) => still.push(place.clone()),
        }
    }
    Ok(still)
}
