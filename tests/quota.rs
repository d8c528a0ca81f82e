//! A limit to what the store takes: saves make room by the store's own rules, or fail cleanly.

use milepost_engine::save::QUOTA;
use milepost_engine::{
    Durability, ErrorKind, Forget, GcOptions, KeepRules, SaveOptions, Store, StoreOptions,
    StoreSettings, Unobserved, VerifyOptions,
};

use crate::support::packs;
use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::{TestStore, hold_lock};

/// What nothing else holds a part of.
fn state(step: u64) -> State {
    state_of([("x", Tensor::bytes(noise(step, 50_000)))])
}

fn with_quota(quota: u64, rules: &KeepRules) -> TestStore {
    let mut attributes = rules.to_attributes().unwrap();
    attributes.insert(QUOTA.into(), quota.to_string());
    TestStore::with(StoreSettings {
        chunk_len: 4096,
        attributes,
        ..StoreSettings::default()
    })
}

fn keep_last(last: u64) -> KeepRules {
    KeepRules {
        last: Some(last),
        ..KeepRules::default()
    }
}

fn at(step: u64) -> SaveOptions {
    SaveOptions::new("main").step(step)
}

fn steps(store: &Store) -> Vec<u64> {
    let listing = store.list(None).unwrap();
    listing.checkpoints.iter().map(|s| s.step).collect()
}

#[test]
fn without_rules_a_save_beyond_the_quota_fails_and_leaves_nothing() {
    let test = with_quota(170_000, &KeepRules::default());
    for step in 0..3 {
        assert_eq!(
            save(&test.store, at(step), &state(step)).unwrap().made_room,
            None
        );
    }
    let before = packs::files_below(test.folder.path());
    let error = save(&test.store, at(3), &state(3)).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NoSpace, "quota"));
    assert_eq!(packs::pack_files(test.folder.path()).len(), 3);
    let leftovers = packs::files_below(test.folder.path());
    assert!(leftovers.len() <= before.len() + 1, "{leftovers:?}");
    // What adds next to nothing goes in.
    save(&test.store, at(3), &state(2)).unwrap();
    // Room that somebody makes is used.
    let named = Forget {
        revisions: vec!["step:0".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&named, &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    let saved = save(&test.store, at(4), &state(4)).unwrap();
    let made = saved.made_room.unwrap();
    assert!(
        made.checkpoints == 0 && made.freed_bytes > 50_000,
        "collected by itself"
    );
    assert_holds(&test.reopened().checkpoint("step:4").unwrap(), &state(4));
}

/// Whatever the number of saves, the store stays below its quota and the rules hold.
#[test]
fn with_rules_saves_go_on_for_ever() {
    let quota = 210_000;
    let test = with_quota(quota, &keep_last(2));
    let mut rooms = 0;
    for step in 0..30 {
        let saved = save(&test.store, at(step), &state(step)).unwrap();
        rooms += u64::from(saved.made_room.is_some());
        assert!(test.store.disk_usage().unwrap().total() <= quota);
        let kept = steps(&test.store);
        assert!(kept.len() as u64 > step.min(1) && kept.last() == Some(&step));
    }
    assert!(rooms > 5, "{rooms}");
    for step in steps(&test.store) {
        let checkpoint = test.reopened().checkpoint(&format!("step:{step}")).unwrap();
        assert_holds(&checkpoint, &state(step));
    }
    let report = test.store.verify(&VerifyOptions::default(), &Unobserved);
    assert!(report.unwrap().problems.is_empty());
}

/// What the rules would drop stays if nothing newer was read back.
#[test]
fn the_newest_verified_checkpoint_stays() {
    let test = with_quota(210_000, &keep_last(1));
    save(&test.store, at(0), &state(0)).unwrap();
    let verified = at(1).durability(Durability::Verified);
    save(&test.store, verified, &state(1)).unwrap();
    for step in 2..12 {
        save(&test.store, at(step), &state(step)).unwrap();
        assert!(steps(&test.store).contains(&1), "{:?}", steps(&test.store));
    }
    assert!(!steps(&test.store).contains(&0));
}

/// The rules are kept even if that means that there is no room.
#[test]
fn what_the_rules_keep_is_not_dropped_for_room() {
    let test = with_quota(120_000, &keep_last(5));
    save(&test.store, at(0), &state(0)).unwrap();
    save(&test.store, at(1), &state(1)).unwrap();
    let error = save(&test.store, at(2), &state(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert_eq!(steps(&test.reopened()), [0, 1]);
    // The options of a process say otherwise.
    let options = StoreOptions {
        quota: Some(1 << 30),
        ..StoreOptions::default()
    };
    let generous = Store::open(test.folder.path(), options).unwrap();
    save(&generous, at(2), &state(2)).unwrap();
    test.store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(steps(&test.store), [0, 1, 2]);
}

#[test]
fn a_quota_that_is_no_number_stops_saves_and_nothing_else() {
    let test = TestStore::with(StoreSettings {
        attributes: [(QUOTA.to_owned(), "plenty".to_owned())].into(),
        ..StoreSettings::default()
    });
    let error = save(&test.store, at(0), &state(0)).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Unsupported, "quota")
    );
    assert!(test.store.list(None).unwrap().checkpoints.is_empty());
}

/// A save that was far too large once cost every checkpoint that the rules did not keep.
#[test]
fn what_is_not_enough_is_not_dropped() {
    let test = with_quota(210_000, &keep_last(1));
    for step in 0..3 {
        save(&test.store, at(step), &state(step)).unwrap();
    }
    let large = state_of([("x", Tensor::bytes(noise(9, 300_000)))]);
    let error = save(&test.store, at(9), &large).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::NoSpace, "quota"));
    let advice = error.advice().unwrap();
    let needed: u64 = advice
        .split(' ')
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert!((300_000..310_000).contains(&needed), "{advice}");
    assert!(advice.contains("nothing was dropped"), "{advice}");
    assert_eq!(steps(&test.reopened()), [0, 1, 2]);
    assert_eq!(packs::pack_files(test.folder.path()).len(), 3);
    save(&test.store, at(3), &state(3)).unwrap();
    let made = save(&test.store, at(4), &state(4)).unwrap().made_room;
    assert_eq!(made.unwrap().checkpoints, 3);
}

/// What nothing needs any more goes before what the rules do not keep.
#[test]
fn what_a_collection_frees_is_used_first() {
    let test = with_quota(210_000, &keep_last(1));
    for step in 0..3 {
        save(&test.store, at(step), &state(step)).unwrap();
    }
    let named = Forget {
        revisions: vec!["step:1".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&named, &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    save(&test.store, at(3), &state(3)).unwrap();
    let made = save(&test.store, at(4), &state(4)).unwrap().made_room;
    assert_eq!(made.unwrap().checkpoints, 0);
    assert_eq!(steps(&test.store), [0, 2, 3, 4]);
}

/// What was dropped while another process collects would have made no room.
#[test]
fn nothing_is_dropped_while_nobody_can_collect() {
    let test = with_quota(170_000, &keep_last(1));
    for step in 0..3 {
        save(&test.store, at(step), &state(step)).unwrap();
    }
    let _held = hold_lock(&test.folder.path().join("txn/collector.lock"));
    let error = save(&test.store, at(3), &state(3)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.advice().unwrap().contains("nothing was dropped"));
    assert_eq!(test.store.make_room(&Unobserved).unwrap(), None);
    assert_eq!(steps(&test.reopened()), [0, 1, 2]);
}
