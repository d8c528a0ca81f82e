//! The sentences of the main errors, word for word: what people and scripts see.

use milepost_engine::{Dtype, Error, SaveOptions, Selection, Store, StoreOptions};

use crate::support::hostile::{Codes, HostileStore, chunk};
use crate::support::state::{Tensor, save_to, state_of};
use crate::support::store::TestStore;

/// Sentence and hint, as the command line prints them.
fn printed(error: &Error) -> String {
    let hint = error
        .advice()
        .map_or(String::new(), |hint| format!("\n  {hint}"));
    format!("{error}{hint}")
}

fn assert_printed(error: &Error, expected: &str) {
    assert_eq!(printed(error), expected);
}

fn store() -> TestStore {
    let test = TestStore::new();
    save_to(
        &test.store,
        "main",
        &state_of([("w", Tensor::bytes(vec![1; 8]))]),
    );
    test
}

#[test]
fn what_is_not_there() {
    let empty = tempfile::tempdir().unwrap();
    let open = |path| Store::open(path, StoreOptions::default()).unwrap_err();
    let none = "there is no store here\n  make one with `milepost init`";
    assert_printed(&open(empty.path()), none);
    assert_printed(&open(&empty.path().join("x")), none);
    let test = store();
    assert_printed(
        &test.store.checkpoint("best").unwrap_err(),
        "no checkpoint is called \"best\"\n  \
         runs and tags here: main; also `latest`, `step:N`, or an id's first digits",
    );
    let checkpoint = test.store.checkpoint("main").unwrap();
    assert_printed(
        &checkpoint.tensor("v\n").unwrap_err(),
        "the checkpoint has no tensor \"v\\n\"\n  `milepost ls REV` shows the names",
    );
    let globs = Selection::globs(&["opt.*"]).unwrap();
    assert_printed(
        &checkpoint.plan(&globs).unwrap_err(),
        "no tensor matches (opt.*)\n  `milepost ls REV` shows the names",
    );
    assert_printed(
        &TestStore::new().store.checkpoint("latest").unwrap_err(),
        "no checkpoint is called \"latest\"\n  the store has no checkpoint yet",
    );
}

#[test]
fn what_cannot_be_done() {
    let test = store();
    assert_printed(
        &test.store.draft(SaveOptions::new("../x")).err().unwrap(),
        "\"../x\" cannot name a run\n  \
         use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit",
    );
    let mut draft = test.store.draft(SaveOptions::new("main")).unwrap();
    assert_printed(
        &draft.tensor("w", Dtype::F32, &[3], &[0; 8]).err().unwrap(),
        "a tensor's bytes do not fit its shape (tensor \"w\", F32 [3]): \
         expected 12 bytes, found 8",
    );
    assert_printed(
        &test
            .store
            .checkpoint("main")
            .unwrap()
            .rows("w", 2..9)
            .unwrap_err(),
        "rows 2..9 are not within 0..8 (tensor \"w\")",
    );
    assert_printed(
        &test.store.fork("main", "main").unwrap_err(),
        "there is a run \"main\" already\n  choose another name",
    );
    assert_printed(
        &test.store.checkpoint("a@b").unwrap_err(),
        "\"a@b\" is no revision\n  say `latest`, RUN, RUN@latest, step:N, RUN@step:N, a tag, \
         or an id's first digits; add ~N for a parent",
    );
}

#[test]
fn what_is_damaged() {
    let planted = HostileStore::new();
    let error = planted.read_error(&[], 7, 64);
    let chunk_id = chunk(7);
    assert_printed(
        &error,
        &format!(
            "a chunk is in no pack of the store (chunk {chunk_id})\n  \
             run `milepost verify` to see which checkpoints are hit"
        ),
    );
    let planted = HostileStore::new();
    let hint = planted.plant_records(&[Codes::zeros(64).record(1, 0, &[])]);
    let path = format!("packs/{:02x}/{}.pack", hint.pack.0[0], hint.pack);
    let mut file = std::fs::read(planted.root().join(&path)).unwrap();
    file[48] ^= 1;
    planted.plant(&path, &file);
    let sentence = planted.read_error(&[hint], 1, 64).to_string();
    let start = format!("a record fails its checksum in {path} at byte 32: expected 0x");
    assert!(sentence.starts_with(&start), "{sentence}");
    planted.plant("FORMAT", b"not a store, but as long as an envelope is");
    assert_printed(
        &Store::open(planted.root(), StoreOptions::default()).unwrap_err(),
        "this is not a milepost file in FORMAT at byte 0",
    );
}

#[test]
fn what_needs_another_version() {
    let newer = Codes {
        predictor: 9,
        ..Codes::zeros(64)
    };
    let planted = HostileStore::new();
    let hint = planted.plant_records(&[newer.record(1, 0, &[])]);
    let error = planted.read_error(&[hint], 1, 64);
    let expected = format!(
        "predictor 9 is not known (chunk {}) in packs/{:02x}/{}.pack at byte 32\n  \
         upgrade milepost",
        chunk(1),
        hint.pack.0[0],
        hint.pack
    );
    assert_printed(&error, &expected);
    assert_eq!(
        format!("{error:?}"),
        format!("[unsupported/encoding] {error}")
    );
}
