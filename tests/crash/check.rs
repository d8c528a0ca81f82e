//! The invariants, checked on what a crash left, against what the test knows.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use milepost_engine::store::disk::Disk;
use milepost_engine::store::path::{self, StorePath};
use milepost_engine::{
    Checkpoint, Durability, ErrorKind, Listing, PackId, Store, Summary, Unobserved, VerifyOptions,
};

use super::content::content;
use super::driver::options;
use super::expect::{Expect, Key, Must, OneOf};
use super::verdict::Listener;
use super::workload::DROPPED;
use crate::support::sim_disk::{Question, State};

/// An invariant that does not hold, and how it shows.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self {
            invariant,
            what: what.into(),
        }
    }
}

type Checked = Result<(), Violation>;

/// Checkpoints that loaded from the very same manifest and packs before, in whatever image: they
/// need not be loaded again, which is most of the work.
#[derive(Clone, Copy)]
pub(crate) struct Loaded<'l> {
    pub(crate) state: &'l State,
    /// Hears of what is looked at here instead of being read.
    pub(crate) listener: &'l Listener,
    pub(crate) before: &'l Mutex<LoadedBefore>,
}

/// What was loaded before, in whatever image.
#[derive(Default)]
pub(crate) struct LoadedBefore {
    /// By hashes of manifests and their places: the packs that each names, or took.
    packs: HashMap<u64, Arc<[PackId]>>,
    /// Hashes of these with the bytes of the packs.
    whole: HashSet<u64>,
}

impl Loaded<'_> {
    fn digest_of(&self, path: &StorePath) -> Option<u64> {
        self.listener.note(Question::File(path.clone()));
        self.state.digest_of(path.as_str())
    }

    /// A hash of a manifest and its place.
    fn manifest(&self, summary: &Summary) -> Option<u64> {
        let placement = &summary.placement;
        let place = path::manifest(&placement.run, placement.seq, &summary.id).ok()?;
        let mut hasher = DefaultHasher::new();
        (place.as_str(), self.digest_of(&place)?).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// A hash of a manifest, its place and its packs.
    fn with_packs(&self, manifest: u64, packs: &[PackId]) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        manifest.hash(&mut hasher);
        for pack in packs {
            self.digest_of(&path::pack(pack))?.hash(&mut hasher);
        }
        Some(hasher.finish())
    }

    /// Whether this checkpoint loaded before, from the same bytes.
    fn has_loaded(&self, summary: &Summary) -> bool {
        let Some(manifest) = self.manifest(summary) else {
            return false;
        };
        let Some(packs) = self.before.lock().unwrap().packs.get(&manifest).cloned() else {
            return false;
        };
        let key = self.with_packs(manifest, &packs);
        key.is_some_and(|key| self.before.lock().unwrap().whole.contains(&key))
    }

    /// Notes that it has, from the packs that it names and those that were heard of meanwhile.
    fn remember(&self, summary: &Summary, checkpoint: &Checkpoint, heard: &[Question]) {
        let hints = checkpoint.manifest().packs.iter().map(|hint| hint.pack);
        let taken = heard.iter().filter_map(|question| match question {
            Question::File(path) => path::parse_pack(path.file_name()),
            _ => None,
        });
        let packs: BTreeSet<PackId> = hints.chain(taken).collect();
        let packs: Arc<[PackId]> = packs.into_iter().collect();
        let manifest = self.manifest(summary);
        let whole = manifest.and_then(|manifest| self.with_packs(manifest, &packs));
        if let (Some(manifest), Some(whole)) = (manifest, whole) {
            let mut before = self.before.lock().unwrap();
            before.packs.insert(manifest, packs);
            before.whole.insert(whole);
        }
    }
}

/// Opens the store with fresh eyes and holds it against what is expected.
pub(crate) fn check(disk: Arc<dyn Disk>, expect: &Expect, loaded: Option<Loaded<'_>>) -> Checked {
    let checked = catch_unwind(AssertUnwindSafe(|| check_fresh(disk, expect, loaded)));
    checked.unwrap_or_else(|_| Err(Violation::new("I2", "the engine panics")))
}

fn check_fresh(disk: Arc<dyn Disk>, expect: &Expect, loaded: Option<Loaded<'_>>) -> Checked {
    match Store::open_on(disk, options()) {
        Ok(store) => check_store(&store, expect, loaded),
        Err(error) if error.kind() == ErrorKind::NotFound && !expect.initialized => Ok(()),
        Err(error) => Err(Violation::new("I1", format!("no store: {error:?}"))),
    }
}

/// I1 to I3 through a store that is open already.
pub(crate) fn check_store(store: &Store, expect: &Expect, loaded: Option<Loaded<'_>>) -> Checked {
    let listing = store
        .list(None)
        .map_err(|e| Violation::new("I1", format!("no listing: {e:?}")))?;
    no_durable_checkpoint_is_damaged(&listing, expect)?;
    whatever_is_listed_loads(store, &listing, expect, loaded)?;
    whatever_was_acknowledged_is_there(store, &listing, expect)?;
    acknowledged_tags_are_there(store, &listing, expect)
}

/// I3, first half: only a relaxed save may leave a damaged manifest.
fn no_durable_checkpoint_is_damaged(listing: &Listing, expect: &Expect) -> Checked {
    for damaged in &listing.damaged {
        let place = &damaged.place;
        let promised = expect
            .must
            .iter()
            .any(|((run, _), must)| *run == place.run && must.seq == place.seq);
        if promised || !expect.relaxed_runs.contains(&place.run) {
            let what = format!("{place:?} is damaged: {:?}", damaged.error);
            return Err(Violation::new("I3", what));
        }
    }
    Ok(())
}

/// I2 and I3, second half: what is listed loads, and loads right.
fn whatever_is_listed_loads(
    store: &Store,
    listing: &Listing,
    expect: &Expect,
    loaded: Option<Loaded<'_>>,
) -> Checked {
    for summary in &listing.checkpoints {
        let key = (summary.placement.run.clone(), summary.step);
        if !expect.may.contains(&key) {
            return Err(Violation::new("I2", format!("{key:?} was never saved")));
        }
        if loaded.is_some_and(|loaded| loaded.has_loaded(summary)) {
            continue;
        }
        let before = loaded.map_or(0, |loaded| loaded.listener.heard());
        let opened = store
            .checkpoint_by_id(&summary.id)
            .map_err(|e| Violation::new("I3", format!("{key:?} does not open: {e:?}")))?;
        let refused = expect.lossy && summary.placement.durability == Durability::Relaxed;
        let may_lack = expect.thinned_runs.contains(&key.0);
        match loads_exactly(&opened, &key, may_lack) {
            Err(violation) if refused && violation.invariant == "I3" => continue,
            checked => checked?,
        }
        // Of two of one id the other may have been opened.
        if let Some(loaded) = loaded.filter(|_| opened.place() == summary.place()) {
            loaded.remember(summary, &opened, &loaded.listener.since(before));
        }
    }
    Ok(())
}

fn loads_exactly(checkpoint: &Checkpoint, key: &Key, may_lack: bool) -> Checked {
    let content = content(&key.0, key.1);
    let body = &checkpoint.manifest().body;
    if body.tensors.len() != content.tensors.len() || body.blobs.len() != content.blobs.len() {
        return Err(Violation::new("I2", format!("{key:?} holds other names")));
    }
    let tensors = content.tensors.iter().map(|t| (t, true));
    let blobs = content.blobs.iter().map(|b| (b, false));
    for ((name, expected), is_tensor) in tensors.chain(blobs) {
        let found = match is_tensor {
            true => checkpoint.tensor(name),
            false => checkpoint.blob(name),
        };
        if may_lack && name == &DROPPED && !checkpoint.manifest().dropped.is_empty() {
            continue;
        }
        let found = found
            .map_err(|e| Violation::new("I3", format!("{key:?} {name:?} does not load: {e:?}")))?;
        if found != *expected {
            return Err(Violation::new(
                "I2",
                format!("{key:?} {name:?} loads wrong bytes"),
            ));
        }
    }
    Ok(())
}

/// I1: every acknowledged checkpoint is listed, under its id, and found by its step.
fn whatever_was_acknowledged_is_there(
    store: &Store,
    listing: &Listing,
    expect: &Expect,
) -> Checked {
    let is_there = |(key, must): (&Key, &Must)| {
        let is_it = |s: &Summary| s.id == must.id && s.placement.run == key.0 && s.step == key.1;
        listing.checkpoints.iter().any(|s| is_it(s))
    };
    if let Some((key, must)) = expect.must.iter().find(|held| !is_there(*held)) {
        return Err(Violation::new("I1", format!("{key:?} {must:?} is lost")));
    }
    let is_lost = |pair: &&OneOf| !pair.iter().any(|(key, must)| is_there((key, must)));
    if let Some(pair) = expect.one_of.iter().find(is_lost) {
        return Err(Violation::new("I1", format!("both of {pair:?} are lost")));
    }
    if let Some((run, step)) = expect.must.keys().next_back() {
        let revision = format!("{run}@step:{step}");
        store
            .resolve(&revision)
            .map_err(|e| Violation::new("I1", format!("{revision} is not found: {e:?}")))?;
    }
    let runs: BTreeSet<&String> = expect.must.keys().map(|(run, _)| run).collect();
    for run in runs {
        store
            .checkpoint(run)
            .map_err(|e| Violation::new("I1", format!("run {run} does not open: {e:?}")))?;
    }
    Ok(())
}

/// I1 for tags: there, at one of the targets that they may have by now.
fn acknowledged_tags_are_there(store: &Store, listing: &Listing, expect: &Expect) -> Checked {
    let tags = store
        .tags()
        .map_err(|e| Violation::new("I1", format!("no tags: {e:?}")))?;
    for (name, expected) in &expect.tags {
        let Some(id) = tags.get(*name) else {
            match expected.sure {
                true => return Err(Violation::new("I1", format!("tag {name:?} is lost"))),
                false => continue,
            }
        };
        // One checkpoint may be in several runs.
        let named = listing.checkpoints.iter().filter(|s| s.id == *id);
        let found: Vec<Key> = named.map(|s| (s.placement.run.clone(), s.step)).collect();
        if !found.iter().any(|key| expected.targets.contains(key)) {
            let what = format!(
                "tag {name:?} names {found:?} and not {:?}",
                expected.targets
            );
            return Err(Violation::new("I1", what));
        }
        let resolved = store
            .resolve(name)
            .map_err(|e| Violation::new("I1", format!("tag {name:?} is not found: {e:?}")))?;
        if resolved.id != *id {
            return Err(Violation::new(
                "I1",
                format!("tag {name:?} leads to another"),
            ));
        }
    }
    Ok(())
}

/// I5: after a collection nothing lies in the store that no checkpoint needs.
pub(crate) fn nothing_is_unneeded(store: &milepost_engine::Result<Store>) -> Checked {
    let options = VerifyOptions::default();
    let verified = store.as_ref().map(|s| s.verify(&options, &Unobserved));
    let report = match verified {
        Ok(Ok(report)) => report,
        other => return Err(Violation::new("I5", format!("cannot verify: {other:?}"))),
    };
    let trash = store
        .as_ref()
        .map(|s| s.disk_usage().map(|u| u.trash_bytes));
    if report.unneeded_packs > 0 || !matches!(trash, Ok(Ok(0))) {
        let what = format!("{} packs, trash {trash:?}", report.unneeded_packs);
        return Err(Violation::new("I5", format!("a collection leaves {what}")));
    }
    Ok(())
}

/// I5: between transactions nothing but locks lies in `txn/`.
pub(crate) fn nothing_is_left_behind(state: &State) -> Checked {
    let left: Vec<String> = state.files("txn").into_keys().collect();
    match left.iter().find(|path| !path.ends_with(".lock")) {
        Some(path) => Err(Violation::new("I5", format!("{path} is left behind"))),
        None => Ok(()),
    }
}
