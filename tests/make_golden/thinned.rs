//! A store in which old checkpoints have lost tensors, and what only those needed is gone.

use std::path::Path;

use milepost_engine::{
    Dtype, Forget, GcOptions, KeepRules, SaveOptions, SaveReport, Store, Unobserved,
};

use crate::make_golden::state::{State, noise_bytes, stepped, weights};
use crate::make_golden::{create, nothing};
use crate::support::golden::{Expected, ExpectedCheckpoint};

const DROPPED: [&str; 2] = ["optim.m", "optim.v"];

/// Two thinned checkpoints, one whole, a fork of a thinned one, and one that is whole again.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut bits = weights(3, 700);
    let mut first = None;
    for step in 0..4u64 {
        let mut state = State::default();
        state.floats("model.w", bits.iter().copied());
        for (seed, name) in (step * 10..).zip(DROPPED) {
            state.tensor(name, Dtype::U8, &[3000], noise_bytes(seed, 3000));
        }
        state.blobs.insert("rng".into(), noise_bytes(step, 40));
        let saved = state.save(&store, SaveOptions::new("main").step(step));
        expected.checkpoints.push(saved);
        bits = stepped(&bits, step);
        first.get_or_insert(state);
    }
    thin(&store);
    for checkpoint in &mut expected.checkpoints[..3] {
        *checkpoint = without(checkpoint);
    }
    let fork = store.fork("main@step:1", "fork").unwrap();
    expected
        .checkpoints
        .insert(0, forked(&expected.checkpoints[1], &fork));
    // Saved again, the first is whole again.
    let again = first
        .unwrap_or_default()
        .save(&store, SaveOptions::new("main").step(0));
    expected.checkpoints[1] = ExpectedCheckpoint {
        parent: None,
        ..again
    };
    expected
}

fn thin(store: &Store) {
    let what = Forget {
        rules: KeepRules {
            last: Some(1),
            ..KeepRules::default()
        },
        drop: vec!["optim.*".into()],
        ..Forget::default()
    };
    let plan = store.plan_forget(&what, &Unobserved).unwrap();
    assert_eq!(store.forget(&plan, &Unobserved).unwrap().thinned, 3);
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
}

fn without(checkpoint: &ExpectedCheckpoint) -> ExpectedCheckpoint {
    let mut thinned = checkpoint.clone();
    thinned
        .tensors
        .retain(|name, _| !DROPPED.contains(&name.as_str()));
    thinned.dropped = DROPPED.map(str::to_owned).into();
    thinned
}

fn forked(source: &ExpectedCheckpoint, report: &SaveReport) -> ExpectedCheckpoint {
    ExpectedCheckpoint {
        run: report.run.clone(),
        seq: report.seq,
        id: report.id.to_string(),
        parent: Some(source.id.clone()),
        ..source.clone()
    }
}
