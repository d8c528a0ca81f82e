//! Chains of saves: every checkpoint of a changing state comes back whole and in parts, through
//! every reader and whatever the threads.

use milepost_engine::{
    Checkpoint, ReaderMode, SaveOptions, Selection, Store, StoreOptions, StoreSettings, Unobserved,
};
use proptest::prelude::*;
use std::sync::Mutex;

use crate::properties::cases;
use crate::properties::generate::{self, Change};
use crate::support::state::{State, assert_holds, save};

fn settings(depth_max: u8, budget_milli: u32, full_every: u32) -> StoreSettings {
    StoreSettings {
        chunk_len: 4096,
        depth_max,
        restore_budget_milli: budget_milli,
        full_every,
        ..StoreSettings::default()
    }
}

fn opened_with(threads: usize, reader: ReaderMode) -> StoreOptions {
    StoreOptions {
        threads,
        reader,
        ..StoreOptions::default()
    }
}

/// One save: what changes before it, and how it is made.
fn step() -> impl Strategy<Value = (Vec<Change>, SaveOptions)> {
    (
        proptest::collection::vec(generate::change(), 0..4),
        generate::options(),
    )
}

/// Globs, rows and the checked stream give the same bytes as the whole.
pub(crate) fn assert_parts(checkpoint: &Checkpoint, state: &State) {
    for (name, tensor) in state {
        assert!(checkpoint.tensor(name).unwrap() == tensor.bytes, "{name:?}");
        let (Some((rows, row_shape)), Ok(whole)) = (
            tensor.shape.split_first(),
            tensor.dtype.byte_len(tensor.shape.iter().skip(1).product()),
        ) else {
            continue;
        };
        let row = usize::try_from(if *rows == 0 { 0 } else { whole }).unwrap();
        let (from, to) = (rows / 3, rows - rows / 4);
        let found = checkpoint.rows(name, from..to).unwrap();
        let at = |row_number: u64| usize::try_from(row_number).unwrap() * row;
        assert!(
            found == tensor.bytes[at(from)..at(to)],
            "rows of {name:?} {row_shape:?}"
        );
    }
    let layers = state.iter().filter(|(name, _)| name.starts_with("layer."));
    let layers: Vec<_> = layers.collect();
    let Ok(selection) = Selection::globs(&["layer.*"]) else {
        unreachable!("the glob is well-formed")
    };
    if layers.is_empty() {
        assert_eq!(checkpoint.plan(&selection).unwrap_err().code(), "glob");
        return;
    }
    let (outputs, plan) = checkpoint.plan(&selection).unwrap();
    let found: Mutex<Vec<Vec<u8>>> = Mutex::new(
        plan.outputs
            .iter()
            .map(|len| vec![0; usize::try_from(*len).unwrap()])
            .collect(),
    );
    let sink = |output: usize, at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        found.lock().unwrap()[output][at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    checkpoint
        .restore_to(&plan, &sink, true, &Unobserved)
        .unwrap();
    for (((name, tensor), output), found) in
        layers.iter().zip(&outputs).zip(&*found.lock().unwrap())
    {
        assert_eq!(**name, output.name);
        assert!(*found == tensor.bytes, "{name:?} by glob");
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn every_checkpoint_of_a_changing_state_comes_back(
        first in generate::state(),
        steps in proptest::collection::vec(step(), 1..5),
        threads in 1..3usize,
        bounds in (0..6u8, 1000..4000u32, 0..4u32),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = opened_with(threads, ReaderMode::Auto);
        let store = Store::create(folder.path(), settings(bounds.0, bounds.1, bounds.2), options);
        let (store, mut state, mut saved) = (store.unwrap(), first, Vec::new());
        for (number, (changes, options)) in (1..).zip(&steps) {
            changes.iter().for_each(|c| generate::apply(&mut state, c));
            let report = save(&store, options.clone(), &state).unwrap();
            prop_assert_eq!(report.seq, number);
            prop_assert!(report.depth <= bounds.0);
            saved.push((report.id, state.clone()));
        }
        for reader in [ReaderMode::Mmap, ReaderMode::Pread] {
            let store = Store::open(folder.path(), opened_with(threads, reader)).unwrap();
            for (id, state) in &saved {
                let checkpoint = store.checkpoint_by_id(id).unwrap();
                assert_holds(&checkpoint, state);
                assert_parts(&checkpoint, state);
            }
        }
    }

    #[test]
    fn a_tensor_of_every_type_shape_and_fill_comes_back(tensor in generate::tensor()) {
        let folder = tempfile::tempdir().unwrap();
        let options = opened_with(2, ReaderMode::Auto);
        let store = Store::create(folder.path(), settings(64, 2000, 0), options).unwrap();
        let state = State::from([("t".to_owned(), tensor)]);
        let relaxed = SaveOptions::new("main").durability(milepost_engine::Durability::Relaxed);
        let report = save(&store, relaxed, &state).unwrap();
        assert_holds(&store.checkpoint_by_id(&report.id).unwrap(), &state);
    }
}
