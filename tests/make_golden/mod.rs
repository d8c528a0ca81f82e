//! Makes the golden stores. Runs only when asked, and never touches one that is there:
//! `MILEPOST_MAKE_GOLDEN=1 cargo test --test tests make_golden`.
#![expect(
    clippy::disallowed_methods,
    reason = "writes the golden stores, file by file"
)]

mod compacted;
mod few;
mod few_by_hand;
mod good;
mod grids;
mod planted;
mod predicted;
mod reject;
mod related;
mod rounded;
mod state;
mod thinned;
mod touched;

use std::path::Path;

use milepost_engine::{Store, StoreOptions, StoreSettings};

use crate::support::golden::{self, EXPECTED, Expected};

/// Every store's uuid but the last byte.
const UUID: [u8; 16] = *b"golden milepost\0";
/// 2026-11-23T00:00:00Z.
const CLOCK_MS: u64 = 1_795_392_000_000;

/// The settings of every golden store.
pub(crate) fn settings() -> StoreSettings {
    StoreSettings {
        uuid: UUID,
        chunk_len: 4096,
        ..StoreSettings::default()
    }
}

/// The options under which packs come out the same every time.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        threads: 1,
        clock: || CLOCK_MS,
        ..StoreOptions::default()
    }
}

#[test]
fn golden_stores_are_made_when_asked() {
    if std::env::var_os("MILEPOST_MAKE_GOLDEN").is_none() {
        return;
    }
    for (name, make) in good::STORES {
        let root = golden::root().join("good").join(name);
        if let Some(root) = fresh(&root) {
            let expected = make(root);
            finish(root, &expected);
        }
    }
    for case in reject::cases() {
        let root = golden::root().join("must-reject").join(case.name);
        if let Some(root) = fresh(&root) {
            let expected = case.make(root);
            finish(root, &expected);
        }
    }
}

/// The makers hold that their stores show what they are for: so must the encoder of today.
#[test]
fn what_the_good_stores_show_still_comes_about() {
    for (_, make) in good::STORES {
        make(tempfile::tempdir().unwrap().path());
    }
}

/// The folder, made; `None` if it is there already.
fn fresh(root: &Path) -> Option<&Path> {
    if root.exists() {
        println!("{} is there and stays as it is", root.display());
        return None;
    }
    std::fs::create_dir_all(root).unwrap();
    Some(root)
}

/// Writes what is expected and removes what is no part of the store.
fn finish(root: &Path, expected: &impl serde::Serialize) {
    let json = serde_json::to_string_pretty(expected).unwrap();
    std::fs::write(root.join(EXPECTED), json + "\n").unwrap();
    for folder in ["txn", "trash", "cache", "tags", "runs", "packs"] {
        let folder = root.join(folder);
        if folder.ends_with("txn") && folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        // Fails on purpose where the folder holds something: only empty ones go.
        let _ = std::fs::remove_dir(&folder);
    }
}

/// What every must-reject store is before it is bent; the id of its checkpoint.
pub(crate) fn sound_store(root: &Path) -> String {
    reject::sound(root).to_string()
}

/// A new store, written by the engine.
fn create(root: &Path) -> Store {
    Store::create(root, settings(), options()).unwrap()
}

/// No checkpoint yet.
fn nothing() -> Expected {
    Expected::default()
}
