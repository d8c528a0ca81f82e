//! Packs that move while a checkpoint is read, once and again.

use std::sync::Arc;

use milepost_engine::store::disk::Disk;
use milepost_engine::{ReaderMode, RealDisk, Store, StoreOptions};

use super::{compact, eager, save_steps, state};
use crate::support::restless_disk::RestlessDisk;
use crate::support::state::assert_holds;
use crate::support::store::TestStore;

/// Compactions in a row that a reader meets.
const IN_A_ROW: u64 = 3;

fn one_thread() -> StoreOptions {
    StoreOptions {
        threads: 1,
        ..StoreOptions::default()
    }
}

/// A reader's hints were stale, and the packs that it then listed were moved before it could
/// open them: of 250,000 restores beside a compactor two said that a chunk was in no pack.
#[test]
fn packs_that_move_again_while_they_are_looked_for_are_found() {
    let mut first = 0;
    loop {
        let test = TestStore::new();
        save_steps(&test.store, "main", 0..4);
        let other = test.reopened();
        let move_all = move |opened: u64| {
            if (first..first + IN_A_ROW).contains(&opened) {
                save_steps(&other, "other", [100 + opened]);
                compact(&other, &eager());
            }
        };
        let real = RealDisk::open(test.folder.path(), ReaderMode::Auto).unwrap();
        let disk = RestlessDisk::new(Arc::new(real), move_all);
        let reader = Store::open_on(Arc::clone(&disk) as Arc<dyn Disk>, one_thread()).unwrap();
        let checkpoint = reader.checkpoint("main@step:1").unwrap();
        // Nothing is where the manifest says any more.
        save_steps(&test.store, "main", [9]);
        compact(&test.store, &eager());
        assert_holds(&checkpoint, &state(1));
        if disk.opened() <= first {
            return;
        }
        first += 1;
    }
}
