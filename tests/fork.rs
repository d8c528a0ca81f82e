//! What a fork is made of.

use milepost_engine::{Forget, SaveOptions, Unobserved};

use crate::support::state::{Tensor, assert_holds, save, state_of};
use crate::support::store::TestStore;

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
