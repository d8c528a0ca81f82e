//! Relations in manifests, and what a compaction makes of them.

use std::path::Path;

use milepost_engine::{CompactOptions, Forget, SaveOptions, Store, Unobserved};

use crate::make_golden::predicted::{Training, state};
use crate::make_golden::state::weights;
use crate::make_golden::{create, nothing};
use crate::support::golden::{Expected, ExpectedCheckpoint};

/// A tensor that others came from, which the first checkpoint gives up.
const DROPPED: &str = "optim.exp_avg_sq.w";

/// The last three of five consecutive steps, coded anew, the oldest of them thinned; a fork, and
/// a save on top of it that is told of no relations.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut training = Training::new();
    let sparse: Vec<u8> = weights(53, 2500)
        .iter()
        .flat_map(|bits| bits.to_le_bytes().into_iter().skip(2))
        .collect();
    for time in 0..5 {
        training.step(time);
        let saved = state(&training, &sparse).save(&store, SaveOptions::new("main").step(time));
        expected.checkpoints.push(saved);
    }
    forget(&store, "main@step:0", &[]);
    forget(&store, "main@step:1", &[]);
    expected.checkpoints.drain(..2);
    let thinned = &mut expected.checkpoints[0];
    forget(&store, "main@step:2", &[DROPPED]);
    thinned.tensors.remove(DROPPED);
    thinned.dropped = vec![DROPPED.into()];
    let anew = CompactOptions {
        reencode: true,
        ..CompactOptions::default()
    };
    assert!(store.compact(&anew, &Unobserved).unwrap().reencoded);
    let fork = store.fork("main@step:3", "side").unwrap();
    expected.checkpoints.push(ExpectedCheckpoint {
        run: fork.run,
        seq: fork.seq,
        id: fork.id.to_string(),
        parent: Some(expected.checkpoints[1].id.clone()),
        ..expected.checkpoints[1].clone()
    });
    training.step(9);
    let mut untold = state(&training, &sparse);
    untold.relations.clear();
    let untold = untold.save(&store, SaveOptions::new("side").step(9));
    expected.checkpoints.push(untold);
    expected
}

pub(super) fn forget(store: &Store, revision: &str, drop: &[&str]) {
    let what = Forget {
        revisions: vec![revision.into()],
        drop: drop.iter().map(|glob| (*glob).to_owned()).collect(),
        ..Forget::default()
    };
    let plan = store.plan_forget(&what, &Unobserved).unwrap();
    store.forget(&plan, &Unobserved).unwrap();
}
