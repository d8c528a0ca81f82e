//! Stores on temporary folders, removed when the test ends.

use std::fs::File;
use std::path::Path;

use milepost_engine::{SaveOptions, SaveReport, Store, StoreOptions, StoreSettings};

/// A store and the folder it lives in.
pub(crate) struct TestStore {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl TestStore {
    /// A store with small chunks, so that small tensors have several.
    pub(crate) fn new() -> Self {
        Self::with(StoreSettings {
            chunk_len: 4096,
            ..StoreSettings::default()
        })
    }

    pub(crate) fn with(settings: StoreSettings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path(), settings, StoreOptions::default()).unwrap();
        Self { folder, store }
    }

    /// The store as another process would see it: without any cache of this one.
    pub(crate) fn reopened(&self) -> Store {
        Store::open(self.folder.path(), StoreOptions::default()).unwrap()
    }
}

/// A lock, held as by another process until it is dropped.
#[expect(
    clippy::disallowed_methods,
    reason = "the test holds the lock of another process"
)]
pub(crate) fn hold_lock(path: &Path) -> File {
    let file = File::create(path).unwrap();
    file.lock().unwrap();
    file
}

/// Saves f32 tensors to run `main`.
pub(crate) fn save_floats(store: &Store, step: u64, tensors: &[(&str, &[f32])]) -> SaveReport {
    let mut draft = store.draft(SaveOptions::new("main").step(step)).unwrap();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    for ((name, values), bytes) in tensors.iter().zip(&bytes) {
        draft
            .tensor(
                name,
                milepost_engine::Dtype::F32,
                &[values.len() as u64],
                bytes,
            )
            .unwrap();
    }
    draft.commit().unwrap()
}
