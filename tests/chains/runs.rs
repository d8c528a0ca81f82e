//! Steps, forks and tags: what may be done twice, what conflicts, what a name then means.

use milepost_engine::{ErrorKind, SaveOptions};

use crate::support::state::{State, Tensor, assert_holds, save, save_to, state_of};
use crate::support::store::TestStore;

fn at(value: f32) -> State {
    state_of([(
        "w",
        Tensor::floats((0..2000u16).map(|i| f32::from(i) * value)),
    )])
}

#[test]
fn a_fork_shares_everything_and_then_diverges() {
    let test = TestStore::new();
    let base = save_to(&test.store, "main", &at(1.0));
    let fork = test.store.fork("main", "trial").unwrap();
    assert_eq!((fork.new_chunks, fork.step), (0, base.step));
    assert_ne!(
        fork.id, base.id,
        "a fork continues the checkpoint it was made of"
    );
    save_to(&test.store, "main", &at(2.0));
    save_to(&test.store, "trial", &at(3.0));
    let store = test.reopened();
    for (revision, state) in [
        ("main", at(2.0)),
        ("trial", at(3.0)),
        ("main~1", at(1.0)),
        ("trial~1", at(1.0)),
        ("trial~2", at(1.0)),
    ] {
        assert_holds(&store.checkpoint(revision).unwrap(), &state);
    }
    assert_eq!(store.checkpoint("trial~2").unwrap().id(), base.id);
    let taken = store.fork("main", "trial").unwrap_err();
    assert_eq!(
        (taken.kind(), taken.code()),
        (ErrorKind::Conflict, "run-exists")
    );
}

#[test]
fn the_same_step_twice_is_the_same_checkpoint_or_a_conflict() {
    let test = TestStore::new();
    let first = save(&test.store, SaveOptions::new("main").step(7), &at(1.0)).unwrap();
    let files = || crate::support::packs::files_below(&test.folder.path().join("runs"));
    let before = files();
    for store in [&test.store, &test.reopened()] {
        let again = save(store, SaveOptions::new("main").step(7), &at(1.0)).unwrap();
        assert!(again.existed && again.id == first.id && again.added_bytes == 0);
        let error = save(store, SaveOptions::new("main").step(7), &at(2.0)).unwrap_err();
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::Conflict, "step-exists")
        );
    }
    assert_eq!(files(), before);
}

#[test]
fn tags_move_and_go_and_never_change_a_checkpoint() {
    let test = TestStore::new();
    let one = save_to(&test.store, "main", &at(1.0)).id;
    let two = save_to(&test.store, "main", &at(2.0)).id;
    test.store.tag("best", &one).unwrap();
    assert_holds(&test.reopened().checkpoint("best").unwrap(), &at(1.0));
    test.store.tag("best", &two).unwrap();
    assert_holds(&test.reopened().checkpoint("best").unwrap(), &at(2.0));
    assert_eq!(test.reopened().checkpoint("best~1").unwrap().id(), one);
    test.store.untag("best").unwrap();
    for gone in [
        test.store.untag("best").unwrap_err(),
        test.reopened().checkpoint("best").unwrap_err(),
    ] {
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    }
    let unknown = milepost_engine::CheckpointId([0; 32]);
    assert_eq!(
        test.store.tag("x", &unknown).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        test.store.tag("../x", &one).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn steps_follow_the_parent_unless_they_are_named() {
    let test = TestStore::new();
    let step = |options, value| save(&test.store, options, &at(value)).unwrap().step;
    assert_eq!(step(SaveOptions::new("main"), 1.0), 0);
    assert_eq!(step(SaveOptions::new("main").step(100), 2.0), 100);
    assert_eq!(step(SaveOptions::new("main"), 3.0), 101);
    let from_first = SaveOptions {
        parent: Some("step:0".into()),
        ..SaveOptions::new("other")
    };
    assert_eq!(step(from_first, 4.0), 1);
}
