//! A store that was compacted: records whose inputs are of newer checkpoints, one pack of what
//! several saves wrote, and a save on top of it.

use std::path::Path;

use milepost_engine::{CompactOptions, Dtype, Forget, SaveOptions, Store, Unobserved};

use crate::make_golden::state::{State, noise_bytes, stepped, weights};
use crate::make_golden::{create, nothing};
use crate::support::golden::{Expected, ExpectedCheckpoint};

/// Three checkpoints of a run whose first two are gone, two of a fork, and one saved afterwards.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut bits = weights(5, 1500);
    for step in 0..5 {
        let saved = save(&store, "main", step, &bits);
        expected.checkpoints.push(saved);
        bits = stepped(&bits, step);
    }
    let fork = store.fork("main@step:3", "side").unwrap();
    let forked = ExpectedCheckpoint {
        run: fork.run,
        seq: fork.seq,
        id: fork.id.to_string(),
        parent: Some(expected.checkpoints[3].id.clone()),
        ..expected.checkpoints[3].clone()
    };
    let on_fork = save(&store, "side", 9, &stepped(&bits, 90));
    forget(&store, &["main@step:0", "main@step:1"]);
    expected.checkpoints.drain(..2);
    let anew = CompactOptions {
        reencode: true,
        ..CompactOptions::default()
    };
    let report = store.compact(&anew, &Unobserved).unwrap();
    assert!(report.reencoded && report.new_packs == 1);
    let on_top = save(&store, "main", 5, &bits);
    expected.checkpoints.extend([on_top, forked, on_fork]);
    expected
}

fn save(store: &Store, run: &str, step: u64, bits: &[u32]) -> ExpectedCheckpoint {
    let mut state = State::default();
    state.floats("w", bits.iter().copied());
    state.tensor("frozen", Dtype::U8, &[5000], noise_bytes(77, 5000));
    state.blobs.insert("rng".into(), noise_bytes(step, 40));
    state.save(store, SaveOptions::new(run).step(step))
}

fn forget(store: &Store, revisions: &[&str]) {
    let what = Forget {
        revisions: revisions.iter().map(|r| (*r).to_owned()).collect(),
        ..Forget::default()
    };
    let plan = store.plan_forget(&what, &Unobserved).unwrap();
    store.forget(&plan, &Unobserved).unwrap();
}
