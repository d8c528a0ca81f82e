//! What a fork is made of.

use milepost_engine::{Forget, SaveOptions, Unobserved};

use crate::support::state::{Tensor, assert_holds, save, state_of};
use crate::support::store::{TestStore, save_floats};

/// Two forks of one checkpoint have one id. A fork of the whole one was made of the other, which
/// had been thinned.
#[test]
fn a_fork_is_of_the_checkpoint_that_was_named() {
    let test = TestStore::new();
    let saved = state_of([("optim.m", Tensor::bytes(vec![7; 5000]))]);
    save(&test.store, SaveOptions::new("main"), &saved).unwrap();
    test.store.fork("main", "a").unwrap();
    test.store.fork("main", "b").unwrap();
    let thin = Forget {
        revisions: vec!["a".into()],
        drop: vec!["optim.*".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&thin, &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    test.store.fork("b", "c").unwrap();
    assert_holds(&test.store.checkpoint("c").unwrap(), &saved);
}

/// A fork that is forgotten and made once more has the same run, number and id. A cached summary
/// went on saying that it was thinned.
#[test]
fn a_fork_made_once_more_is_not_what_it_was() {
    let test = TestStore::new();
    let saved = state_of([("optim.m", Tensor::bytes(vec![7; 5000]))]);
    save(&test.store, SaveOptions::new("main"), &saved).unwrap();
    let forget = |drop: &[&str]| {
        let forget = Forget {
            revisions: vec!["a".into()],
            drop: drop.iter().map(|glob| (*glob).to_owned()).collect(),
            ..Forget::default()
        };
        let store = test.reopened();
        let plan = store.plan_forget(&forget, &Unobserved).unwrap();
        store.forget(&plan, &Unobserved).unwrap();
    };
    let dropped = || {
        let listing = test.reopened().list(None).unwrap();
        let mut of_fork = listing
            .checkpoints
            .iter()
            .filter(|c| c.placement.run == "a");
        of_fork.next().unwrap().dropped
    };
    test.store.fork("main", "a").unwrap();
    forget(&["optim.*"]);
    let writer = test.reopened();
    for step in 1..=80 {
        save_floats(&writer, step, &[("w", &[step as f32])]);
    }
    let cache = test.folder.path().join("cache");
    let cached = std::fs::read_dir(cache).unwrap().flatten();
    let is_summaries = |e: &std::fs::DirEntry| {
        let name = e.file_name();
        name.to_string_lossy().starts_with("summaries")
    };
    assert!(cached.into_iter().any(|e| is_summaries(&e)));
    assert_eq!(dropped(), 1);
    forget(&[]);
    test.reopened().fork("main@step:0", "a").unwrap();
    assert_eq!(dropped(), 0);
}
