//! Relations that a manifest keeps: coding anew makes use of them, and nothing loses them.

use std::collections::BTreeMap;

use milepost_engine::{CompactOptions, Dtype, Forget, Relation, SaveOptions, Store, Unobserved};

use super::{compact, forget_all_but};
use crate::support::state::{State, Tensor, assert_holds, noise, state_of};
use crate::support::store::TestStore;

const ELEMENTS: usize = 5000;

/// Weights that nothing foretells, a copy of their upper halves, and some that move a little.
fn state(step: u64) -> State {
    let bytes = noise(step, 4 * ELEMENTS);
    let weight = |four: &[u8; 4]| [four[0], four[1], four[2], 0x3f];
    let master: Vec<[u8; 4]> = bytes.as_chunks().0.iter().map(weight).collect();
    let half = |bytes: &[u8; 4]| {
        let bits = u32::from_le_bytes(*bytes);
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        u16::try_from(rounded).unwrap().to_le_bytes()
    };
    let tensor = |dtype, bytes| Tensor {
        dtype,
        shape: vec![ELEMENTS as u64],
        bytes,
    };
    let drift = (0..6000u16).map(|i| (f32::from(i) * 0.1).sin() * (1.0 + step as f32 * 1e-4));
    state_of([
        (
            "copy",
            tensor(Dtype::BF16, master.iter().flat_map(half).collect()),
        ),
        ("drift", Tensor::floats(drift)),
        ("master", tensor(Dtype::F32, master.concat())),
    ])
}

fn told() -> BTreeMap<String, Relation> {
    let of = "master".to_owned();
    [("copy".to_owned(), Relation::Copy { of })].into()
}

fn save(store: &Store, step: u64, relations: &BTreeMap<String, Relation>) {
    let state = state(step);
    let mut draft = store.draft(SaveOptions::new("main").step(step)).unwrap();
    for (name, t) in &state {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
    }
    for (tensor, relation) in relations {
        draft.relate(tensor, relation.clone());
    }
    draft.commit().unwrap();
}

/// Bytes of a store of four checkpoints whose first is gone, coded anew.
fn bytes_anew(relations: &BTreeMap<String, Relation>) -> u64 {
    let test = TestStore::new();
    for step in 0..4 {
        save(&test.store, step, relations);
    }
    forget_all_but(&test.store, 3);
    let anew = CompactOptions {
        reencode: true,
        ..CompactOptions::default()
    };
    let report = compact(&test.store, &anew);
    assert!(report.reencoded, "the base that was forgotten is to go");
    let store = test.reopened();
    for step in 1..4 {
        let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
        assert_holds(&checkpoint, &state(step));
        let kept: BTreeMap<_, _> = checkpoint.manifest().named_relations().collect();
        assert_eq!(kept, *relations);
    }
    store.disk_usage().unwrap().pack_bytes
}

#[test]
fn a_copy_costs_next_to_nothing_after_coding_anew_as_before() {
    let unrelated = bytes_anew(&BTreeMap::new());
    let related = bytes_anew(&told());
    // A byte of each copy is noise; that of the newest is stored all the same.
    assert!(
        related + 10_000 < unrelated,
        "{related} of {unrelated} bytes"
    );
}

#[test]
fn forks_parts_and_thinned_checkpoints_keep_relations() {
    let test = TestStore::new();
    save(&test.store, 0, &told());
    test.store.fork("main", "side").unwrap();
    let thin = Forget {
        revisions: vec!["main".into()],
        drop: vec!["copy".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&thin, &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    let whole = state(7);
    let halves: [State; 2] = [state_of([("other", whole["copy"].clone())]), whole.clone()];
    let options = || SaveOptions::new("parts").step(1);
    let part = |index: u32| {
        let mut draft = test.store.draft(options()).unwrap();
        for (name, t) in &halves[index as usize] {
            draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
        }
        if index == 1 {
            draft.infer_relations();
            draft.relate("copy", told()["copy"].clone());
        }
        draft.save_part(index, 2).unwrap()
    };
    let parts = [part(0), part(1)];
    let mut draft = test.store.draft(options()).unwrap();
    for part in &parts {
        draft.add_part(part.as_bytes()).unwrap();
    }
    draft.commit().unwrap();
    let store = test.reopened();
    for run in ["main", "side", "parts"] {
        let checkpoint = store.checkpoint(run).unwrap();
        let kept: BTreeMap<_, _> = checkpoint.manifest().named_relations().collect();
        assert_eq!(kept, told(), "{run}");
    }
}
