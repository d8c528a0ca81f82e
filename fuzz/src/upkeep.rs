//! Everything that removes or moves, on any store: what could be restored and was not let go
//! can be restored afterwards, and a plan frees what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arbitrary::Arbitrary;
use milepost_engine::{
    CheckpointId, CompactOptions, Forget, GcOptions, KeepRules, Store, Unobserved, VerifyOptions,
};

use crate::memory_disk::MemoryDisk;
use crate::small_store::options;

/// One thing that is done with a store.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Upkeep {
    /// Collects, perhaps leaving the trash.
    Collect { keep_trash: bool },
    /// Compacts, perhaps coding anew.
    Compact { reencode: bool, idle_min: u8 },
    /// Forgets all but the last, then collects; the bytes must be those of the plan.
    Forget { last: u8 },
    /// Forgets one by name.
    Drop { place: u8 },
    /// Drops a tensor of all but the last.
    Thin,
    /// Forgets what cannot be read.
    Clear,
    /// Looks at all of it.
    Verify,
}

/// What can be restored, by checkpoint and tensor.
pub type Restorable = BTreeMap<(CheckpointId, String), Vec<u8>>;

/// What can be restored of a store, each checkpoint by a process of its own: a pack that one
/// vouches for may serve another.
#[must_use]
pub fn restorable(disk: &MemoryDisk) -> Restorable {
    let mut found = BTreeMap::new();
    let open = || Store::open_on(Arc::new(disk.clone()), options());
    for id in open().iter().flat_map(listed) {
        let Ok(checkpoint) = open().and_then(|store| store.checkpoint_by_id(&id)) else {
            continue;
        };
        for tensor in &checkpoint.manifest().body.tensors {
            if let Ok(bytes) = checkpoint.tensor(&tensor.name) {
                found.insert((id, tensor.name.clone()), bytes);
            }
        }
    }
    found
}

fn listed(store: &Store) -> BTreeSet<CheckpointId> {
    let listing = store.list(None).map(|l| l.checkpoints).unwrap_or_default();
    listing.iter().map(|summary| summary.id).collect()
}

impl Upkeep {
    /// Does it; with `exact`, nothing else may be lost.
    pub fn apply(self, disk: &MemoryDisk, store: &Store, exact: bool) {
        let before = restorable(disk);
        let ids = listed(store);
        let may_go = self.run(store, exact);
        let (after, left) = (restorable(disk), listed(store));
        if !exact {
            return;
        }
        for ((id, name), bytes) in &before {
            let was_let_go = may_go == MayGo::Checkpoints && !left.contains(id)
                || may_go == MayGo::Moments && name == "moments";
            let now = after.get(&(*id, name.clone()));
            assert!(
                was_let_go || now == Some(bytes),
                "{self:?} lost {name} of {id}"
            );
        }
        if may_go == MayGo::Nothing {
            assert!(ids.is_subset(&left), "{self:?} lost a checkpoint");
        }
    }

    fn run(self, store: &Store, exact: bool) -> MayGo {
        match self {
            Self::Collect { keep_trash } => {
                let options = GcOptions {
                    keep_trash,
                    ..GcOptions::default()
                };
                let _ = store.gc(&options, &Unobserved);
                MayGo::Nothing
            }
            Self::Compact { reencode, idle_min } => {
                let options = CompactOptions {
                    idle_min_percent: idle_min % 101,
                    small_pack_len: u64::from(idle_min) * 8,
                    reencode,
                    ..CompactOptions::default()
                };
                let _ = store.compact(&options, &Unobserved);
                MayGo::Nothing
            }
            Self::Forget { last } => {
                forget(store, &all_but(last), exact);
                MayGo::Checkpoints
            }
            Self::Drop { place } => {
                let named = listed(store).into_iter().nth(usize::from(place % 8));
                let forget_it = Forget {
                    revisions: named.iter().map(ToString::to_string).collect(),
                    ..Forget::default()
                };
                forget(store, &forget_it, exact);
                MayGo::Checkpoints
            }
            Self::Thin => {
                let thin = Forget {
                    drop: vec!["moments".into()],
                    ..all_but(1)
                };
                forget(store, &thin, false);
                MayGo::Moments
            }
            Self::Clear => {
                let clear = Forget {
                    damaged: true,
                    ..Forget::default()
                };
                forget(store, &clear, false);
                MayGo::Nothing
            }
            Self::Verify => {
                let _ = store.verify(&VerifyOptions::default(), &Unobserved);
                let _ = store.unique_bytes(&Unobserved);
                MayGo::Nothing
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MayGo {
    Nothing,
    Checkpoints,
    Moments,
}

fn all_but(last: u8) -> Forget {
    Forget {
        rules: KeepRules {
            last: Some(u64::from(last % 4).max(1)),
            ..KeepRules::default()
        },
        ..Forget::default()
    }
}

/// Plans, forgets and collects; with `exact`, what the plan said is what a collection frees.
fn forget(store: &Store, forget: &Forget, exact: bool) {
    // What is of no use already is not the plan's.
    let clean = store.gc(&GcOptions::default(), &Unobserved);
    let Ok(plan) = store.plan_forget(forget, &Unobserved) else {
        return;
    };
    if store.forget(&plan, &Unobserved).is_err() {
        return;
    }
    let collected = store.gc(&GcOptions::default(), &Unobserved);
    if let (true, Ok(before), Ok(report)) = (exact, clean, collected)
        && before.unresolved == 0
    {
        assert_eq!(
            report.removed_bytes, plan.freed.pack_bytes,
            "freed by {forget:?}"
        );
    }
}
