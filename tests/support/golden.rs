//! The golden stores: where they lie and what is said of them beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use milepost_engine::{Relation, hash};
use serde::{Deserialize, Serialize};

use crate::support::packs::files_below;

/// The file beside a golden store's own that says what is expected of it.
pub(crate) const EXPECTED: &str = "expected.json";

/// The folder of all golden stores of format version 1.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// The golden stores of a kind, `good` or `must-reject`, sorted by name.
pub(crate) fn stores(kind: &str) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(root().join(kind)).unwrap();
    let mut stores: Vec<PathBuf> = listed.map(|entry| entry.unwrap().path()).collect();
    stores.sort();
    stores
}

/// The last part of a path, as text.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// What is expected of a store, read from beside it.
pub(crate) fn expected<T: for<'d> Deserialize<'d>>(store: &Path) -> T {
    let text = std::fs::read_to_string(store.join(EXPECTED)).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", store.display()))
}

/// BLAKE3 over a store's files as appendix C of the format says, `expected.json` left out.
pub(crate) fn digest(store: &Path) -> String {
    let mut all = Vec::new();
    for path in files_below(store) {
        let text = path.to_str().unwrap();
        if text == EXPECTED {
            continue;
        }
        let bytes = std::fs::read(store.join(&path)).unwrap();
        all.extend(text.as_bytes());
        all.push(0);
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    }
    hash::chunk_id(&all).to_string()
}

/// What a good store holds.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expected {
    pub(crate) checkpoints: Vec<ExpectedCheckpoint>,
    pub(crate) tags: BTreeMap<String, String>,
}

/// What one checkpoint of it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExpectedCheckpoint {
    pub(crate) run: String,
    pub(crate) seq: u64,
    pub(crate) step: u64,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    /// The bits of each as 16 hex digits, most significant first.
    pub(crate) metrics: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, ExpectedTensor>,
    /// The names of those that are not kept any more, and not among the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dropped: Vec<String>,
    /// For each tensor that came from others the kind of its relation, and their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) relations: BTreeMap<String, Vec<String>>,
    /// The SHA-256 of each.
    pub(crate) blobs: BTreeMap<String, String>,
}

/// Relations as `expected.json` tells them.
pub(crate) fn told(
    relations: impl IntoIterator<Item = (String, Relation)>,
) -> BTreeMap<String, Vec<String>> {
    let told = |relation: &Relation| {
        let names = relation.names().into_iter();
        let told = std::iter::once(relation.kind_name()).chain(names);
        told.map(str::to_owned).collect()
    };
    let relations = relations.into_iter();
    relations.map(|(name, r)| (name, told(&r))).collect()
}

/// What one tensor holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExpectedTensor {
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) sha256: String,
}

/// How a store must be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExpectedReject {
    /// The rule of section 16.2 of the format.
    pub(crate) rule: String,
    pub(crate) kind: String,
    pub(crate) code: String,
    pub(crate) what: String,
    /// When milepost meets it: `open` the store, find the `checkpoint`, or `restore` it.
    pub(crate) stage: String,
    /// The checkpoint to restore: a tag, or an id.
    pub(crate) checkpoint: String,
}
