//! Tensors that are foretold from others of their family.

use std::path::Path;

use milepost_engine::{Durability, Relation, SaveOptions, SaveReport, Store};

use crate::support::packs::pack_files;
use crate::support::state::{State, Tensor, noise, state_of};
use crate::support::store::TestStore;

const ELEMENTS: usize = 6000;
const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;

/// Adam's moments after one more gradient, which nothing foretells.
fn stepped(state: &State, seed: u64) -> State {
    let values = |name: &str| {
        let lanes = state
            .get(name)
            .map_or(&[][..], |t| t.bytes.as_chunks::<4>().0);
        let zeros = std::iter::repeat_n(0.0, ELEMENTS - lanes.len());
        lanes
            .iter()
            .map(|lane| f32::from_le_bytes(*lane))
            .chain(zeros)
    };
    let gradients = noise(seed, ELEMENTS * 2);
    let gradient = |pair: &[u8; 2]| f32::from(i16::from_le_bytes(*pair)) * 1e-6;
    let gradients: Vec<f32> = gradients.as_chunks().0.iter().map(gradient).collect();
    let first = values("m").zip(&gradients);
    let second = values("v").zip(&gradients);
    state_of([
        (
            "m",
            Tensor::floats(first.map(|(m, g)| BETA_1 * m + (1.0 - BETA_1) * g)),
        ),
        (
            "v",
            Tensor::floats(second.map(|(v, g)| BETA_2 * v + (1.0 - BETA_2) * g * g)),
        ),
    ])
}

fn save(store: &Store, state: &State) -> SaveReport {
    let options = SaveOptions::new("main").durability(Durability::Relaxed);
    let mut draft = store.draft(options).unwrap();
    for (name, t) in state {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
    }
    let exp_avg = "m".to_owned();
    draft.relate("v", Relation::SecondMoment { exp_avg });
    draft.commit().unwrap()
}

/// Inverts a file's bytes where they are: whoever has it open sees that.
#[expect(
    clippy::disallowed_methods,
    reason = "the test spoils a file of a store"
)]
fn spoil(path: &Path) {
    let bytes: Vec<u8> = std::fs::read(path).unwrap().iter().map(|b| !b).collect();
    let mut permissions = std::fs::metadata(path).unwrap().permissions();
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "a file of the test's own folder"
    )]
    permissions.set_readonly(false);
    std::fs::set_permissions(path, permissions).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The first moment before is what foretells the second: it was dropped from memory when the
/// first was saved, and then decoded from the store, in every save of Adam's state.
#[test]
fn what_is_held_in_memory_is_not_read_from_the_store() {
    let first = stepped(&State::new(), 1);
    let second = stepped(&first, 2);
    let (whole, spoilt) = (TestStore::new(), TestStore::new());
    for test in [&whole, &spoilt] {
        save(&test.store, &first);
    }
    pack_files(spoilt.folder.path())
        .iter()
        .for_each(|pack| spoil(pack));
    let (expected, report) = (save(&whole.store, &second), save(&spoilt.store, &second));
    assert_eq!(report.added_bytes, expected.added_bytes);
    let raw = expected.logical_bytes;
    assert!(
        expected.added_bytes * 10 < raw * 6,
        "{} of {raw}",
        expected.added_bytes
    );
}
