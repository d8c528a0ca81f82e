//! Compaction: fewer and smaller files, the same checkpoints with the same ids.

mod moving;
mod related;
mod trouble;

use std::collections::BTreeMap;

use milepost_engine::{
    CheckpointId, CompactOptions, CompactReport, Durability, Forget, GcOptions, KeepRules,
    SaveOptions, Store, StoreOptions, StoreSettings, Unobserved, VerifyOptions,
};
use proptest::prelude::{ProptestConfig, any, proptest};

use crate::support::packs;
use crate::support::rng::Rng;
use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::TestStore;

/// Weights that move a little each step, and a part that never does.
fn state(step: u64) -> State {
    let drift = (0..6000u16).map(|i| (f32::from(i) * 0.1).sin() * (1.0 + step as f32 * 1e-4));
    state_of([
        ("frozen", Tensor::bytes(noise(999, 9000))),
        ("optim.m", Tensor::bytes(noise(step, 5000))),
        ("w", Tensor::floats(drift)),
    ])
}

fn save_steps(store: &Store, run: &str, steps: impl IntoIterator<Item = u64>) {
    for step in steps {
        save(store, SaveOptions::new(run).step(step), &state(step)).unwrap();
    }
}

fn forget_all_but(store: &Store, last: u64) {
    let keep = Forget {
        rules: KeepRules {
            last: Some(last),
            ..KeepRules::default()
        },
        ..Forget::default()
    };
    let plan = store.plan_forget(&keep, &Unobserved).unwrap();
    store.forget(&plan, &Unobserved).unwrap();
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
}

/// Compacts everything that can be, however little is gained.
fn eager() -> CompactOptions {
    CompactOptions {
        idle_min_percent: 0,
        ..CompactOptions::default()
    }
}

fn compact(store: &Store, options: &CompactOptions) -> CompactReport {
    store.compact(options, &Unobserved).unwrap()
}

fn ids(store: &Store) -> BTreeMap<(String, u64), CheckpointId> {
    let listing = store.list(None).unwrap();
    assert!(listing.damaged.is_empty() && listing.lost.is_empty());
    let checkpoints = listing.checkpoints.iter();
    checkpoints
        .map(|s| ((s.placement.run.clone(), s.step), s.id))
        .collect()
}

/// Every checkpoint is what it was, by hints alone; nothing else is in the store.
fn assert_all_there(test: &TestStore, expected: &BTreeMap<(String, u64), CheckpointId>) {
    let store = test.reopened();
    assert_eq!(ids(&store), *expected);
    for ((run, step), id) in expected {
        let checkpoint = store.checkpoint_by_id(id).unwrap();
        assert_holds(&checkpoint, &state(*step));
        let packs = packs::records(test.folder.path());
        for hint in &checkpoint.manifest().packs {
            assert!(packs.contains_key(&hint.pack), "{run} {step}: a stale hint");
        }
    }
    let everything = VerifyOptions::default();
    let report = store.verify(&everything, &Unobserved).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn small_packs_become_one_and_a_second_time_nothing_happens() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..9);
    test.store.fork("main@step:4", "side").unwrap();
    save_steps(&test.store, "side", 20..23);
    let before = ids(&test.store);
    assert_eq!(packs::pack_files(test.folder.path()).len(), 12);
    let dry = CompactOptions {
        dry_run: true,
        ..CompactOptions::default()
    };
    let planned = compact(&test.store, &dry);
    assert_eq!(packs::pack_files(test.folder.path()).len(), 12);
    let report = compact(&test.store, &CompactOptions::default());
    assert_eq!((planned.rewritten_packs, report.rewritten_packs), (12, 12));
    assert_eq!((report.new_packs, report.moved_checkpoints), (1, 13));
    assert_eq!(report.collected.removed_packs, 12);
    assert_eq!(packs::pack_files(test.folder.path()).len(), 1);
    assert_all_there(&test, &before);
    let again = compact(&test.store, &eager());
    assert_eq!((again.rewritten_packs, again.moved_checkpoints), (0, 0));
}

#[test]
fn what_nothing_needs_is_left_behind() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..6);
    forget_all_but(&test.store, 2);
    let before = ids(&test.store);
    let bytes = test.store.disk_usage().unwrap().total();
    let report = compact(&test.store, &eager());
    assert_eq!(report.collected.idle_bytes, 0);
    assert!(test.store.disk_usage().unwrap().total() < bytes);
    assert_all_there(&test, &before);
    // Whoever held the store open goes on as well.
    save_steps(&test.store, "main", 6..7);
    assert_holds(&test.reopened().checkpoint("step:6").unwrap(), &state(6));
}

/// A pack in which little is idle and which is not small is left alone.
#[test]
fn what_would_gain_little_is_not_rewritten() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..4);
    forget_all_but(&test.store, 3);
    let tolerant = CompactOptions {
        idle_min_percent: 100,
        small_pack_len: 0,
        ..CompactOptions::default()
    };
    let before = packs::pack_files(test.folder.path());
    assert_eq!(compact(&test.store, &tolerant).rewritten_packs, 0);
    assert_eq!(packs::pack_files(test.folder.path()), before);
}

/// The newest comes to stand alone, what is old is coded against what is newer, and the base
/// of a checkpoint that was forgotten goes.
#[test]
fn coding_anew_turns_chains_round_and_frees_bases() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..8);
    forget_all_but(&test.store, 3);
    let before = ids(&test.store);
    let base = compact(&test.store, &eager());
    assert!(base.base_bytes > 0, "step 5 stands on a base that is gone");
    let bytes = test.store.disk_usage().unwrap().total();
    let newest = test.store.list(None).unwrap().checkpoints.pop().unwrap();
    assert!(newest.placement.depth > 0);
    let anew = CompactOptions {
        reencode: true,
        ..CompactOptions::default()
    };
    let report = compact(&test.store, &anew);
    assert!(report.reencoded);
    assert!(test.store.disk_usage().unwrap().total() < bytes);
    assert_all_there(&test, &before);
    let depths = |store: &Store| -> Vec<u8> {
        let listing = store.list(None).unwrap();
        listing
            .checkpoints
            .iter()
            .map(|s| s.placement.depth)
            .collect()
    };
    let turned = depths(&test.reopened());
    assert!(turned[0] > 0 && turned.last() == Some(&0), "{turned:?}");
    assert_eq!(turned, depths(&test.store), "summaries follow");
    let dry = CompactOptions {
        dry_run: true,
        ..eager()
    };
    assert_eq!(compact(&test.store, &dry).base_bytes, 0);
}

#[test]
fn coding_anew_keeps_the_bounds() {
    let settings = StoreSettings {
        chunk_len: 4096,
        full_every: 3,
        ..StoreSettings::default()
    };
    let test = TestStore::with(settings);
    save_steps(&test.store, "main", 0..10);
    forget_all_but(&test.store, 8);
    let before = ids(&test.store);
    let report = compact(
        &test.store,
        &CompactOptions {
            reencode: true,
            ..CompactOptions::default()
        },
    );
    assert_all_there(&test, &before);
    assert!(report.reencoded, "{report:?}");
    let listing = test.reopened().list(None).unwrap();
    let full: Vec<bool> = listing
        .checkpoints
        .iter()
        .map(|s| s.placement.full)
        .collect();
    for (age, is_full) in full.iter().rev().enumerate() {
        assert!(*is_full || age % 3 != 0, "{full:?}");
    }
    for summary in &listing.checkpoints {
        let budget = 2 * summary.placement.logical_bytes;
        assert!(summary.placement.restore_cost <= budget);
    }
}

/// What takes no less space is not kept, and the packs are merged all the same.
#[test]
fn coding_anew_for_nothing_is_undone() {
    let test = TestStore::new();
    for step in 0..3 {
        let random = state_of([("x", Tensor::bytes(noise(step, 9000)))]);
        save(&test.store, SaveOptions::new("main").step(step), &random).unwrap();
    }
    let options = CompactOptions {
        reencode: true,
        ..CompactOptions::default()
    };
    let report = compact(&test.store, &options);
    assert!(!report.reencoded && report.new_packs == 1, "{report:?}");
}

/// What a relaxed save left unsynced may come to be all that a durable checkpoint has.
#[test]
fn relaxed_checkpoints_become_durable() {
    let test = TestStore::new();
    let relaxed = |step| SaveOptions {
        durability: Durability::Relaxed,
        ..SaveOptions::new("main").step(step)
    };
    for step in 0..3 {
        save(&test.store, relaxed(step), &state(step)).unwrap();
    }
    let before = ids(&test.store);
    compact(&test.store, &eager());
    assert_all_there(&test, &before);
    for summary in test.reopened().list(None).unwrap().checkpoints {
        assert_eq!(summary.placement.durability, Durability::Durable);
    }
}

/// Somebody restores, having planned it before, while everything moves.
#[test]
fn a_reader_with_an_old_plan_reads_on() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..6);
    let reader = test.reopened();
    let old = reader.checkpoint("step:3").unwrap();
    let anew = CompactOptions {
        reencode: true,
        ..eager()
    };
    compact(&test.store, &eager());
    assert_holds(&old, &state(3));
    forget_all_but(&test.store, 3);
    compact(&test.store, &anew);
    assert_holds(&old, &state(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any sequence of saves, forks, deletions, thinning, collections and compactions, by two
    /// handles: every checkpoint that should be there is there and exact.
    #[test]
    fn no_sequence_of_operations_loses_anything(seed in any::<u64>()) {
        let mut rng = Rng::new(seed);
        let test = TestStore::new();
        let handles = [test.reopened(), test.reopened()];
        let (mut next, mut forks) = (0, 0);
        for _ in 0..30 {
            let store = &handles[rng.below(2)];
            let run = ["main", "side"][rng.below(2)];
            match rng.below(8) {
                0..=3 => {
                    save_steps(store, run, [next]);
                    next += 1;
                }
                4 if !ids(store).is_empty() => {
                    forks += 1;
                    let _ = store.fork("latest", &format!("fork{forks}"));
                }
                5 if !ids(store).is_empty() => forget_all_but(store, 1 + rng.next() % 3),
                6 | 7 => {
                    let options = CompactOptions {
                        reencode: rng.percent(40),
                        idle_min_percent: (rng.next() % 101) as u8,
                        small_pack_len: rng.next() % 60_000,
                        ..CompactOptions::default()
                    };
                    compact(store, &options);
                }
                _ => {}
            }
        }
        let expected = ids(&test.reopened());
        assert_all_there(&test, &expected);
        // Both handles still know their way.
        for store in &handles {
            for ((_, step), id) in &expected {
                assert_holds(&store.checkpoint_by_id(id).unwrap(), &state(*step));
            }
        }
    }
}

/// Opens what a process in a long run holds: a store with packs by the hundred.
#[test]
fn hundreds_of_tiny_checkpoints_become_one_pack() {
    let test = TestStore::new();
    let store = Store::open(test.folder.path(), StoreOptions::default()).unwrap();
    for step in 0..200u64 {
        let tiny = state_of([("x", Tensor::bytes(noise(step, 64)))]);
        let relaxed = SaveOptions {
            durability: Durability::Relaxed,
            ..SaveOptions::new("main").step(step)
        };
        save(&store, relaxed, &tiny).unwrap();
    }
    let report = compact(&store, &CompactOptions::default());
    assert_eq!((report.rewritten_packs, report.new_packs), (200, 1));
    for step in [0, 99, 199] {
        let checkpoint = test.reopened().checkpoint(&format!("step:{step}")).unwrap();
        assert_eq!(checkpoint.tensor("x").unwrap(), noise(step, 64));
    }
}
