//! A store against a model of plain maps: any sequence of operations leaves both the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arbitrary::Arbitrary;
use milepost_engine::{
    CheckpointId, CompactOptions, Dtype, Durability, ErrorKind, Forget, Full, GcOptions, Level,
    SaveOptions, Store, StoreSettings, Summary, Unobserved,
};

use crate::memory_disk::MemoryDisk;
use crate::small_store::{options, settings};

/// One change of a working state.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Edit {
    /// A tensor of `len` elements of a kind, filled from a seed.
    Set {
        slot: u8,
        dtype: u8,
        len: u16,
        seed: u8,
    },
    /// One byte changes.
    Flip { slot: u8, at: u16, xor: u8 },
    /// The low byte of every `stride`-th lane changes a little.
    Drift { slot: u8, stride: u8, by: u8 },
    /// A tensor gets another's bytes, type and shape.
    Copy { from: u8, to: u8 },
    /// A tensor goes.
    Remove { slot: u8 },
}

/// One thing done to a store.
#[derive(Arbitrary, Clone, Debug)]
pub enum Operation {
    /// Edits the run's working state and saves it.
    Save {
        run: u8,
        edits: Vec<Edit>,
        how: u8,
        step: Option<u8>,
    },
    /// Starts a run at a checkpoint.
    Fork { at: u8, run: u8 },
    /// Names a checkpoint.
    Tag { at: u8, name: u8 },
    /// Removes a tag.
    Untag { name: u8 },
    /// Drops every cache, as a new process would.
    Reopen { maps: bool },
    /// Drops a checkpoint.
    Forget { at: u8 },
    /// Collects what nothing needs.
    Gc,
    /// Rewrites packs.
    Compact { idle_min: u8, anew: bool },
}

/// What a checkpoint holds: dtype and bytes by name; shapes have one dimension.
type State = BTreeMap<String, (Dtype, u64, Vec<u8>)>;

/// A checkpoint of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    step: u64,
    seq: u64,
    id: CheckpointId,
}

/// The store and what it should hold.
pub struct Model {
    disk: MemoryDisk,
    store: Store,
    working: BTreeMap<String, State>,
    runs: BTreeMap<String, Vec<Held>>,
    saved: HashMap<CheckpointId, State>,
    order: Vec<CheckpointId>,
    tags: BTreeMap<String, CheckpointId>,
}

impl Model {
    /// An empty store; the bounds come from the fuzzer.
    #[must_use]
    pub fn new(depth_max: u8, budget: u8, full_every: u8) -> Self {
        let disk = MemoryDisk::default();
        let settings = StoreSettings {
            depth_max,
            restore_budget_milli: 1000 + u32::from(budget) * 20,
            full_every: u32::from(full_every % 5),
            ..settings()
        };
        let store = Store::create_on(Arc::new(disk.clone()), settings, options()).unwrap();
        Self {
            disk,
            store,
            working: BTreeMap::new(),
            runs: BTreeMap::new(),
            saved: HashMap::new(),
            order: Vec::new(),
            tags: BTreeMap::new(),
        }
    }

    /// Does one operation to both and holds the outcomes against each other.
    pub fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Save {
                run,
                edits,
                how,
                step,
            } => {
                let run = format!("run{}", run % 3);
                let state = self.working.entry(run.clone()).or_default();
                edits.iter().take(8).for_each(|e| edit(state, *e));
                self.save(&run, *how, step.map(u64::from));
            }
            Operation::Fork { at, run } => self.fork(*at, &format!("run{}", run % 3)),
            Operation::Tag { at, name } => {
                if let Some(id) = self.pick(*at) {
                    let name = format!("tag{}", name % 3);
                    self.store.tag(&name, &id).unwrap();
                    self.tags.insert(name, id);
                }
            }
            Operation::Untag { name } => {
                let name = format!("tag{}", name % 3);
                let found = self.store.untag(&name).is_ok();
                assert_eq!(found, self.tags.remove(&name).is_some());
            }
            Operation::Reopen { maps } => self.reopen(*maps),
            Operation::Forget { at } => self.forget(*at),
            Operation::Gc => {
                let report = self.store.gc(&GcOptions::default(), &Unobserved).unwrap();
                assert_eq!(report.unresolved, 0);
            }
            Operation::Compact { idle_min, anew } => self.compact(*idle_min, *anew),
        }
    }

    fn pick(&self, at: u8) -> Option<CheckpointId> {
        self.order
            .get(usize::from(at) % self.order.len().max(1))
            .copied()
    }

    fn reopen(&mut self, maps: bool) {
        self.disk.maps = maps;
        self.store = Store::open_on(Arc::new(self.disk.clone()), options()).unwrap();
    }

    fn save(&mut self, run: &str, how: u8, step: Option<u64>) {
        let state = &self.working[run];
        let mut options = SaveOptions::new(run);
        options.full =
            [Full::Auto, Full::Auto, Full::Shared, Full::SelfContained][usize::from(how & 3)];
        options.level = [None, Some(Level::Balanced)][usize::from(how >> 2 & 1)];
        options.durability = Durability::ALL[usize::from(how >> 3) % 3];
        options.step = step;
        let full = options.full != Full::Auto;
        let mut draft = self.store.draft(options).unwrap();
        for (name, (dtype, len, bytes)) in state {
            draft.tensor(name, *dtype, &[*len], bytes).unwrap();
        }
        let step = draft.step();
        let line = self.runs.entry(run.to_owned()).or_default();
        let held = line
            .iter()
            .find(|held| held.step == step)
            .map(|held| held.id);
        match (draft.commit(), held) {
            (Ok(report), None) => {
                assert!(!report.existed && (report.full || !full));
                let last = line.last().map_or(0, |held| held.seq);
                assert_eq!(report.seq, last + 1);
                assert!(report.depth <= self.store.settings().depth_max);
                line.push(Held {
                    step,
                    seq: report.seq,
                    id: report.id,
                });
                self.saved.insert(report.id, state.clone());
                self.order.push(report.id);
            }
            (Ok(report), Some(id)) => {
                assert!(report.existed && report.id == id && self.saved[&id] == *state);
            }
            (Err(error), Some(id)) => {
                assert_eq!(error.kind(), ErrorKind::Conflict);
                assert_ne!(self.saved[&id], *state);
            }
            (Err(error), None) => panic!("{error:?}"),
        }
    }

    fn forget(&mut self, at: u8) {
        let Some(id) = self.pick(at) else { return };
        let named = Forget {
            revisions: vec![id.to_string()],
            ..Forget::default()
        };
        let plan = self.store.plan_forget(&named, &Unobserved).unwrap();
        let going: Vec<_> = plan.going().map(|j| j.checkpoint.place()).collect();
        self.store.forget(&plan, &Unobserved).unwrap();
        for place in &going {
            let line = self.runs.entry(place.run.clone()).or_default();
            line.retain(|held| (held.seq, held.id) != (place.seq, place.id));
        }
        let first = self.order.iter().position(|held| *held == id);
        first.map(|at| self.order.remove(at));
        // Another run may hold the very same checkpoint.
        if !self.runs.values().flatten().any(|held| held.id == id) {
            self.saved.remove(&id);
            self.tags.retain(|_, tagged| *tagged != id);
        }
    }

    fn compact(&mut self, idle_min: u8, anew: bool) {
        let options = CompactOptions {
            idle_min_percent: idle_min % 101,
            reencode: anew,
            ..CompactOptions::default()
        };
        let report = self.store.compact(&options, &Unobserved).unwrap();
        assert!(report.damaged_packs.is_empty());
        assert!(idle_min > 0 || report.collected.idle_bytes == 0);
    }

    fn fork(&mut self, at: u8, run: &str) {
        let Some(id) = self.pick(at) else { return };
        let taken = self.runs.get(run).is_some_and(|line| !line.is_empty());
        match self.store.fork(&id.to_string(), run) {
            Ok(report) => {
                assert!(!taken && report.new_chunks == 0);
                let state = self.saved[&id].clone();
                let held = Held {
                    step: report.step,
                    seq: report.seq,
                    id: report.id,
                };
                self.runs.insert(run.to_owned(), vec![held]);
                self.working.insert(run.to_owned(), state.clone());
                self.saved.insert(report.id, state);
                self.order.push(report.id);
            }
            Err(error) => assert!(taken && error.kind() == ErrorKind::Conflict, "{error:?}"),
        }
    }

    /// Holds everything in the store against the model, through fresh caches.
    pub fn check(&mut self) {
        self.reopen(!self.disk.maps);
        assert_eq!(self.store.tags().unwrap(), self.tags);
        for (run, line) in &self.runs {
            let listing = self.store.list(Some(run)).unwrap();
            assert!(listing.damaged.is_empty());
            let held = |s: &Arc<Summary>| Held {
                step: s.step,
                seq: s.placement.seq,
                id: s.id,
            };
            let found: Vec<Held> = listing.checkpoints.iter().map(held).collect();
            assert_eq!(&found, line);
        }
        for (id, state) in &self.saved {
            let checkpoint = self.store.checkpoint_by_id(id).unwrap();
            assert_eq!(checkpoint.manifest().body.tensors.len(), state.len());
            for (name, (_, _, bytes)) in state {
                assert_eq!(&checkpoint.tensor(name).unwrap(), bytes);
            }
        }
    }
}

fn edit(state: &mut State, edit: Edit) {
    let name = |slot: u8| format!("t{}", slot % 4);
    match edit {
        Edit::Set {
            slot,
            dtype,
            len,
            seed,
        } => {
            let dtype = Dtype::ALL[usize::from(dtype) % Dtype::ALL.len()];
            let len = u64::from(len % 2000) * 4;
            let bytes = usize::try_from(dtype.byte_len(len).unwrap()).unwrap();
            let byte = |i: usize| (i / 3 % 251) as u8 ^ seed;
            state.insert(name(slot), (dtype, len, (0..bytes).map(byte).collect()));
        }
        Edit::Flip { slot, at, xor } => {
            let tensor = state.get_mut(&name(slot)).map(|t| &mut t.2);
            if let Some(byte) = tensor.and_then(|t| t.get_mut(usize::from(at))) {
                *byte ^= xor;
            }
        }
        Edit::Drift { slot, stride, by } => {
            if let Some((dtype, _, bytes)) = state.get_mut(&name(slot)) {
                let step = dtype.lane().width * (usize::from(stride) + 1);
                bytes
                    .iter_mut()
                    .step_by(step)
                    .for_each(|b| *b = b.wrapping_add(by % 4));
            }
        }
        Edit::Copy { from, to } => {
            if let Some(tensor) = state.get(&name(from)).cloned() {
                state.insert(name(to), tensor);
            }
        }
        Edit::Remove { slot } => {
            state.remove(&name(slot));
        }
    }
}
