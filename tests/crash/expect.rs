//! What a store must hold, may hold and must not hold after what the test has seen done.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use milepost_engine::{CheckpointId, Durability, Error, ErrorKind, Result, Store};

use super::driver::Done;
use super::workload::Op;

/// A run and a step: in the workload, no two checkpoints share them.
pub(crate) type Key = (String, u64);

/// A file's path and a hash of its bytes.
pub(crate) type Files = BTreeMap<String, u64>;

/// What the test saw.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Started(Op),
    /// These are about to be dropped: they are promised no more, but for one that is promised until
    /// another stands in for it.
    Going(Vec<Key>, Option<OneOf>),
    /// It returned without an error: what it promises holds from now on.
    Done {
        op: Op,
        done: Done,
        /// The packs there were then.
        packs: Arc<Files>,
    },
}

/// A checkpoint that was acknowledged.
#[derive(Clone, Debug, Hash, PartialEq)]
pub(crate) struct Must {
    pub(crate) id: CheckpointId,
    pub(crate) seq: u64,
    pub(crate) relaxed: bool,
}

/// The newest durable checkpoint of a run that goes, and what stands in for it: one is there.
pub(crate) type OneOf = [(Key, Must); 2];

/// A tag's possible targets.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct TagTargets {
    pub(crate) targets: Vec<Key>,
    /// Whether it was ever acknowledged.
    pub(crate) sure: bool,
}

/// An operation that has begun and not returned.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) op: Op,
    /// The packs there were when it returned at last, if it did.
    pub(crate) packs: Option<Arc<Files>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Expect {
    pub(crate) initialized: bool,
    pub(crate) must: BTreeMap<Key, Must>,
    /// Of each pair at least one.
    pub(crate) one_of: Vec<OneOf>,
    pub(crate) may: BTreeSet<Key>,
    pub(crate) tags: BTreeMap<&'static str, TagTargets>,
    /// Runs that a relaxed save was begun in: a crash may leave a damaged manifest there.
    pub(crate) relaxed_runs: BTreeSet<String>,
    /// Runs that tensors were dropped of: a checkpoint may lack one.
    pub(crate) thinned_runs: BTreeSet<String>,
    pub(crate) in_flight: Vec<Flight>,
    /// Whether the device may have refused bytes: until the next crash, relaxed checkpoints may
    /// be listed and not load.
    pub(crate) lossy: bool,
}

impl Expect {
    /// What holds before the first of the events, after it, and so on.
    pub(crate) fn after_each(self, events: &[Event]) -> Vec<Self> {
        let mut all = vec![self];
        for (index, event) in events.iter().enumerate() {
            let mut next = all[index].clone();
            match event {
                Event::Started(op) => {
                    let packs = events[index..].iter().find_map(|later| match later {
                        Event::Done {
                            op: done, packs, ..
                        } if done == op => Some(Arc::clone(packs)),
                        _ => None,
                    });
                    next.start(op, packs);
                }
                Event::Going(keys, one_of) => next.let_go(keys, one_of.as_ref()),
                Event::Done { op, done, .. } => next.finish(op, done),
            }
            all.push(next);
        }
        all
    }

    fn start(&mut self, op: &Op, packs: Option<Arc<Files>>) {
        self.in_flight.retain(|flight| flight.op != *op);
        self.in_flight.push(Flight {
            op: op.clone(),
            packs,
        });
        if let Some(run) = op.thins() {
            self.thinned_runs.insert(run.to_owned());
        }
        if let Some(key) = op.checkpoint() {
            if op.durability() == Durability::Relaxed {
                self.relaxed_runs.insert(key.0.clone());
            }
            self.may.insert(key);
        }
        for (name, target) in op.tags() {
            self.tags.entry(name).or_default().targets.push(target);
        }
    }

    fn let_go(&mut self, keys: &[Key], one_of: Option<&OneOf>) {
        self.one_of
            .retain(|pair| !pair.iter().any(|(key, _)| keys.contains(key)));
        self.one_of.extend(one_of.cloned());
        self.must.retain(|key, _| !keys.contains(key));
        for tag in self.tags.values_mut() {
            tag.sure &= !tag.targets.iter().any(|key| keys.contains(key));
        }
    }

    /// The newest checkpoint of a run that a power cut leaves for sure; unknown while another is
    /// being saved, which may be there by now.
    pub(crate) fn newest_durable(&self, run: &str) -> Option<(&Key, &Must)> {
        let saves = |flight: &Flight| flight.op.checkpoint().is_some_and(|key| key.0 == run);
        if self.in_flight.iter().any(saves) {
            return None;
        }
        let durable = |(key, must): &(&Key, &Must)| key.0 == run && !must.relaxed;
        let of_run = self.must.iter().filter(durable);
        of_run.max_by_key(|(_, must)| must.seq)
    }

    fn finish(&mut self, op: &Op, done: &Done) {
        self.in_flight.retain(|flight| flight.op != *op);
        self.initialized = true;
        if let Done::Forgot(gone) = done {
            // What is gone stays gone.
            self.may.retain(|key| !gone.contains(key));
            for key in gone {
                self.must.remove(key);
                self.tags.retain(|_, tag| tag.targets != [key.clone()]);
            }
            // What stood in for one that is gone is the newest now.
            let settled = |[newest, _]: &OneOf| gone.contains(&newest.0);
            let (settled, open) = self.one_of.drain(..).partition::<Vec<_>, _>(settled);
            self.one_of = open;
            let stand_ins = settled.into_iter().map(|[_, stand_in]| stand_in);
            self.must
                .extend(stand_ins.filter(|(key, _)| self.may.contains(key)));
        }
        if let (Some(key), Done::Saved(report)) = (op.checkpoint(), done) {
            let held = Must {
                id: report.id,
                seq: report.seq,
                relaxed: op.durability() == Durability::Relaxed,
            };
            match self.must.get(&key) {
                // A relaxed save of what is durable already takes nothing back.
                Some(before) if !before.relaxed => {}
                _ => {
                    self.must.insert(key, held);
                }
            }
        }
        for (name, target) in op.tags() {
            self.tags.insert(
                name,
                TagTargets {
                    targets: vec![target],
                    sure: true,
                },
            );
        }
    }

    /// What holds after a crash: relaxed checkpoints may be gone.
    pub(crate) fn crash(&self) -> Self {
        let mut after = self.clone();
        after.must.retain(|_, must| !must.relaxed);
        after.lossy = false;
        after
    }

    /// Equal for equal expectations.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (
            self.initialized,
            self.lossy,
            &self.must,
            &self.one_of,
            &self.may,
            &self.tags,
        )
            .hash(&mut hasher);
        (&self.relaxed_runs, &self.thinned_runs).hash(&mut hasher);
        hasher.finish()
    }
}

/// The newest durable checkpoint by what the test knows, which goes, and the newer one that stays in
/// its place: a relaxed one that was made durable before whoever did so was killed.
pub(crate) fn stand_in(store: &Store, newest: &(Key, Must), going: &[Key]) -> Result<OneOf> {
    let found = store.list(Some(&newest.0.0))?.checkpoints;
    let key = |s: &milepost_engine::Summary| (s.placement.run.clone(), s.step);
    let durable = found
        .iter()
        .filter(|s| s.placement.durability != Durability::Relaxed && !going.contains(&key(s)));
    let newer = durable.max_by_key(|s| s.placement.seq);
    let newer = newer.filter(|s| newest.1.seq < s.placement.seq);
    let Some(newer) = newer else {
        let what = format!("the newest durable, {:?}, goes", newest.0);
        return Err(Error::new(ErrorKind::Limit, "newest", what));
    };
    let must = Must {
        id: newer.id,
        seq: newer.placement.seq,
        relaxed: false,
    };
    Ok([newest.clone(), (key(newer), must)])
}
