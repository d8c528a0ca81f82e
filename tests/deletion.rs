//! Forgetting, thinning and collecting: what stays is whole, what goes is gone, what is freed is
//! what was said.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use milepost_engine::restore::TENSOR_DROPPED;
use milepost_engine::{
    ErrorKind, Fate, Forget, Full, GcOptions, KeepRules, SaveOptions, Selection, Store,
    StoreOptions, Unobserved, VerifyOptions,
};

use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::{TestStore, hold_lock};

fn state(step: u64) -> State {
    let drift = (0..3000u16).map(|i| (f32::from(i) * 0.1).sin() * (1.0 + step as f32 * 1e-4));
    state_of([
        ("model.w", Tensor::floats(drift)),
        ("optim.m", Tensor::bytes(noise(step, 20_000))),
        ("frozen", Tensor::bytes(noise(999, 9000))),
    ])
}

fn with_steps(steps: u64) -> TestStore {
    let test = TestStore::new();
    for step in 0..steps {
        save(
            &test.store,
            SaveOptions::new("main").step(step),
            &state(step),
        )
        .unwrap();
    }
    test
}

fn keep_last(last: u64) -> Forget {
    Forget {
        rules: KeepRules {
            last: Some(last),
            ..KeepRules::default()
        },
        ..Forget::default()
    }
}

fn steps(store: &Store) -> Vec<u64> {
    let listing = store.list(None).unwrap();
    assert!(listing.damaged.is_empty());
    listing.checkpoints.iter().map(|s| s.step).collect()
}

fn assert_sound(store: &Store) {
    let report = store
        .verify(&VerifyOptions::default(), &Unobserved)
        .unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn what_stays_is_whole_and_what_was_said_is_freed() {
    let test = with_steps(8);
    let store = &test.store;
    let tagged = store.checkpoint("step:2").unwrap().id();
    store.tag("best", &tagged).unwrap();
    let before = store.disk_usage().unwrap();
    let plan = store.plan_forget(&keep_last(2), &Unobserved).unwrap();
    let going: Vec<u64> = plan.going().map(|j| j.checkpoint.step).collect();
    assert_eq!(going, [0, 1, 3, 4, 5]);
    assert_eq!(
        store.disk_usage().unwrap(),
        before,
        "a plan changes nothing"
    );
    let done = store.forget(&plan, &Unobserved).unwrap();
    assert_eq!((done.checkpoints, done.spared, done.tags), (5, 0, 0));
    let gc = store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(gc.removed_bytes, plan.freed.pack_bytes);
    let after = store.disk_usage().unwrap();
    let freed = plan.freed.pack_bytes + plan.freed.manifest_bytes;
    assert!(freed > 0 && before.total() - after.total() == freed);
    for store in [store.clone(), test.reopened()] {
        assert_eq!(steps(&store), [2, 6, 7]);
        assert_sound(&store);
        for step in [2, 6, 7] {
            let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
            assert_holds(&checkpoint, &state(step));
        }
        assert_eq!(
            store.checkpoint("step:1").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    save(store, SaveOptions::new("main").step(8), &state(8)).unwrap();
    assert_holds(&test.reopened().checkpoint("step:8").unwrap(), &state(8));
}

#[test]
fn what_is_named_goes_with_its_tags_even_the_newest() {
    let test = with_steps(3);
    let id = test.store.checkpoint("latest").unwrap().id();
    test.store.tag("best", &id).unwrap();
    let named = Forget {
        revisions: vec!["best".into(), "step:0".into()],
        ..Forget::default()
    };
    let plan = test.store.plan_forget(&named, &Unobserved).unwrap();
    assert_eq!(plan.tags.keys().collect::<Vec<_>>(), ["best"]);
    test.store.forget(&plan, &Unobserved).unwrap();
    assert_eq!(steps(&test.reopened()), [1]);
    assert!(test.reopened().tags().unwrap().is_empty());
}

#[test]
fn nothing_is_dropped_without_a_rule_or_a_name() {
    let test = with_steps(2);
    let error = test.store.plan_forget(&Forget::default(), &Unobserved);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    let unknown = Forget {
        revisions: vec!["nope".into()],
        ..Forget::default()
    };
    let error = test.store.plan_forget(&unknown, &Unobserved);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Between plan and deletion another process dropped the newest: what the rules would then keep
/// stays.
#[test]
fn a_plan_that_is_out_of_date_keeps_more() {
    let test = with_steps(3);
    let plan = test.store.plan_forget(&keep_last(1), &Unobserved).unwrap();
    let named = Forget {
        revisions: vec!["step:2".into()],
        ..Forget::default()
    };
    let other = test.reopened();
    let newest = other.plan_forget(&named, &Unobserved).unwrap();
    other.forget(&newest, &Unobserved).unwrap();
    let done = test.store.forget(&plan, &Unobserved).unwrap();
    assert_eq!((done.checkpoints, done.spared), (1, 1));
    assert_eq!(steps(&test.reopened()), [1]);
}

#[test]
fn a_thinned_checkpoint_keeps_its_id_and_the_rest() {
    let test = with_steps(4);
    let store = &test.store;
    let id = store.checkpoint("step:1").unwrap().id();
    let thin = Forget {
        drop: vec!["optim.*".into()],
        ..keep_last(2)
    };
    let plan = store.plan_forget(&thin, &Unobserved).unwrap();
    assert!(plan.judged.iter().all(|j| j.fate != Fate::Goes));
    assert_eq!(store.forget(&plan, &Unobserved).unwrap().thinned, 2);
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
    let store = test.reopened();
    assert_eq!(steps(&store), [0, 1, 2, 3]);
    let thinned = store.checkpoint("step:1").unwrap();
    assert_eq!(thinned.id(), id);
    assert_eq!(thinned.summary().unwrap().dropped, 1);
    assert!(thinned.tensor("model.w").unwrap() == state(1)["model.w"].bytes);
    for error in [
        thinned.tensor("optim.m").unwrap_err(),
        thinned.plan(&Selection::all()).unwrap_err(),
        thinned.tensor_chunks("optim.m").unwrap_err(),
    ] {
        assert_eq!(
            (error.kind(), error.code()),
            (ErrorKind::NotFound, TENSOR_DROPPED)
        );
    }
    let (kept, _) = thinned.plan(&Selection::kept()).unwrap();
    let names: Vec<&str> = kept.iter().map(|o| o.name.as_str()).collect();
    assert_eq!(names, ["frozen", "model.w"]);
    assert_sound(&store);
    // Nothing is left to drop, and a fork lacks the same.
    assert!(store.plan_forget(&thin, &Unobserved).unwrap().is_empty());
    store.fork("main@step:1", "fork").unwrap();
    let fork = store.checkpoint("fork").unwrap();
    assert_eq!(fork.tensor("optim.m").unwrap_err().code(), TENSOR_DROPPED);
    // Saved again, it is whole again.
    let again = save(&store, SaveOptions::new("main").step(1), &state(1)).unwrap();
    assert!(again.existed && again.id == id);
    assert_holds(
        &test.reopened().checkpoint("main@step:1").unwrap(),
        &state(1),
    );
}

#[test]
fn a_manifest_that_cannot_be_read_stops_every_removal() {
    let test = with_steps(3);
    let place = test.store.checkpoint("step:1").unwrap().place();
    let name = format!("runs/main/{:020}-{}.ckpt", place.seq, place.id);
    let path = test.folder.path().join(name);
    #[expect(clippy::disallowed_methods, reason = "the test spoils a manifest")]
    let spoil = || {
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[60] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    };
    spoil();
    let store = test.reopened();
    let before = store.disk_usage().unwrap();
    let gc = store.gc(&GcOptions::default(), &Unobserved).unwrap_err();
    assert_eq!(gc.kind(), ErrorKind::Corrupt);
    let plan = store.plan_forget(&keep_last(1), &Unobserved).unwrap_err();
    assert_eq!(plan.kind(), ErrorKind::Corrupt);
    assert_eq!(store.disk_usage().unwrap(), before);
    let damaged = Forget {
        damaged: true,
        ..Forget::default()
    };
    let plan = store.plan_forget(&damaged, &Unobserved).unwrap();
    assert_eq!(plan.damaged, [place]);
    assert_eq!(store.forget(&plan, &Unobserved).unwrap().damaged, 1);
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(steps(&test.reopened()), [0, 2]);
    assert_sound(&test.reopened());
}

#[test]
fn the_trash_waits_for_the_next_collection_if_asked() {
    let test = TestStore::new();
    let alone = |step| SaveOptions {
        full: Full::SelfContained,
        ..SaveOptions::new("main").step(step)
    };
    for step in 0..2 {
        save(&test.store, alone(step), &state(step)).unwrap();
    }
    let plan = test.store.plan_forget(&keep_last(1), &Unobserved).unwrap();
    test.store.forget(&plan, &Unobserved).unwrap();
    let keep = GcOptions {
        keep_trash: true,
        ..GcOptions::default()
    };
    let would = GcOptions {
        dry_run: true,
        ..GcOptions::default()
    };
    assert_eq!(test.store.gc(&would, &Unobserved).unwrap().removed_packs, 1);
    let first = test.store.gc(&keep, &Unobserved).unwrap();
    assert_eq!((first.removed_packs, first.trashed_packs), (0, 1));
    assert_eq!(
        test.store.disk_usage().unwrap().trash_bytes,
        first.trashed_bytes
    );
    let second = test.store.gc(&keep, &Unobserved).unwrap();
    assert_eq!((second.removed_packs, second.trashed_packs), (1, 0));
    assert_sound(&test.reopened());
}

/// Where locks do not hold, as on some network file systems, a collector may set aside what a
/// checkpoint needs. The next one brings it back.
#[test]
fn what_is_needed_comes_back_from_the_trash() {
    let test = with_steps(1);
    let packs = crate::support::packs::pack_files(test.folder.path());
    let name = packs[0].file_name().unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test sets a pack aside")]
    std::fs::rename(&packs[0], test.folder.path().join("trash").join(name)).unwrap();
    assert!(
        test.reopened()
            .checkpoint("latest")
            .unwrap()
            .tensor("frozen")
            .is_err()
    );
    let gc = test
        .reopened()
        .gc(&GcOptions::default(), &Unobserved)
        .unwrap();
    assert_eq!((gc.unresolved, gc.trashed_packs), (0, 0));
    assert_holds(&test.reopened().checkpoint("latest").unwrap(), &state(0));
}

#[test]
fn one_collector_at_a_time() {
    let test = with_steps(1);
    let _held = hold_lock(&test.folder.path().join("txn/collector.lock"));
    let error = test
        .store
        .gc(&GcOptions::default(), &Unobserved)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
}

/// Set for a process that a test starts: what it is to do, and where.
const ROLE: &str = "MILEPOST_TEST_ROLE";
const RUNS_FOR: Duration = Duration::from_secs(4);

/// Not a test of its own: one of the processes of the test below.
#[test]
fn one_process_of_many() {
    let Ok(told) = std::env::var(ROLE) else {
        return;
    };
    let (role, root) = told.split_once('\n').unwrap();
    let store = Store::open(Path::new(root), StoreOptions::default()).unwrap();
    let (started, mut done) = (Instant::now(), 0u64);
    while started.elapsed() < RUNS_FOR {
        match role {
            "collector" => collect(&store),
            "reader" => read_any(&store, done),
            run => {
                let options = SaveOptions::new(run).step(done);
                save(&store, options, &state(done)).unwrap();
            }
        }
        done += 1;
    }
    assert!(done > 2, "{role} did {done}");
}

fn collect(store: &Store) {
    let plan = store.plan_forget(&keep_last(3), &Unobserved).unwrap();
    store.forget(&plan, &Unobserved).unwrap();
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
}

/// Restores one of the checkpoints that are listed; it may be forgotten meanwhile.
fn read_any(store: &Store, turn: u64) {
    let listing = store.list(None).unwrap();
    assert!(listing.damaged.is_empty(), "{:?}", listing.damaged);
    let count = listing.checkpoints.len() as u64;
    let Some(summary) =
        (count > 0).then(|| &listing.checkpoints[usize::try_from(turn * 7 % count).unwrap()])
    else {
        return;
    };
    let restored = store.checkpoint_by_id(&summary.id).and_then(|checkpoint| {
        let names = state(0).into_keys();
        let tensors = names.map(|name| Ok((checkpoint.tensor(&name)?, name)));
        tensors.collect::<milepost_engine::Result<Vec<_>>>()
    });
    match restored {
        Ok(tensors) => {
            let expected = state(summary.step);
            assert!(
                tensors
                    .iter()
                    .all(|(bytes, name)| expected[name].bytes == *bytes)
            );
        }
        Err(error) => {
            // Runs hold the same states, so its id may name another run's checkpoint by now.
            let place = summary.place();
            let of_run = store.list(Some(&place.run)).unwrap().checkpoints;
            let gone = !of_run.iter().any(|c| c.place() == place);
            assert!(gone, "{place:?} is there and does not load: {error:?}");
        }
    }
}

#[test]
fn writers_readers_and_a_collector_disturb_nobody() {
    let test = TestStore::new();
    let start = |role: &str| {
        let root = test.folder.path().to_str().unwrap();
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "deletion::one_process_of_many", "--nocapture"])
            .env(ROLE, format!("{role}\n{root}"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let roles = ["one", "two", "three", "reader", "reader", "collector"];
    let processes: Vec<_> = roles.map(|role| (role, start(role))).into();
    for (role, mut process) in processes {
        assert!(process.wait().unwrap().success(), "{role} failed");
    }
    let store = test.reopened();
    collect(&store);
    assert_sound(&store);
    let summaries = store.list(None).unwrap().checkpoints;
    assert_eq!(summaries.len(), 9, "three of each run");
    for summary in summaries {
        let checkpoint = store.checkpoint_by_id(&summary.id).unwrap();
        assert_holds(&checkpoint, &state(summary.step));
    }
}
