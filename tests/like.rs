//! A stranger's file is coded against what is nearest in the store, whatever its names and run.

use milepost_engine::store::path;
use milepost_engine::{ErrorKind, Full, Like, SaveOptions, SaveReport, Store};

use crate::support::packs::{flip, records};
use crate::support::state::{State, Tensor, assert_holds, save, save_to};
use crate::support::store::TestStore;

/// Layers of two shapes, of which no two are alike.
fn model(seed: u64, prefix: &str) -> State {
    let value = |layer: u64, at: u64| {
        let word = (seed * 1000 + layer) << 32 | at;
        let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let word = (word ^ word >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (word >> 40) as f32 / 16_777_216.0 - 0.5
    };
    let layer = |layer: u64| {
        let len = if layer % 3 == 2 { 3000 } else { 5000 };
        let values = (0..len).map(move |at| value(layer, at));
        (format!("{prefix}{layer}"), Tensor::floats(values))
    };
    (0..6).map(layer).collect()
}

/// The same a few steps later.
fn tuned(state: &State) -> State {
    let moved = |t: &Tensor| {
        let lanes = t.bytes.as_chunks::<4>().0.iter();
        let value = |b: &[u8; 4]| f32::from_le_bytes(*b) * (1.0 + f32::from(b[0]) * 1e-8);
        Tensor::floats(lanes.map(value))
    };
    state.iter().map(|(n, t)| (n.clone(), moved(t))).collect()
}

/// The same tensors under names in another order.
fn renamed(state: &State) -> State {
    let numbered = (0..).zip(state.values().rev());
    let rename = |(number, t): (u64, &Tensor)| (format!("their.{number}"), t.clone());
    numbered.map(rename).collect()
}

fn save_like(store: &Store, run: &str, like: Option<Like>, state: &State) -> SaveReport {
    let options = SaveOptions {
        like,
        ..SaveOptions::new(run)
    };
    save(store, options, state).unwrap()
}

#[test]
fn the_nearest_of_several_runs_is_found_whatever_the_names() {
    let test = TestStore::new();
    for seed in 1..=5 {
        save_to(&test.store, &format!("run-{seed}"), &model(seed, "layer."));
    }
    let stranger = renamed(&tuned(&model(3, "layer.")));
    let alone = save_like(&test.store, "alone", None, &stranger);
    assert_eq!(alone.like, None);
    let again = tuned(&stranger);
    let report = save_like(&test.store, "found", Some(Like::Nearest), &again);
    let like = report.like.unwrap();
    // The stranger itself is the nearest now; without it, what it was made from.
    assert_eq!((like.run.as_str(), like.tensors), ("alone", 6));
    let other = TestStore::new();
    for seed in 1..=5 {
        save_to(&other.store, &format!("run-{seed}"), &model(seed, "layer."));
    }
    let report = save_like(&other.store, "found", Some(Like::Nearest), &stranger);
    let like = report.like.unwrap();
    assert_eq!((like.run.as_str(), like.tensors), ("run-3", 6));
    let (added, full) = (report.added_bytes, alone.added_bytes);
    assert!(added * 2 < full, "{added} bytes against {full}");
    assert_holds(&other.store.checkpoint("found").unwrap(), &stranger);
    // The base goes, and what was coded against it stays whole.
    other.store.fork("found", "kept").unwrap();
    assert_holds(&other.reopened().checkpoint("kept").unwrap(), &stranger);
}

#[test]
fn names_count_more_than_shapes_and_the_parent_more_than_both() {
    let test = TestStore::new();
    let base = model(1, "layer.");
    save_to(&test.store, "base", &base);
    let mut state = tuned(&base);
    let report = save_like(&test.store, "tuned", Some(Like::Nearest), &state);
    assert_eq!(report.like.map(|like| like.tensors), Some(6));
    // From now on the run's own checkpoints are the base of all but what is new.
    state = tuned(&state);
    let report = save_like(&test.store, "tuned", Some(Like::Nearest), &state);
    assert_eq!(report.like, None);
    let added = tuned(&model(1, "new."))["new.4"].clone();
    state = tuned(&state);
    state.insert("new".into(), added);
    let like = Some(Like::Revision("base".into()));
    let report = save_like(&test.store, "tuned", like, &state);
    assert_eq!(report.like.map(|like| like.tensors), Some(1));
    assert_holds(&test.store.checkpoint("tuned").unwrap(), &state);
}

#[test]
fn what_is_like_nothing_stands_alone() {
    let test = TestStore::new();
    let report = save_like(&test.store, "first", Some(Like::Nearest), &model(1, "a"));
    assert_eq!(report.like, None, "an empty store");
    let alone = save_like(&test.store, "second", None, &model(2, "a"));
    let report = save_like(&test.store, "third", Some(Like::Nearest), &model(3, "a"));
    assert_eq!(report.like, None);
    assert!(report.added_bytes.abs_diff(alone.added_bytes) < 500);
    assert_eq!(report.depth, 0);
    let options = SaveOptions {
        like: Some(Like::Revision("nothing".into())),
        ..SaveOptions::new("fourth")
    };
    let error = save(&test.store, options, &model(4, "a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn a_damaged_stranger_is_passed_over() {
    let test = TestStore::new();
    let base = model(1, "layer.");
    save_to(&test.store, "base", &base);
    let root = test.folder.path();
    for (pack, entries) in records(root) {
        let file = root.join(path::pack(&pack).as_str());
        entries
            .iter()
            .for_each(|entry| flip(&file, entry.offset + 20));
    }
    let store = test.reopened();
    let state = tuned(&base);
    let report = save_like(&store, "tuned", Some(Like::Nearest), &state);
    assert_eq!(report.like, None);
    assert_holds(&test.reopened().checkpoint("tuned").unwrap(), &state);
}

/// A handle that has listed the store's packs before another process saved the base.
#[test]
fn a_base_that_was_saved_by_another_process_meanwhile_is_found() {
    let test = TestStore::new();
    save_to(&test.store, "mine", &model(9, "x."));
    let other = test.reopened();
    save_to(&other, "base", &model(1, "layer."));
    let state = renamed(&tuned(&model(1, "layer.")));
    let like = Some(Like::Revision("base".into()));
    let report = save_like(&test.store, "told", like, &state);
    assert_eq!(report.like.map(|like| like.tensors), Some(6));
    save_to(&other, "later", &model(2, "layer."));
    let state = renamed(&tuned(&model(2, "layer.")));
    let report = save_like(&test.store, "found", Some(Like::Nearest), &state);
    assert_eq!(report.like.map(|like| like.run), Some("later".into()));
    assert_holds(&test.reopened().checkpoint("found").unwrap(), &state);
}

/// More tensors of one shape than are compared: their order tells which is which.
#[test]
fn many_layers_of_one_shape_find_their_own() {
    let test = TestStore::new();
    let layers = |prefix: &str| -> State {
        let layer = |number: u64| {
            let first = model(number, "")["0"].clone();
            (format!("{prefix}{number:03}"), first)
        };
        (0..100).map(layer).collect()
    };
    save_to(&test.store, "base", &layers("layer."));
    let state = tuned(&layers("transformer.h."));
    let report = save_like(&test.store, "tuned", Some(Like::Nearest), &state);
    assert_eq!(report.like.map(|like| like.tensors), Some(100));
    assert_holds(&test.reopened().checkpoint("tuned").unwrap(), &state);
}

#[test]
fn a_full_checkpoint_is_like_nothing() {
    let test = TestStore::new();
    save_to(&test.store, "base", &model(1, "layer."));
    let state = tuned(&model(1, "layer."));
    let options = SaveOptions {
        like: Some(Like::Nearest),
        full: Full::Shared,
        ..SaveOptions::new("full")
    };
    let report = save(&test.store, options, &state).unwrap();
    assert!(report.full && report.like.is_none());
}
