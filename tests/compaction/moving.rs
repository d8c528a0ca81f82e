//! Packs that move or go while a checkpoint is read.

use std::sync::Arc;

use milepost_engine::store::disk::Disk;
use milepost_engine::{
    Durability, ErrorKind, Forget, GcOptions, ReaderMode, RealDisk, SaveOptions, Selection, Store,
    StoreOptions, Unobserved,
};

use super::{compact, eager, save_steps, state};
use crate::support::packs;
use crate::support::restless_disk::RestlessDisk;
use crate::support::state::{State, Tensor, assert_holds, noise, save};
use crate::support::store::TestStore;

/// Compactions in a row that a reader meets.
const IN_A_ROW: u64 = 3;

fn on_threads(threads: usize) -> StoreOptions {
    StoreOptions {
        threads,
        ..StoreOptions::default()
    }
}

/// A reader, and its disk, on which this happens before a pack is opened.
fn beside(
    test: &TestStore,
    threads: usize,
    meanwhile: impl Fn(u64) + Send + Sync + 'static,
) -> (Arc<RestlessDisk>, Store) {
    let real = RealDisk::open(test.folder.path(), ReaderMode::Auto).unwrap();
    let disk = RestlessDisk::new(Arc::new(real), meanwhile);
    let reader = Store::open_on(Arc::clone(&disk) as Arc<dyn Disk>, on_threads(threads)).unwrap();
    (disk, reader)
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
        let (disk, reader) = beside(&test, 1, move_all);
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

/// A relaxed checkpoint of an earlier boot is proved before it is believed. A compaction that moved
/// its records meanwhile, and made it durable, made it look like what a power cut had left.
#[test]
fn a_relaxed_checkpoint_that_is_made_durable_while_it_is_proved_is_there() {
    let mut first = 0;
    loop {
        let test = TestStore::new();
        for step in 0..3 {
            let options = SaveOptions::new("main")
                .step(step)
                .durability(Durability::Relaxed);
            save(&test.store, options, &state(step)).unwrap();
        }
        let other = test.reopened();
        let move_all = move |opened: u64| {
            if (first..first + IN_A_ROW).contains(&opened) {
                save_steps(&other, "other", [100 + opened]);
                compact(&other, &eager());
            }
        };
        let (disk, reader) = beside(&test, 1, move_all);
        let listing = reader.list(Some("main")).unwrap();
        let missed = (listing.damaged.len(), listing.lost.len());
        assert_eq!(
            (listing.checkpoints.len(), missed),
            (3, (0, 0)),
            "from open {first} on"
        );
        if disk.opened() <= first {
            return;
        }
        first += 1;
    }
}

/// A checkpoint was forgotten, or thinned, between the reading of its manifest and of its packs:
/// the reader was told of damage.
#[test]
fn what_goes_while_it_is_read_is_gone_and_not_damaged() {
    for drop in [&[][..], &["w"]] {
        let (mut at, mut gone) = (0, 0);
        loop {
            let test = TestStore::new();
            save_steps(&test.store, "main", 0..3);
            let other = test.reopened();
            let what = Forget {
                revisions: vec!["main@step:2".into()],
                drop: drop.iter().map(|name| (*name).to_owned()).collect(),
                ..Forget::default()
            };
            let forget = move |opened: u64| {
                if opened == at {
                    let plan = other.plan_forget(&what, &Unobserved).unwrap();
                    other.forget(&plan, &Unobserved).unwrap();
                    compact(&other, &eager());
                    other.gc(&GcOptions::default(), &Unobserved).unwrap();
                }
            };
            let (disk, reader) = beside(&test, 1, forget);
            let checkpoint = reader.checkpoint("main@step:2").unwrap();
            let planned = checkpoint.plan(&Selection::all());
            match planned.and_then(|_| checkpoint.tensor("w")) {
                Ok(bytes) => assert!(bytes == state(2)["w"].bytes),
                Err(error) => {
                    let code = if drop.is_empty() {
                        "forgotten"
                    } else {
                        "tensor-dropped"
                    };
                    assert_eq!((error.kind(), error.code()), (ErrorKind::NotFound, code));
                    gone += 1;
                }
            }
            if disk.opened() <= at {
                assert!(gone > 0, "it never went in between");
                break;
            }
            at += 1;
        }
    }
}

/// Of a checkpoint that is thinned meanwhile, another tensor is damaged: that is no thinning.
#[test]
fn damage_of_what_was_kept_is_damage() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..1);
    let checkpoint = test.reopened().checkpoint("main").unwrap();
    let thin = Forget {
        revisions: vec!["main".into()],
        drop: vec!["w".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&thin, &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test loses every pack")]
    for pack in packs::pack_files(test.folder.path()) {
        std::fs::remove_file(pack).unwrap();
    }
    let refused = |name: &str| checkpoint.tensor(name).unwrap_err().code().to_owned();
    assert_eq!(refused("frozen"), "chunk-missing");
    assert_eq!(refused("w"), "tensor-dropped");
}

/// A process may have a thousand files open; a checkpoint may need more packs than that.
#[test]
fn few_packs_are_open_at_once_however_many_a_checkpoint_needs() {
    let test = TestStore::new();
    let mut state = State::new();
    for step in 0..320u64 {
        let tensor = Tensor::bytes(noise(step, 64));
        state.insert(format!("t{step}"), tensor);
        save(
            &test.store,
            SaveOptions::new("main")
                .step(step)
                .durability(Durability::Relaxed),
            &state,
        )
        .unwrap();
    }
    let (disk, reader) = beside(&test, 4, |_| {});
    let checkpoint = reader.checkpoint("main").unwrap();
    assert_eq!(checkpoint.manifest().packs.len(), 320);
    assert_holds(&checkpoint, &state);
    assert!(disk.most_open() < 290, "{} at once", disk.most_open());
}
