//! Damage to the files of the small store, and all that a reader and a writer may then do.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use milepost_engine::{
    CheckpointId, CompactOptions, Dtype, Forget, GcOptions, KeepRules, SaveOptions, Selection,
    Store, Unobserved, VerifyOptions,
};

use crate::memory_disk::{Files, MemoryDisk};
use crate::seal::reseal;
use crate::small_store::{self, options};

/// One change of one file; numbers wrap to what there is.
#[derive(Arbitrary, Clone, Debug)]
pub enum Mutation {
    /// One byte changes.
    Flip { file: u8, at: u16, xor: u8 },
    /// Bytes are put over others.
    Write { file: u8, at: u16, bytes: Vec<u8> },
    /// The file is cut.
    Truncate { file: u8, len: u16 },
    /// Bytes follow it.
    Append { file: u8, bytes: Vec<u8> },
    /// One file takes another's bytes.
    Replace { file: u8, by: u8 },
    /// The file goes.
    Remove { file: u8 },
}

static GOOD: LazyLock<Files> = LazyLock::new(|| small_store::files().unwrap());
/// The bytes of every tensor of every good checkpoint.
static ORACLE: LazyLock<HashMap<(CheckpointId, String), Vec<u8>>> = LazyLock::new(|| {
    let disk = MemoryDisk::new(GOOD.clone(), true);
    let store = Store::open_on(Arc::new(disk), options()).unwrap();
    let mut oracle = HashMap::new();
    for summary in store.list(None).unwrap().checkpoints {
        let checkpoint = store.checkpoint_by_id(&summary.id).unwrap();
        for tensor in &checkpoint.manifest().body.tensors {
            let bytes = checkpoint.tensor(&tensor.name).unwrap();
            oracle.insert((summary.id, tensor.name.clone()), bytes);
        }
    }
    oracle
});

/// The good store's files, damaged; `seal` puts checksums right again.
#[must_use]
pub fn mutated(mutations: &[Mutation], seal: bool) -> Files {
    let mut files = GOOD.clone();
    let paths: Vec<String> = files.keys().cloned().collect();
    let path = |index: u8| &paths[usize::from(index) % paths.len()];
    for mutation in mutations.iter().take(16) {
        let (index, change): (u8, Box<dyn Fn(&mut Vec<u8>)>) = match mutation.clone() {
            Mutation::Flip { file, at, xor } => (file, Box::new(move |f| flip(f, at, xor))),
            Mutation::Write { file, at, bytes } => {
                (file, Box::new(move |f| overwrite(f, at, &bytes)))
            }
            Mutation::Truncate { file, len } => (file, Box::new(move |f| f.truncate(len.into()))),
            Mutation::Append { file, bytes } => (file, Box::new(move |f| f.extend(&bytes))),
            Mutation::Replace { file, by } => {
                let other = files.get(path(by)).cloned().unwrap_or_default();
                (file, Box::new(move |f| f.clone_from(&other)))
            }
            Mutation::Remove { file } => {
                files.remove(path(file));
                continue;
            }
        };
        if let Some(file) = files.get_mut(path(index)) {
            let file = Arc::make_mut(file);
            change(file);
            if seal {
                reseal(path(index), file);
            }
        }
    }
    files
}

fn flip(file: &mut [u8], at: u16, xor: u8) {
    let len = file.len().max(1);
    if let Some(byte) = file.get_mut(usize::from(at) % len) {
        *byte ^= xor;
    }
}

fn overwrite(file: &mut [u8], at: u16, bytes: &[u8]) {
    let start = usize::from(at).min(file.len());
    let len = bytes.len().min(file.len() - start);
    file[start..start + len].copy_from_slice(&bytes[..len]);
}

/// Reads all there is; with `exact`, what comes out must be what went in.
#[must_use]
pub fn read_all(files: Files, maps: bool, exact: bool) -> Option<Store> {
    let disk = MemoryDisk::new(files, maps);
    let store = Store::open_on(Arc::new(disk), options()).ok()?;
    let _ = (store.tags(), store.disk_usage());
    let _ = (store.checkpoint("best"), store.checkpoint("latest"));
    for summary in store.list(None).ok()?.checkpoints {
        let Ok(checkpoint) = store.checkpoint_by_id(&summary.id) else {
            continue;
        };
        let _ = (checkpoint.plan(&Selection::all()), checkpoint.blob("rng"));
        for tensor in &checkpoint.manifest().body.tensors {
            let Ok(bytes) = checkpoint.tensor(&tensor.name) else {
                continue;
            };
            let expected = ORACLE.get(&(summary.id, tensor.name.clone()));
            assert!(
                !exact || expected == Some(&bytes),
                "wrong bytes of {}",
                tensor.name
            );
            let _ = checkpoint.rows(&tensor.name, 0..1);
        }
    }
    Some(store)
}

/// What can be restored, tensor by tensor.
fn restorable(store: &Store) -> BTreeMap<(CheckpointId, String), Vec<u8>> {
    let mut found = BTreeMap::new();
    for summary in store.list(None).map(|l| l.checkpoints).unwrap_or_default() {
        let Ok(checkpoint) = store.checkpoint_by_id(&summary.id) else {
            continue;
        };
        for tensor in &checkpoint.manifest().body.tensors {
            if let Ok(bytes) = checkpoint.tensor(&tensor.name) {
                found.insert((summary.id, tensor.name.clone()), bytes);
            }
        }
    }
    found
}

/// Looks at everything, then collects: what could be restored before can be afterwards.
pub fn collect_all(store: &Store, exact: bool) {
    let _ = store.verify(&VerifyOptions::default(), &Unobserved);
    let _ = store.unique_bytes(&Unobserved);
    let before = restorable(store);
    let keep = Forget {
        rules: KeepRules {
            last: Some(1),
            ..KeepRules::default()
        },
        ..Forget::default()
    };
    let _ = store.plan_forget(&keep, &Unobserved);
    let collected = store.gc(&GcOptions::default(), &Unobserved);
    let after = restorable(store);
    assert!(
        !exact || collected.is_err() || before == after,
        "a collection lost something"
    );
    let Ok(plan) = store.plan_forget(&keep, &Unobserved) else {
        return;
    };
    let _ = (
        store.forget(&plan, &Unobserved),
        store.gc(&GcOptions::default(), &Unobserved),
    );
}

/// Compacts in both ways: what could be restored before can be afterwards.
pub fn compact_all(store: &Store, exact: bool) {
    for reencode in [false, true] {
        let options = CompactOptions {
            idle_min_percent: 0,
            reencode,
            ..CompactOptions::default()
        };
        let before = restorable(store);
        let compacted = store.compact(&options, &Unobserved);
        assert!(
            !exact || compacted.is_err() || before == restorable(store),
            "a compaction lost something"
        );
    }
}

/// Forks, removes a tag and saves; with `exact`, what was saved comes back.
pub fn write_all(store: &Store, exact: bool) {
    let _ = (store.fork("latest", "fork"), store.untag("best"));
    let Ok(mut draft) = store.draft(SaveOptions::new("main")) else {
        return;
    };
    draft.tensor("w", Dtype::F32, &[1600], &[1; 6400]).unwrap();
    let Ok(report) = draft.commit() else { return };
    let saved = store
        .checkpoint_by_id(&report.id)
        .and_then(|c| c.tensor("w"));
    assert!(!exact || saved.is_ok_and(|bytes| bytes == [1; 6400]));
}
