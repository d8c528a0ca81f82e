//! What a `forget` would do and what that would free, before anything is done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::Manifest;
use crate::format::placement::Durability;
use crate::gc::mark::{Mark, Needed};
use crate::id::{CheckpointId, PackId};
use crate::progress::{self, Observer};
use crate::restore::Selection;
use crate::retain::judge::{Reason, judge};
use crate::retain::rules::KeepRules;
use crate::store::Store;
use crate::store::history::{self, Place, Summary};

/// What to forget.
#[derive(Clone, Debug, Default)]
pub struct Forget {
    /// These checkpoints, by revision, whatever the rules say.
    pub revisions: Vec<String>,
    /// Those that no rule keeps; if no rule is set, none.
    pub rules: KeepRules,
    /// The rules hold for these runs only; for all if there is none.
    pub runs: Vec<String>,
    /// Manifests that cannot be read, of all runs.
    pub damaged: bool,
    /// Whether the newest checkpoint of a run that was saved verified stays whatever the rules
    /// say.
    pub spare_verified: bool,
    /// Instead of whole checkpoints, their tensors with names that match one of these globs.
    pub drop: Vec<String>,
}

/// What becomes of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, for these reasons.
    Stays(Vec<Reason>),
    /// It goes.
    Goes,
    /// It stays without these tensors, by their places in the body, ascending; those that were
    /// dropped before are among them.
    Thinned(Vec<u32>),
}

/// A checkpoint and its fate.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The checkpoint.
    pub checkpoint: Arc<Summary>,
    /// What becomes of it.
    pub fate: Fate,
    /// Whether it was named, so that no rule can keep it.
    pub named: bool,
}

/// What forgetting and then collecting gives back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Bytes of manifests.
    pub manifest_bytes: u64,
    /// Packs that nothing needs afterwards and something needs now.
    pub packs: u64,
    /// Bytes of those packs.
    pub pack_bytes: u64,
    /// Bytes in packs that stay which nothing needs afterwards and something needs now: only
    /// rewriting frees them.
    pub idle_bytes: u64,
}

/// What a `forget` is about to do.
#[derive(Clone, Debug, Default)]
pub struct ForgetPlan {
    /// Every checkpoint that was judged, by run, then by order of their saves.
    pub judged: Vec<Judged>,
    /// Manifests that cannot be read and go.
    pub damaged: Vec<Place>,
    /// Tags that name a checkpoint that goes; they go as well.
    pub tags: BTreeMap<String, CheckpointId>,
    /// What it gives back, once collected.
    pub freed: Freed,
    pub(super) forget: Forget,
}

impl ForgetPlan {
    /// The checkpoints that go.
    pub fn going(&self) -> impl Iterator<Item = &Judged> {
        self.judged.iter().filter(|j| j.fate == Fate::Goes)
    }

    /// The checkpoints that stay without some of their tensors.
    pub fn thinned(&self) -> impl Iterator<Item = (&Judged, &[u32])> {
        self.judged.iter().filter_map(|j| match &j.fate {
            Fate::Thinned(tensors) => Some((j, tensors.as_slice())),
            _ => None,
        })
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.damaged.is_empty() && self.judged.iter().all(|j| matches!(j.fate, Fate::Stays(_)))
    }
}

impl Store {
    /// Judges every checkpoint and says what forgetting gives back; changes nothing.
    ///
    /// # Errors
    /// `NotFound` if a revision or run is not there, `InvalidInput` if nothing is asked for,
    /// `Corrupt` if a manifest that is to stay cannot be read.
    pub fn plan_forget(&self, forget: &Forget, observer: &dyn Observer) -> Result<ForgetPlan> {
        require_something(forget)?;
        let disk = &*self.0.disk;
        let listing = self.list(None)?;
        let named = self.named_places(forget)?;
        for run in &forget.runs {
            if !listing.checkpoints.iter().any(|s| s.placement.run == *run) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "run",
                    format!("there is no run {run:?} with checkpoints"),
                ));
            }
        }
        let is_damaged = |place: &Place| {
            let mut unreadable = listing.damaged.iter().chain(&listing.lost);
            unreadable.any(|d| d.place == *place)
        };
        let mut plan = ForgetPlan {
            judged: self.judge_all(forget, &listing.checkpoints, &named)?,
            damaged: listing
                .damaged
                .iter()
                .chain(&listing.lost)
                .map(|d| &d.place)
                .filter(|place| forget.damaged || named.contains(*place))
                .cloned()
                .collect(),
            forget: forget.clone(),
            ..ForgetPlan::default()
        };
        if named
            .iter()
            .any(|p| is_damaged(p) && !forget.drop.is_empty())
        {
            return Err(Error::invalid(
                "forget",
                "a manifest that cannot be read has no tensors to drop",
            ));
        }
        let thinned = thin(self, &mut plan, observer)?;
        plan.tags = self.tags_of_going(&plan)?;
        let mut all = history::unhidden_places(disk)?;
        all.retain(|place| !plan.damaged.contains(place));
        plan.freed = freed(self, &plan, &thinned, all, observer)?;
        Ok(plan)
    }

    fn named_places(&self, forget: &Forget) -> Result<BTreeSet<Place>> {
        forget.revisions.iter().map(|r| self.resolve(r)).collect()
    }

    fn judge_all(
        &self,
        forget: &Forget,
        checkpoints: &[Arc<Summary>],
        named: &BTreeSet<Place>,
    ) -> Result<Vec<Judged>> {
        let tags = self.tags()?;
        let mut judged = Vec::with_capacity(checkpoints.len());
        for run in checkpoints.chunk_by(|a, b| a.placement.run == b.placement.run) {
            let by_rules = run
                .iter()
                .all(|s| forget.runs.is_empty() || forget.runs.contains(&s.placement.run))
                && !forget.rules.is_empty();
            let newest_verified = run
                .iter()
                .rfind(|s| s.placement.durability == Durability::Verified)
                .filter(|_| forget.spare_verified)
                .map(|s| s.place());
            for mut verdict in judge(run, &tags, &forget.rules) {
                if newest_verified == Some(verdict.checkpoint.place()) {
                    verdict.reasons.push(Reason::Verified);
                }
                let is_named = named.contains(&verdict.checkpoint.place());
                let goes = is_named || (by_rules && !verdict.stays());
                judged.push(Judged {
                    checkpoint: verdict.checkpoint,
                    fate: match goes {
                        true => Fate::Goes,
                        false => Fate::Stays(verdict.reasons),
                    },
                    named: is_named,
                });
            }
        }
        Ok(judged)
    }

    /// A tag whose checkpoint is in no other place goes with it.
    fn tags_of_going(&self, plan: &ForgetPlan) -> Result<BTreeMap<String, CheckpointId>> {
        let mut tags = self.tags()?;
        let going = |id: &CheckpointId| {
            let goes = plan.going().any(|j| j.checkpoint.id == *id);
            let stays = |j: &Judged| j.checkpoint.id == *id && j.fate != Fate::Goes;
            goes && !plan.judged.iter().any(stays)
        };
        tags.retain(|_, id| going(id));
        Ok(tags)
    }
}

fn require_something(forget: &Forget) -> Result<()> {
    let named = !forget.revisions.is_empty() || forget.damaged;
    if !named && forget.rules.is_empty() {
        return Err(Error::invalid(
            "forget",
            "neither a checkpoint nor a keep rule was given, and the store records none",
        )
        .hint("name checkpoints, or say what to keep, such as --keep-last 5"));
    }
    Ok(())
}

/// Turns `Goes` into `Thinned` where only tensors are to be dropped; returns the manifests of
/// those that are thinned, as they will be.
fn thin(
    store: &Store,
    plan: &mut ForgetPlan,
    observer: &dyn Observer,
) -> Result<HashMap<Place, Manifest>> {
    let mut thinned = HashMap::new();
    if plan.forget.drop.is_empty() {
        return Ok(thinned);
    }
    let selection = Selection::globs(&plan.forget.drop)?;
    for judged in plan.judged.iter_mut().filter(|j| j.fate == Fate::Goes) {
        progress::check(observer)?;
        let place = judged.checkpoint.place();
        let mut manifest = history::read_manifest(&*store.0.disk, &place)?;
        let dropped = dropped_by(&manifest, &selection);
        if dropped == manifest.dropped {
            judged.fate = Fate::Stays(Vec::new());
            continue;
        }
        judged.fate = Fate::Thinned(dropped.clone());
        manifest.dropped = dropped;
        thinned.insert(place, manifest);
    }
    Ok(thinned)
}

/// The places of tensors that were dropped or are to be.
pub(super) fn dropped_by(manifest: &Manifest, selection: &Selection) -> Vec<u32> {
    let names = selection.names(&manifest.body);
    let places = (0u32..).zip(&manifest.body.tensors);
    let gone = places.filter(|(place, tensor)| {
        manifest.dropped.binary_search(place).is_ok() || names.contains(tensor.name.as_str())
    });
    gone.map(|(place, _)| place).collect()
}

/// Marks first what stays, then what goes: the difference is freed.
fn freed(
    store: &Store,
    plan: &ForgetPlan,
    thinned: &HashMap<Place, Manifest>,
    all: Vec<Place>,
    observer: &dyn Observer,
) -> Result<Freed> {
    let going: BTreeSet<Place> = plan.going().map(|j| j.checkpoint.place()).collect();
    let mut mark = Mark::new(&*store.0.disk)?;
    let (later, first): (Vec<Place>, Vec<Place>) = all
        .into_iter()
        .partition(|place| going.contains(place) || thinned.contains_key(place));
    mark.add(first, observer)?;
    for (place, manifest) in thinned {
        mark.add_manifest(place, manifest)?;
    }
    let stays: HashMap<PackId, Needed> = mark.needed.clone();
    mark.add(later, observer)?;
    let mut freed = Freed {
        manifest_bytes: plan.going().map(|j| j.checkpoint.manifest_len).sum(),
        ..Freed::default()
    };
    for (pack, now) in &mark.needed {
        match stays.get(pack) {
            Some(after) => freed.idle_bytes += now.bytes - after.bytes,
            None => {
                freed.packs += 1;
                freed.pack_bytes += mark.listed.get(pack).copied().unwrap_or_default();
            }
        }
    }
    Ok(freed)
}
