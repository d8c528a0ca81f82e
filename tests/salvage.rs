//! What is intact of a damaged checkpoint comes back, what is not is named to the byte, and the
//! store stays as it is.

use milepost_engine::restore::Salvage;
use milepost_engine::{Checkpoint, Full, Output, SaveOptions, Selection, Unobserved};

use crate::support::packs::{self, flip};
use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::TestStore;

const CHUNK: usize = 4096;

fn state(step: u64) -> State {
    let drift = (0..1500u16).map(|i| (f32::from(i) * 0.1).sin() * (1.0 + step as f32 * 1e-4));
    let bytes: Vec<u8> = drift.flat_map(f32::to_le_bytes).collect();
    state_of([
        ("drifts", Tensor::bytes(bytes)),
        ("frozen", Tensor::bytes(noise(1, 9000))),
        ("moves", Tensor::bytes(noise(step, 5000))),
    ])
}

fn salvage(checkpoint: &Checkpoint) -> Salvage {
    checkpoint.salvage(&Selection::all(), &Unobserved).unwrap()
}

/// Holds a report against what restoring chunk by chunk gives.
fn assert_exact(checkpoint: &Checkpoint, state: &State, found: &Salvage) {
    for (name, tensor) in state {
        let part = found.tensors.iter().find(|t| t.name == *name);
        assert_eq!(found.whole.contains(name), part.is_none());
        for (index, raw) in tensor.bytes.chunks(CHUNK).enumerate() {
            let start = (index * CHUNK) as u64;
            let range = start..start + raw.len() as u64;
            let is_lost = part.is_some_and(|p| p.lost.iter().any(|l| l.bytes == range));
            let rows = checkpoint.rows(name, range);
            match rows {
                Ok(bytes) => assert!(!is_lost && bytes == raw, "{name} {start}"),
                Err(_) => assert!(is_lost, "{name} {start} is lost and was not named"),
            }
        }
    }
}

#[test]
fn an_undamaged_checkpoint_is_whole() {
    let test = TestStore::new();
    save(&test.store, SaveOptions::new("main").step(0), &state(0)).unwrap();
    let found = salvage(&test.store.checkpoint("main").unwrap());
    assert!(found.is_whole() && found.whole == ["drifts", "frozen", "moves"]);
}

/// One byte after the other: records of full and delta checkpoints, indexes and trailers.
#[test]
fn whatever_byte_is_damaged_what_is_lost_is_named_exactly() {
    let test = TestStore::new();
    for step in 0..3 {
        save(
            &test.store,
            SaveOptions::new("main").step(step),
            &state(step),
        )
        .unwrap();
    }
    let (mut whole, mut damaged) = (0, 0);
    for path in packs::pack_files(test.folder.path()) {
        let len = path.metadata().unwrap().len();
        for at in (0..len).step_by(61) {
            flip(&path, at);
            let before = packs::files_below(test.folder.path());
            let store = test.reopened();
            for step in 0..3 {
                let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
                let found = salvage(&checkpoint);
                assert_exact(&checkpoint, &state(step), &found);
                whole += u64::from(found.is_whole());
                damaged += u64::from(!found.is_whole());
            }
            assert_eq!(packs::files_below(test.folder.path()), before);
            flip(&path, at);
        }
    }
    assert!(whole > 100 && damaged > 100, "{whole} {damaged}");
}

/// What another pack holds as well is not lost.
#[test]
fn a_chunk_that_is_stored_twice_comes_back() {
    let test = TestStore::new();
    save(&test.store, SaveOptions::new("main").step(0), &state(0)).unwrap();
    let damaged = packs::pack_files(test.folder.path());
    let again = SaveOptions {
        full: Full::SelfContained,
        ..SaveOptions::new("copy").step(0)
    };
    save(
        &test.store,
        again,
        &state_of([("frozen", Tensor::bytes(noise(1, 9000)))]),
    )
    .unwrap();
    let other = packs::pack_files(test.folder.path());
    let path = &damaged[0];
    for at in (40..path.metadata().unwrap().len() / 2).step_by(200) {
        flip(path, at);
    }
    assert!(other.len() == 2);
    let store = test.reopened();
    let found = salvage(&store.checkpoint("main").unwrap());
    assert!(found.whole.contains(&"frozen".to_owned()), "{found:?}");
    assert!(!found.tensors.is_empty());
    let kept = Selection::tensors(found.whole.iter().cloned());
    let (outputs, plan) = store.checkpoint("main").unwrap().plan(&kept).unwrap();
    assert_eq!(outputs.len(), found.whole.len());
    let state = state(0);
    let bytes = |o: &Output| state[&o.name].bytes.clone();
    let mut buffers: Vec<Vec<u8>> = outputs.iter().map(|o| vec![0; bytes(o).len()]).collect();
    let mut targets: Vec<&mut [u8]> = buffers.iter_mut().map(Vec::as_mut_slice).collect();
    store
        .checkpoint("main")
        .unwrap()
        .restore_into(&plan, &mut targets, &Unobserved)
        .unwrap();
    for (output, bytes) in outputs.iter().zip(&buffers) {
        assert!(*bytes == state[&output.name].bytes);
    }
}

/// A pack is gone altogether: the checkpoints before it do not care.
#[test]
fn a_missing_pack_takes_what_it_held_and_no_more() {
    let test = TestStore::new();
    save(&test.store, SaveOptions::new("main").step(0), &state(0)).unwrap();
    let first = packs::pack_files(test.folder.path());
    save(&test.store, SaveOptions::new("main").step(1), &state(1)).unwrap();
    let second = packs::pack_files(test.folder.path());
    let second = second.iter().find(|p| !first.contains(p)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test loses a pack")]
    std::fs::remove_file(second).unwrap();
    let store = test.reopened();
    assert_holds(&store.checkpoint("step:0").unwrap(), &state(0));
    let checkpoint = store.checkpoint("step:1").unwrap();
    let found = salvage(&checkpoint);
    assert_eq!(found.whole, ["frozen"]);
    assert_exact(&checkpoint, &state(1), &found);
}
