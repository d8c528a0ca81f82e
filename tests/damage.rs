//! Old damage stops nothing new: saves go on, what is stored twice comes back, and what was
//! promised of new bytes holds.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use milepost_engine::{
    ByteSource, Dtype, Durability, Error, ErrorKind, Forget, Full, Result, SaveOptions, Store,
    StoreOptions, StoreSettings, Unobserved, VerifyOptions,
};

use crate::support::packs::pack_files;
use crate::support::state::{State, Tensor, assert_holds, noise, save, state_of};
use crate::support::store::TestStore;

fn state(seed: u64) -> State {
    let drifted = (0..3000u16).map(|i| (f32::from(i) * 0.1).sin() * (1.0 + seed as f32 * 1e-4));
    state_of([
        ("drifts", Tensor::floats(drifted)),
        ("frozen", Tensor::bytes(noise(1, 9000))),
    ])
}

fn at(step: u64) -> SaveOptions {
    SaveOptions::new("main").step(step)
}

fn with_full(full: Full, options: SaveOptions) -> SaveOptions {
    SaveOptions { full, ..options }
}

/// Flips a bit in the first record of a pack.
fn spoil_record(pack: &PathBuf) {
    bend(pack, |bytes| bytes[40] ^= 1);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test spoils a file of a store"
)]
fn bend(path: &PathBuf, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    how(&mut bytes);
    // As a bad medium would: the file's name and number stay.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn packs(test: &TestStore) -> Vec<PathBuf> {
    pack_files(test.folder.path())
}

/// One flipped bit in the base of a run stopped every later save to it.
#[test]
fn a_damaged_record_stops_no_save() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    spoil_record(&packs(&test)[0]);
    let store = test.reopened();
    save(&store, at(2), &state(2)).unwrap();
    let again = with_full(Full::SelfContained, at(3));
    save(&store, again, &state(3)).unwrap();
    assert_holds(&store.checkpoint("step:3").unwrap(), &state(3));
}

/// A pack that was cut short stopped saves of anything to its run, whatever they asked for.
#[test]
fn a_truncated_pack_stops_no_save() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    bend(&packs(&test)[0], |bytes| bytes.truncate(5000));
    let store = test.reopened();
    let saved = save(&store, at(2), &state(1)).unwrap();
    assert!(saved.new_chunks > 0, "what is damaged is stored anew");
    assert_holds(&store.checkpoint("step:2").unwrap(), &state(1));
    let error = store.checkpoint("step:1").unwrap().tensor("drifts");
    assert!(error.is_ok(), "the new pack holds its chunks as well");
}

/// A restore gave up at the first damaged record, though another pack held the chunk.
#[test]
fn what_is_stored_twice_comes_back_and_is_not_called_lost() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    let other = SaveOptions::new("other").step(1);
    let own = packs(&test);
    save(
        &test.store,
        with_full(Full::SelfContained, other),
        &state(1),
    )
    .unwrap();
    let is_new = packs(&test).len() > own.len();
    assert!(!is_new, "the very same pack is not stored twice");
    let more = state_of([("drifts", state(1)["drifts"].clone())]);
    let part = SaveOptions::new("part").step(1);
    save(&test.store, with_full(Full::SelfContained, part), &more).unwrap();
    spoil_first_record_of(&test, &own[0]);
    let store = test.reopened();
    let drifts = store.checkpoint("main@step:1").unwrap().tensor("drifts");
    assert!(drifts.unwrap() == state(1)["drifts"].bytes);
    let report = store
        .verify(&VerifyOptions::default(), &Unobserved)
        .unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(report.problems[0].hits.is_empty(), "{:?}", report.problems);
}

fn spoil_first_record_of(test: &TestStore, pack: &PathBuf) {
    assert!(packs(test).contains(pack));
    spoil_record(pack);
}

/// `Verified` found a damaged record by dedup and was acknowledged for a checkpoint that could
/// not be restored.
#[test]
fn verified_stores_anew_what_does_not_decode() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    spoil_record(&packs(&test)[0]);
    for store in [test.store.clone(), test.reopened()] {
        let step = if store.newest("main").unwrap().unwrap().step == 1 {
            2
        } else {
            3
        };
        let verified = at(step).durability(Durability::Verified);
        save(&store, verified, &state(1)).unwrap();
        let newest = test.reopened().checkpoint("latest").unwrap();
        assert_holds(&newest, &state(1));
    }
}

/// A relaxed save put a whole pack in place of a damaged one and did not sync it; a durable save
/// relied on it, as durable checkpoints need a pack of that name.
#[test]
fn a_pack_that_takes_the_place_of_another_is_durable() {
    let test = TestStore::new();
    let alone = |step| with_full(Full::SelfContained, at(step));
    save(&test.store, alone(1), &state(1)).unwrap();
    let pack = packs(&test)[0].clone();
    spoil_record(&pack);
    let relaxed = alone(2).durability(Durability::Relaxed);
    save(&test.reopened(), relaxed, &state(1)).unwrap();
    assert_holds(&test.reopened().checkpoint("step:1").unwrap(), &state(1));
}

/// Panics for one chunk alone: the other worker goes on until it has to wait for that one.
struct Panics;

impl ByteSource for Panics {
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        assert!(offset != 40 << 12, "this source panics");
        out.fill(offset.to_le_bytes()[1]);
        Ok(())
    }
}

/// A source that panicked in a worker left the other workers waiting for its chunk for ever.
#[test]
fn a_panic_in_a_worker_ends_the_save() {
    let test = TestStore::with(StoreSettings {
        chunk_len: 4096,
        ..StoreSettings::default()
    });
    let (done, ended) = mpsc::channel();
    let root = test.folder.path().to_owned();
    std::thread::spawn(move || {
        let options = StoreOptions {
            threads: 2,
            ..StoreOptions::default()
        };
        let store = Store::open(&root, options).unwrap();
        let save = std::panic::AssertUnwindSafe(|| {
            let mut draft = store.draft(at(1))?;
            draft.tensor_from("t", Dtype::U8, &[1 << 20], &Panics, 0)?;
            draft.commit()
        });
        let ended = std::panic::catch_unwind(save);
        done.send(matches!(ended, Err(_) | Ok(Err(_)))).unwrap();
    });
    let failed = ended.recv_timeout(Duration::from_secs(60));
    assert_eq!(failed, Ok(true), "the save must end, and fail");
    save(&test.store, at(1), &state(1)).unwrap();
}

/// A long-lived process knew its run's newest checkpoint, whose manifest was damaged since; it
/// could never save to the run again.
#[test]
fn a_newest_manifest_that_is_damaged_later_stops_no_save() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    let newest = save(&test.store, at(2), &state(2)).unwrap();
    let name = format!("runs/main/{:020}-{}.ckpt", newest.seq, newest.id);
    bend(&test.folder.path().join(name), |bytes| bytes[50] ^= 1);
    let saved = save(&test.store, at(3), &state(3)).unwrap();
    let parent = test.store.checkpoint_by_id(&saved.id).unwrap();
    let first = test.store.checkpoint("step:1").unwrap().id();
    assert_eq!(parent.manifest().body.parent, Some(first));
    // The step is not known of what cannot be read.
    let error = test.reopened().checkpoint("step:2").unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Corrupt, "revision-damaged")
    );
}

/// One long file in `tags/` kept `log` and every save to a new run from working.
#[test]
fn a_tag_of_any_size_and_kind_is_left_out() {
    let test = TestStore::new();
    let saved = save(&test.store, at(1), &state(1)).unwrap();
    test.store.tag("good", &saved.id).unwrap();
    for (name, len) in [("long", 70_000), ("empty", 0)] {
        bend_new(&test.folder.path().join("tags").join(name), vec![0; len]);
    }
    let tags = test.reopened().tags().unwrap();
    assert_eq!(tags.keys().collect::<Vec<_>>(), ["good"]);
    save(&test.store, SaveOptions::new("new"), &state(1)).unwrap();
}

/// A cache file of gigabytes, holes for the most part, was read whole.
#[test]
fn a_huge_cache_file_is_not_read() {
    let test = TestStore::new();
    for step in 0..20 {
        save(&test.store, at(step), &state(step)).unwrap();
    }
    let path = test
        .folder
        .path()
        .join(format!("cache/summaries-{:032}.cache", 0));
    bend_new(&path, Vec::new());
    #[expect(clippy::disallowed_methods, reason = "the test plants a file of holes")]
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(64 << 30).unwrap();
    assert_eq!(test.reopened().list(None).unwrap().checkpoints.len(), 20);
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plants a file in a store"
)]
fn bend_new(path: &PathBuf, bytes: Vec<u8>) {
    std::fs::write(path, bytes).unwrap();
}

/// Two processes could make the same run at once, each with a first checkpoint of its own.
#[test]
fn one_run_is_forked_once() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    save(&test.store, at(2), &state(2)).unwrap();
    for number in 0..10 {
        let run = format!("fork-{number}");
        let fork = |revision: &str| test.reopened().fork(revision, &run).map(|r| r.seq);
        let (one, two) = std::thread::scope(|scope| {
            let one = scope.spawn(|| fork("main@step:1"));
            let two = fork("main@step:2");
            (one.join().unwrap(), two)
        });
        let failed: Vec<Error> = [one, two].into_iter().filter_map(Result::err).collect();
        let codes: Vec<&str> = failed.iter().map(Error::code).collect();
        assert_eq!(codes, ["run-exists"]);
    }
}

/// A name that means two things sent people to another checkpoint than they thought.
#[test]
fn names_that_would_mean_two_checkpoints_are_refused() {
    let test = TestStore::new();
    let saved = save(&test.store, at(1), &state(1)).unwrap();
    test.store.tag("best", &saved.id).unwrap();
    let code = |result: Result<()>| result.unwrap_err().code();
    assert_eq!(code(test.store.tag("latest", &saved.id)), "name-reserved");
    assert_eq!(code(test.store.tag("main", &saved.id)), "name-taken");
    let to = |run: &str| save(&test.store, SaveOptions::new(run), &state(2)).map(|_| ());
    assert_eq!(code(to("best")), "name-taken");
    assert_eq!(code(to("latest")), "name-reserved");
    assert_eq!(
        code(test.store.fork("main", "best").map(|_| ())),
        "name-taken"
    );
}

/// A lost FORMAT file was replaced by a new one without a word.
#[test]
fn a_store_without_its_format_is_not_made_anew_by_accident() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test loses a file")]
    std::fs::remove_file(test.folder.path().join("FORMAT")).unwrap();
    let root = test.folder.path();
    let opened = Store::open(root, StoreOptions::default());
    assert_eq!(opened.unwrap_err().code(), "format-missing");
    let create = |adopt| {
        let options = StoreOptions {
            adopt,
            ..StoreOptions::default()
        };
        Store::create(root, StoreSettings::default(), options)
    };
    assert_eq!(create(false).unwrap_err().code(), "format-missing");
    let adopted = create(true).unwrap();
    assert_holds(&adopted.checkpoint("latest").unwrap(), &state(1));
}

/// A power cut leaves names of packs that a save had begun and nothing behind them; verifying
/// called the store damaged, though no checkpoint lacks anything.
#[test]
fn what_a_cut_left_of_a_pack_that_nothing_needs_is_no_damage() {
    let test = TestStore::new();
    save(&test.store, at(1), &state(1)).unwrap();
    let folder = test.folder.path().join("packs/ab");
    #[expect(clippy::disallowed_methods, reason = "the test leaves an empty pack")]
    {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.pack", "ab".repeat(32))), []).unwrap();
    }
    let verify = |store: &Store| {
        let report = store.verify(&VerifyOptions::default(), &Unobserved);
        report.unwrap()
    };
    let report = verify(&test.reopened());
    assert!(report.problems.is_empty() && report.unneeded_packs == 1);
    // One that is needed is another matter.
    let needed = test.store.checkpoint("latest").unwrap().manifest().packs[0].pack;
    let needed = pack_files(test.folder.path())
        .into_iter()
        .find(|path| path.to_string_lossy().contains(&needed.to_string()));
    bend(&needed.unwrap(), Vec::clear);
    assert!(!verify(&test.reopened()).problems.is_empty());
}

/// What a plan calls damaged may be whole by the time it is carried out: another process put the
/// manifest back, or made durable what a power cut had left.
#[test]
fn what_was_mended_since_the_plan_is_not_cleared_away() {
    let test = TestStore::new();
    for step in 0..3 {
        save(&test.store, at(step), &state(step)).unwrap();
    }
    let place = test.store.checkpoint("step:1").unwrap().place();
    let name = format!("runs/main/{:020}-{}.ckpt", place.seq, place.id);
    let path = test.folder.path().join(name);
    let aside = test.folder.path().join("aside");
    #[expect(clippy::disallowed_methods, reason = "the test takes a manifest aside")]
    let replaced_by = |bytes: &[u8]| {
        std::fs::rename(&path, &aside).unwrap();
        std::fs::write(&path, bytes).unwrap();
    };
    replaced_by(b"nothing");
    let store = test.reopened();
    let damaged = Forget {
        damaged: true,
        ..Forget::default()
    };
    let plan = store.plan_forget(&damaged, &Unobserved).unwrap();
    assert_eq!(plan.damaged, [place]);
    #[expect(clippy::disallowed_methods, reason = "the test puts a manifest back")]
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(store.forget(&plan, &Unobserved).unwrap().damaged, 0);
    let listing = test.reopened().list(None).unwrap();
    assert_eq!((listing.checkpoints.len(), listing.damaged.len()), (3, 0));
}
