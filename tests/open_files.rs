//! What a process that works with a store for long holds open.

use std::path::Path;

use milepost_engine::{Forget, GcOptions, KeepRules, SaveOptions, Unobserved};

use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::TestStore;

const STEPS: u64 = 12;

fn state(step: u64) -> State {
    state_of([("optim.m", Tensor::bytes(noise(step, 20_000)))])
}

fn with_steps() -> TestStore {
    let test = TestStore::new();
    for step in 0..STEPS {
        let options = SaveOptions::new("main").step(step);
        save(&test.store, options, &state(step)).unwrap();
    }
    test
}

fn keep_newest() -> Forget {
    Forget {
        rules: KeepRules {
            last: Some(1),
            ..KeepRules::default()
        },
        ..Forget::default()
    }
}

/// What this process has open or mapped of a store's packs that have no name any more.
fn held_without_a_name(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap();
    let gone = |held: &str| held.contains(folder) && held.ends_with(" (deleted)");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    maps.lines().filter(|line| gone(line)).count()
        + open.filter(|to| gone(&to.to_string_lossy())).count()
}

/// A training held its store open while another process forgot old checkpoints: what that freed
/// came back only when the training ended, as packs that it had read were still open.
#[test]
fn what_another_process_removes_is_let_go_by_the_next_use() {
    for saves in [false, true] {
        let test = with_steps();
        for step in 0..STEPS {
            let checkpoint = test.store.checkpoint(&format!("step:{step}")).unwrap();
            assert_holds(&checkpoint, &state(step));
        }
        let elsewhere = test.reopened();
        let plan = elsewhere.plan_forget(&keep_newest(), &Unobserved).unwrap();
        elsewhere.forget(&plan, &Unobserved).unwrap();
        let gc = elsewhere.gc(&GcOptions::default(), &Unobserved).unwrap();
        assert!(gc.removed_packs > 3);
        drop(elsewhere);
        assert!(held_without_a_name(test.folder.path()) > 0);
        if saves {
            let options = SaveOptions::new("main").step(STEPS);
            save(&test.store, options, &state(STEPS)).unwrap();
        } else {
            let latest = test.store.checkpoint("latest").unwrap();
            assert_holds(&latest, &state(STEPS - 1));
        }
        assert_eq!(held_without_a_name(test.folder.path()), 0, "{saves}");
    }
}
