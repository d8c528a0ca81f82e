//! Ids depend on what is saved: not on the store, the threads, the level, the durability, the
//! kind of save or the order in which tensors were added.

use milepost_engine::{SaveOptions, Store, StoreOptions, StoreSettings};
use proptest::prelude::*;

use crate::properties::cases;
use crate::properties::generate;
use crate::support::state::{State, save};

fn store(folder: &tempfile::TempDir, threads: usize) -> Store {
    let settings = StoreSettings {
        chunk_len: 4096,
        ..StoreSettings::default()
    };
    let options = StoreOptions {
        threads,
        clock: [|| 1, || 2][threads - 1],
        ..StoreOptions::default()
    };
    Store::create(folder.path(), settings, options).unwrap()
}

fn save_backwards(
    store: &Store,
    options: SaveOptions,
    state: &State,
) -> milepost_engine::SaveReport {
    let mut draft = store.draft(options).unwrap();
    for (name, t) in state.iter().rev() {
        draft.tensor(name, t.dtype, &t.shape, &t.bytes).unwrap();
    }
    draft.commit().unwrap()
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn the_same_content_has_the_same_id_anywhere(
        first in generate::state(),
        change in generate::change(),
        one in (generate::options(), generate::options()),
        other in (generate::options(), generate::options()),
    ) {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (a, b) = (store(&folders[0], 1), store(&folders[1], 2));
        let mut second = first.clone();
        generate::apply(&mut second, &change);
        let mut elsewhere = other.0;
        elsewhere.run = "elsewhere".into();
        let parent = save_backwards(&b, elsewhere, &first);
        prop_assert_eq!(save(&a, one.0, &first).unwrap().id, parent.id);
        let mut last = other.1;
        last.parent = Some(parent.id.to_string());
        prop_assert_eq!(save(&a, one.1, &second).unwrap().id, save_backwards(&b, last, &second).id);
    }

    #[test]
    fn another_content_has_another_id(first in generate::state(), change in generate::change()) {
        let folder = tempfile::tempdir().unwrap();
        let store = store(&folder, 1);
        let mut second = first.clone();
        generate::apply(&mut second, &change);
        let to = |run: &str| SaveOptions { durability: milepost_engine::Durability::Relaxed, ..SaveOptions::new(run) };
        let ids = [save(&store, to("a"), &first).unwrap().id, save(&store, to("b"), &second).unwrap().id];
        prop_assert_eq!(ids[0] == ids[1], first == second);
    }
}
