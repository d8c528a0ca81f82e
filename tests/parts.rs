//! Checkpoints that several writers save together: all parts or nothing, whoever writes them.

use std::time::Duration;

use milepost_engine::{
    Checkpoint, Draft, Dtype, Durability, Error, ErrorKind, Full, GcOptions, Part, Result,
    SaveOptions, SaveReport, Store, StoreOptions, Unobserved, VerifyOptions,
};
use proptest::prelude::*;

use crate::support::state::{State, Tensor, assert_holds, noise, save_to};
use crate::support::store::TestStore;

const RUN: &str = "main";

/// What one writer saves: every tensor whose number leaves its own as the rest.
fn share(state: &State, index: u32, count: u32) -> State {
    let numbered = (0u32..).zip(state);
    let own = numbered.filter(|(number, _)| number % count == index);
    own.map(|(_, (n, t))| (n.clone(), t.clone())).collect()
}

fn state(seed: u64) -> State {
    let tensor = |i: u64| {
        let values = (0..1500u16).map(|v| (f32::from(v) * 0.1).sin() + (seed * i) as f32 * 1e-4);
        (format!("w{i}"), Tensor::floats(values))
    };
    (0..7).map(tensor).collect()
}

fn drafted<'a>(store: &Store, options: SaveOptions, state: &'a State) -> Result<Draft<'a>> {
    let mut draft = store.draft(options)?;
    for (name, t) in state {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes)?;
    }
    Ok(draft)
}

fn options(step: u64) -> SaveOptions {
    SaveOptions::new(RUN).step(step)
}

/// Each writer has a handle of its own, as a process has.
fn saved_parts(test: &TestStore, options: &SaveOptions, state: &State, count: u32) -> Vec<Part> {
    let part = |index| {
        let own = share(state, index, count);
        let draft = drafted(&test.reopened(), options.clone(), &own).unwrap();
        draft.save_part(index, count).unwrap()
    };
    (0..count).map(part).collect()
}

fn commit<'p>(
    store: &Store,
    options: SaveOptions,
    parts: impl IntoIterator<Item = &'p Part>,
) -> Result<SaveReport> {
    let mut draft = store.draft(options)?;
    for part in parts {
        draft.add_part(part.as_bytes())?;
    }
    draft.commit()
}

fn newest(test: &TestStore) -> Checkpoint {
    test.reopened().checkpoint(RUN).unwrap()
}

fn assert_sound(store: &Store) {
    let options = VerifyOptions {
        data: milepost_engine::ReadData::All,
        ..VerifyOptions::default()
    };
    let report = store.verify(&options, &Unobserved).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

fn code(result: Result<SaveReport>) -> (ErrorKind, &'static str) {
    let error: Error = result.unwrap_err();
    (error.kind(), error.code())
}

#[test]
fn parts_of_several_writers_are_the_checkpoint_that_one_would_save() {
    let (test, alone) = (TestStore::new(), TestStore::new());
    let mut bytes_before = 0;
    for step in 0..4 {
        let parts = saved_parts(&test, &options(step), &state(step), 3);
        let report = commit(&test.reopened(), options(step), &parts).unwrap();
        let one = save_to(&alone.store, RUN, &state(step));
        assert_eq!(report.id, one.id, "step {step}");
        assert_eq!((report.chunks, report.depth), (one.chunks, one.depth));
        assert_eq!(report.new_chunks, one.new_chunks);
        let added: u64 = parts.iter().map(Part::added_bytes).sum();
        let manifest_len = report.added_bytes - added;
        assert!((100..5000).contains(&manifest_len), "{manifest_len}");
        let summary = test
            .reopened()
            .list(None)
            .unwrap()
            .checkpoints
            .pop()
            .unwrap();
        assert_eq!(summary.placement.added_bytes, added);
        bytes_before += added;
        drop(parts);
        assert_holds(&newest(&test), &state(step));
    }
    let usage = test.store.disk_usage().unwrap();
    assert_eq!(usage.pack_bytes, bytes_before);
    assert_sound(&test.store);
    let collected = test.store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(collected.removed_packs, 0, "every part is of use");
}

#[test]
fn the_coordinator_may_save_tensors_of_its_own_and_says_the_rest() {
    let test = TestStore::new();
    let (all, own) = (state(3), share(&state(3), 0, 2));
    let theirs = share(&all, 1, 2);
    let mut draft = drafted(&test.reopened(), options(8), &theirs).unwrap();
    draft.blob("rng", b"of part 0").unwrap();
    draft.metadata("host", "one").unwrap();
    draft.metric("loss", 0.25).unwrap();
    let part = draft.save_part(0, 1).unwrap();
    let mut whole = drafted(&test.store, options(8), &own).unwrap();
    whole.add_part(part.as_bytes()).unwrap();
    whole.metadata("framework", "none").unwrap();
    let handle = whole.commit_in_background().unwrap();
    assert_eq!(handle.wait().unwrap().step, 8);
    let saved = newest(&test);
    assert_holds(&saved, &all);
    assert_eq!(saved.blob("rng").unwrap(), b"of part 0");
    let body = &saved.manifest().body;
    let metadata: Vec<_> = body
        .metadata
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(metadata, [("framework", "none"), ("host", "one")]);
    assert_eq!(body.metrics.get("loss"), Some(&0.25));
}

#[test]
fn a_missing_part_or_one_too_many_commits_nothing() {
    let test = TestStore::new();
    let parts = saved_parts(&test, &options(0), &state(1), 3);
    let missing = code(commit(&test.store, options(0), &parts[..2]));
    assert_eq!(missing, (ErrorKind::InvalidInput, "part-missing"));
    let twice = code(commit(
        &test.store,
        options(0),
        parts.iter().chain(&parts[..1]),
    ));
    assert_eq!(twice, (ErrorKind::InvalidInput, "part-twice"));
    let pairs = saved_parts(&test, &options(0), &state(1), 2);
    let mixed = code(commit(&test.store, options(0), [&parts[0], &pairs[1]]));
    assert_eq!(mixed, (ErrorKind::InvalidInput, "part-count"));
    assert!(test.reopened().list(None).unwrap().checkpoints.is_empty());
    drop((parts, pairs));
    test.store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(test.store.disk_usage().unwrap().pack_bytes, 0);
}

#[test]
fn parts_of_another_store_run_or_step_are_refused() {
    let (test, other) = (TestStore::new(), TestStore::new());
    let part = |test: &TestStore, options: SaveOptions| {
        let state = state(1);
        let draft = drafted(&test.store, options, &state).unwrap();
        draft.save_part(0, 1).unwrap()
    };
    let cases = [
        (part(&other, options(0)), "part-store"),
        (part(&test, SaveOptions::new("side").step(0)), "part-run"),
        (part(&test, options(1)), "part-step"),
    ];
    for (part, expected) in cases {
        let found = code(commit(&test.store, options(0), [&part]));
        assert_eq!(found, (ErrorKind::InvalidInput, expected));
    }
    let good = part(&test, options(0));
    for bit in [0, 300, good.as_bytes().len() * 8 - 1] {
        let mut bad = good.as_bytes().to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut draft = test.store.draft(options(0)).unwrap();
        let error = draft.add_part(&bad).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}");
    }
    let draft = test.store.draft(options(0)).unwrap();
    let error = draft.save_part(2, 2).unwrap_err();
    assert_eq!(error.code(), "part-number");
    let mut draft = test.store.draft(options(0)).unwrap();
    draft.add_part(good.as_bytes()).unwrap();
    assert_eq!(draft.save_part(0, 2).unwrap_err().code(), "part-of-parts");
}

#[test]
fn what_several_hold_is_alike_or_nothing_is_committed() {
    let test = TestStore::new();
    let part = |index, value: f32, metric: f64| {
        let state: State = [("shared".to_owned(), Tensor::floats([value; 2000]))].into();
        let mut draft = drafted(&test.store, options(0), &state).unwrap();
        draft.metric("loss", metric).unwrap();
        draft.save_part(index, 2).unwrap()
    };
    let (one, alike, other) = (part(0, 1.0, 0.5), part(1, 1.0, 0.5), part(1, 2.0, 0.5));
    let conflict = (ErrorKind::InvalidInput, "part-conflict");
    assert_eq!(
        code(commit(&test.store, options(0), [&one, &other])),
        conflict
    );
    let metric = part(1, 1.0, 0.75);
    assert_eq!(
        code(commit(&test.store, options(0), [&one, &metric])),
        conflict
    );
    let report = commit(&test.store, options(0), [&one, &alike]).unwrap();
    assert_eq!(report.logical_bytes, 8000);
}

#[test]
fn a_step_that_is_there_is_the_same_or_a_conflict() {
    let test = TestStore::new();
    let parts = |seed| saved_parts(&test, &options(5), &state(seed), 2);
    let first = commit(&test.store, options(5), &parts(1)).unwrap();
    let again = commit(&test.reopened(), options(5), &parts(1)).unwrap();
    assert_eq!((again.id, again.existed), (first.id, true));
    let other = code(commit(&test.reopened(), options(5), &parts(2)));
    assert_eq!(other, (ErrorKind::Conflict, "step-exists"));
}

#[test]
fn a_collector_waits_for_parts_and_takes_those_of_the_dead() {
    let test = TestStore::new();
    let impatient = StoreOptions {
        lock_timeout: Some(Duration::ZERO),
        ..StoreOptions::default()
    };
    let collector = Store::open(test.folder.path(), impatient).unwrap();
    let collect = || collector.gc(&GcOptions::default(), &Unobserved);
    let parts = saved_parts(&test, &options(0), &state(1), 2);
    assert_eq!(collect().unwrap_err().kind(), ErrorKind::Locked);
    // One writer ends before the commit, and a collector comes by.
    let told: Vec<Vec<u8>> = parts.iter().map(|p| p.as_bytes().to_vec()).collect();
    drop(parts);
    assert_eq!(collect().unwrap().removed_packs, 2);
    let mut draft = test.store.draft(options(0)).unwrap();
    for bytes in &told {
        draft.add_part(bytes).unwrap();
    }
    assert_eq!(code(draft.commit()), (ErrorKind::Conflict, "part-gone"));
    assert!(test.reopened().list(None).unwrap().checkpoints.is_empty());
    let parts = saved_parts(&test, &options(0), &state(1), 2);
    commit(&test.store, options(0), &parts).unwrap();
    assert_holds(&newest(&test), &state(1));
}

/// A collector that waits for the first writer once kept out the second, for which the first
/// waits: nobody would ever have gone on.
#[test]
fn a_collector_that_waits_keeps_no_writer_of_the_same_checkpoint_out() {
    let test = TestStore::new();
    let all = state(1);
    let save = |index| {
        let impatient = StoreOptions {
            lock_timeout: Some(Duration::from_secs(10)),
            ..StoreOptions::default()
        };
        let store = Store::open(test.folder.path(), impatient).unwrap();
        let own = share(&all, index, 2);
        drafted(&store, options(0), &own)
            .unwrap()
            .save_part(index, 2)
            .unwrap()
    };
    let first = save(0);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let store = test.reopened();
            store.gc(&GcOptions::default(), &Unobserved).unwrap()
        });
        // By now the collector waits, for all that a test can know.
        std::thread::sleep(Duration::from_millis(300));
        let second = save(1);
        assert!(!collector.is_finished());
        commit(&test.reopened(), options(0), [&first, &second]).unwrap();
        drop((first, second));
        assert_eq!(collector.join().unwrap().removed_packs, 0);
    });
    assert_holds(&newest(&test), &all);
}

#[test]
fn every_durability_holds_for_all_parts() {
    for durability in Durability::ALL {
        for of_parts in Durability::ALL {
            let test = TestStore::new();
            let with = |durability| options(0).durability(durability);
            let parts = saved_parts(&test, &with(of_parts), &state(1), 2);
            commit(&test.reopened(), with(durability), &parts).unwrap();
            let summary = test
                .reopened()
                .list(None)
                .unwrap()
                .checkpoints
                .pop()
                .unwrap();
            assert_eq!(summary.placement.durability, durability);
            assert_holds(&newest(&test), &state(1));
        }
    }
}

#[test]
fn self_contained_parts_make_a_self_contained_checkpoint() {
    let test = TestStore::new();
    save_to(&test.store, RUN, &state(1));
    let alone = || SaveOptions {
        full: Full::SelfContained,
        ..options(1)
    };
    let parts = saved_parts(&test, &alone(), &state(1), 2);
    let report = commit(&test.reopened(), alone(), &parts).unwrap();
    assert!(report.full);
    let saved = newest(&test);
    assert_eq!(saved.manifest().packs.len(), 2, "its own, and no other");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However a state is shared out, and in whatever order the parts come in.
    #[test]
    fn any_partition_is_the_same_checkpoint(
        owners in prop::collection::vec(0u32..5, 1..12),
        sizes in prop::collection::vec(0usize..9000, 12),
        seed in any::<u64>(),
        turn in 0usize..5,
    ) {
        let (test, alone) = (TestStore::new(), TestStore::new());
        let tensors = owners.iter().zip(&sizes).zip(0u64..);
        let state: State = tensors
            .map(|((_, size), i)| (format!("t{i:02}"), Tensor::bytes(noise(seed ^ i, *size))))
            .collect();
        let mut parts = Vec::new();
        for index in 0..5 {
            let mut draft = test.store.draft(options(0)).unwrap();
            for ((name, tensor), owner) in state.iter().zip(&owners) {
                if *owner == index {
                    draft.tensor(name, Dtype::U8, &tensor.shape, &tensor.bytes).unwrap();
                }
            }
            parts.push(draft.save_part(index, 5).unwrap());
        }
        parts.rotate_left(turn);
        let report = commit(&test.reopened(), options(0), &parts).unwrap();
        prop_assert_eq!(report.id, save_to(&alone.store, RUN, &state).id);
        assert_holds(&newest(&test), &state);
    }
}
