//! Several writers at once, in threads and in processes, and readers beside them: nothing is
//! lost, numbers are unique, whatever is listed is whole.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use milepost_engine::{Durability, ErrorKind, SaveOptions, Store, StoreOptions};

use crate::support::state::{State, Tensor, assert_holds, save, state_of};
use crate::support::store::TestStore;

/// Set for a process that this test starts: the store, the run and the writer's number.
const WRITER: &str = "MILEPOST_TEST_WRITER";
const SAVES: u64 = 8;

fn written(writer: u64, save: u64) -> State {
    let value = |i: u16| (f32::from(i) * 0.1).sin() + (writer * 100 + save) as f32 * 1e-4;
    state_of([("w", Tensor::floats((0..2500).map(value)))])
}

/// Saves a few states as one writer; retries where another took the step between.
fn write_all(root: &Path, run: &str, writer: u64) {
    let options = StoreOptions {
        threads: 2,
        ..StoreOptions::default()
    };
    let store = Store::open(root, options).unwrap();
    for number in 0..SAVES {
        let options = SaveOptions::new(run)
            .step(writer * 1000 + number)
            .durability(Durability::Relaxed);
        save(&store, options, &written(writer, number)).unwrap();
    }
}

/// Every state of every writer is in the run, whole, under numbers without hole or repetition.
fn assert_complete(store: &Store, run: &str, writers: &[u64]) {
    let listing = store.list(Some(run)).unwrap();
    assert!(listing.damaged.is_empty());
    let found: Vec<u64> = listing
        .checkpoints
        .iter()
        .map(|s| s.placement.seq)
        .collect();
    let expected: Vec<u64> = (1..=writers.len() as u64 * SAVES).collect();
    assert_eq!(found, expected, "{run}");
    for writer in writers {
        for number in 0..SAVES {
            let revision = format!("{run}@step:{}", writer * 1000 + number);
            assert_holds(
                &store.checkpoint(&revision).unwrap(),
                &written(*writer, number),
            );
        }
    }
}

#[test]
fn threads_with_stores_of_their_own_lose_nothing() {
    let test = TestStore::new();
    let root = test.folder.path();
    std::thread::scope(|scope| {
        for writer in 0..3 {
            scope.spawn(move || write_all(root, "shared", writer));
        }
        scope.spawn(|| write_all(root, "alone", 9));
    });
    assert_complete(&test.reopened(), "shared", &[0, 1, 2]);
    assert_complete(&test.reopened(), "alone", &[9]);
}

#[test]
fn clones_of_one_store_lose_nothing() {
    let test = TestStore::new();
    std::thread::scope(|scope| {
        for writer in 0..3u64 {
            let store = test.store.clone();
            scope.spawn(move || {
                for number in 0..SAVES {
                    let options = SaveOptions::new("shared").step(writer * 1000 + number);
                    let relaxed = options.durability(Durability::Relaxed);
                    save(&store, relaxed, &written(writer, number)).unwrap();
                }
            });
        }
    });
    assert_complete(&test.reopened(), "shared", &[0, 1, 2]);
}

/// Not a test of its own: what a process does that the test below starts.
#[test]
fn one_writer_process() {
    let Ok(told) = std::env::var(WRITER) else {
        return;
    };
    let (root, rest) = told.split_once('\n').unwrap();
    let (run, writer) = rest.split_once('\n').unwrap();
    write_all(Path::new(root), run, writer.parse().unwrap());
}

#[test]
fn processes_lose_nothing() {
    let test = TestStore::new();
    let start = |run: &str, writer: u64| {
        let root = test.folder.path().to_str().unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "chains::writers::one_writer_process"])
            .env(WRITER, format!("{root}\n{run}\n{writer}"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let children = [start("shared", 0), start("shared", 1), start("alone", 2)];
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_complete(&test.reopened(), "shared", &[0, 1]);
    assert_complete(&test.reopened(), "alone", &[2]);
}

/// Two writers that save the same step: one state is there in the end, the other was refused.
#[test]
fn the_same_step_at_once_is_saved_once() {
    let test = TestStore::new();
    let root = test.folder.path();
    for step in 0..6 {
        let attempt = |writer: u64| {
            let store = Store::open(root, StoreOptions::default()).unwrap();
            let options = SaveOptions::new("main").step(step);
            save(&store, options, &written(writer, step)).map_err(|e| e.kind())
        };
        let outcomes = std::thread::scope(|scope| {
            let threads = [0, 1].map(|writer| scope.spawn(move || attempt(writer)));
            threads.map(|t| t.join().unwrap())
        });
        let refused = outcomes.iter().filter(|o| o.is_err()).count();
        assert_eq!(refused, 1, "{outcomes:?}");
        assert!(outcomes.contains(&Err(ErrorKind::Conflict)));
    }
}

#[test]
fn readers_beside_a_writer_see_only_whole_checkpoints() {
    let test = TestStore::new();
    let (root, done) = (test.folder.path(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let held = Store::open(root, StoreOptions::default()).unwrap();
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                let fresh = Store::open(root, StoreOptions::default()).unwrap();
                for store in [&held, &fresh] {
                    let listing = store.list(None).unwrap();
                    assert!(listing.damaged.is_empty(), "{listing:?}");
                    if let Some(last) = listing.checkpoints.last() {
                        let checkpoint = store.checkpoint_by_id(&last.id).unwrap();
                        assert_holds(&checkpoint, &written(0, last.step));
                        seen.insert(last.step);
                    }
                }
            }
            seen
        });
        write_all(root, "main", 0);
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap().last() <= Some(&(SAVES - 1)));
    });
    assert_complete(&test.reopened(), "main", &[0]);
}
