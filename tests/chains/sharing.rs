//! Equal chunks are stored once: in tensors, checkpoints, runs and forks. Full checkpoints
//! share what their kind allows.

use std::collections::BTreeSet;

use milepost_engine::{Durability, Full, SaveOptions, StoreSettings};

use crate::support::packs::records;
use crate::support::state::{State, Tensor, assert_holds, noise, save, save_to, state_of};
use crate::support::store::TestStore;

fn relaxed(run: &str) -> SaveOptions {
    SaveOptions::new(run).durability(Durability::Relaxed)
}

fn full(kind: Full) -> SaveOptions {
    SaveOptions {
        full: kind,
        ..SaveOptions::new("main")
    }
}

fn waves(phase: u16) -> Tensor {
    Tensor::floats((0..3000u16).map(|i| (f32::from(i) * 0.37).sin() + f32::from(phase) * 1e-6))
}

#[test]
fn tied_tensors_are_stored_once() {
    let test = TestStore::new();
    let tied = state_of([("embed", waves(0)), ("head", waves(0)), ("other", waves(9))]);
    let report = save_to(&test.store, "main", &tied);
    assert_eq!((report.chunks, report.new_chunks), (9, 6));
    assert_holds(&test.reopened().checkpoint("latest").unwrap(), &tied);
}

#[test]
fn runs_and_other_tensors_share_chunks() {
    let test = TestStore::new();
    save_to(&test.store, "a", &state_of([("w", waves(0))]));
    let renamed = state_of([("renamed", waves(0))]);
    let report = save_to(&test.reopened(), "b", &renamed);
    assert_eq!(report.new_chunks, 0);
    assert_holds(&test.reopened().checkpoint("b").unwrap(), &renamed);
}

#[test]
fn an_unchanged_state_adds_next_to_nothing() {
    let test = TestStore::with(StoreSettings::default());
    let state: State = state_of([
        ("noise", Tensor::bytes(noise(1, 3 << 20))),
        (
            "frozen",
            Tensor::floats((0..300_000u32).map(|i| f32::from_bits(0x3f00_0000 + i * 7))),
        ),
    ]);
    let first = save(&test.store, relaxed("main"), &state).unwrap();
    for store in [&test.store, &test.reopened()] {
        let again = save(store, relaxed("main"), &state).unwrap();
        assert!(again.added_bytes * 1000 < first.logical_bytes, "{again:?}");
        assert_eq!(again.new_chunks, 0);
    }
}

/// A chunk that exists only as a delta is stored again at depth 0; one at depth 0 is shared.
#[test]
fn a_shared_full_checkpoint_shares_chunks_of_depth_0_only() {
    let test = TestStore::new();
    let frozen = Tensor::bytes(noise(3, 10_000));
    let at = |phase| state_of([("w", waves(phase)), ("frozen", frozen.clone())]);
    save_to(&test.store, "main", &at(0));
    let delta = save_to(&test.store, "main", &at(1));
    assert!(delta.depth > 0);
    let report = save(&test.store, full(Full::Shared), &at(1)).unwrap();
    assert!(report.full && report.depth == 0);
    assert_eq!(
        report.new_chunks, 3,
        "the three chunks of w, and none of the frozen"
    );
    let checkpoint = test.reopened().checkpoint("latest").unwrap();
    assert_eq!(checkpoint.manifest().packs.len(), 2);
    assert_holds(&checkpoint, &at(1));
}

/// With every other pack gone, a self-contained checkpoint still comes back.
#[test]
fn a_self_contained_checkpoint_opens_only_its_own_packs() {
    let test = TestStore::new();
    let at = |phase| {
        state_of([
            ("w", waves(phase)),
            ("frozen", Tensor::bytes(noise(3, 9000))),
        ])
    };
    save_to(&test.store, "main", &at(0));
    save_to(&test.store, "main", &at(1));
    let report = save(&test.store, full(Full::SelfContained), &at(2)).unwrap();
    assert_eq!(report.new_chunks, report.chunks);
    let checkpoint = test.store.checkpoint("latest").unwrap();
    let own: BTreeSet<_> = checkpoint.manifest().packs.iter().map(|h| h.pack).collect();
    for pack in records(test.folder.path())
        .keys()
        .filter(|id| !own.contains(*id))
    {
        let path = format!("packs/{:02x}/{pack}.pack", pack.0[0]);
        #[expect(
            clippy::disallowed_methods,
            reason = "takes away what must not be needed"
        )]
        std::fs::remove_file(test.folder.path().join(path)).unwrap();
    }
    let store = test.reopened();
    assert_holds(&store.checkpoint("latest").unwrap(), &at(2));
    let older = store
        .checkpoint("latest~1")
        .unwrap()
        .tensor("w")
        .unwrap_err();
    assert_eq!(older.code(), "chunk-missing");
}

#[test]
fn chunks_inside_one_tensor_are_stored_once() {
    let test = TestStore::new();
    let page = noise(5, 4096);
    let repeated = [page.clone(), page.clone(), page].concat();
    let report = save_to(
        &test.store,
        "main",
        &state_of([("w", Tensor::bytes(repeated))]),
    );
    assert_eq!((report.chunks, report.new_chunks), (3, 1));
}
