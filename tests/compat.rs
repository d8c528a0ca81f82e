//! Golden stores: what was written once stays readable, what must be refused is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use milepost_engine::format::record::decode_head;
use milepost_engine::{Checkpoint, Error, ReaderMode, Selection, Store, StoreOptions};

use crate::support::golden::{
    self, Expected, ExpectedCheckpoint, ExpectedReject, ExpectedTensor, name_of,
};
use crate::support::packs;
use crate::support::sha256::sha256;

const MODES: [ReaderMode; 2] = [ReaderMode::Mmap, ReaderMode::Pread];

fn open(root: &Path, reader: ReaderMode) -> Result<Store, Error> {
    let options = StoreOptions {
        reader,
        ..StoreOptions::default()
    };
    Store::open(root, options)
}

/// Every tensor, decoded and hashed on the way, and every blob.
fn restore(checkpoint: &Checkpoint) -> Result<ExpectedCheckpoint, Error> {
    let (outputs, plan) = checkpoint.plan(&Selection::kept())?;
    let held: Vec<Mutex<Vec<u8>>> = plan
        .outputs
        .iter()
        .map(|len| Mutex::new(vec![0; usize::try_from(*len).unwrap()]))
        .collect();
    let sink = |output: usize, at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        held[output].lock().unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    };
    checkpoint.restore_to(&plan, &sink, true, &milepost_engine::Unobserved)?;
    let manifest = checkpoint.manifest();
    let tensor = |(output, bytes): (&milepost_engine::Output, &Mutex<Vec<u8>>)| {
        let found = ExpectedTensor {
            dtype: output.dtype.name().into(),
            shape: output.shape.clone(),
            sha256: sha256(&bytes.lock().unwrap()),
        };
        (output.name.clone(), found)
    };
    let tensors: BTreeMap<_, _> = outputs.iter().zip(&held).map(tensor).collect();
    let mut blobs = BTreeMap::new();
    for blob in &manifest.body.blobs {
        blobs.insert(blob.name.clone(), sha256(&checkpoint.blob(&blob.name)?));
    }
    let metrics = manifest.body.metrics.iter();
    Ok(ExpectedCheckpoint {
        run: manifest.placement.run.clone(),
        seq: manifest.placement.seq,
        step: manifest.body.step,
        id: checkpoint.id().to_string(),
        parent: manifest.body.parent.map(|p| p.to_string()),
        metadata: manifest.body.metadata.clone(),
        metrics: metrics
            .map(|(n, v)| (n.clone(), format!("{:016x}", v.to_bits())))
            .collect(),
        tensors,
        dropped: manifest.dropped_names().map(str::to_owned).collect(),
        relations: golden::told(manifest.named_relations()),
        blobs,
    })
}

#[test]
fn every_good_store_restores_to_what_is_expected_of_it() {
    let stores = golden::stores("good");
    assert!(stores.len() >= 8);
    for root in &stores {
        let expected: Expected = golden::expected(root);
        for mode in MODES {
            let store = open(root, mode).unwrap();
            let tags = store.tags().unwrap().into_iter();
            let tags = tags.map(|(name, id)| (name, id.to_string())).collect();
            let listing = store.list(None).unwrap();
            assert!(
                listing.damaged.is_empty(),
                "{root:?}: {:?}",
                listing.damaged
            );
            let mut checkpoints = Vec::new();
            for summary in &listing.checkpoints {
                // A store of its own, so that no pack is known before its hint is read.
                let store = open(root, mode).unwrap();
                checkpoints.push(restore(&store.checkpoint_by_id(&summary.id).unwrap()).unwrap());
            }
            assert_eq!(
                Expected { checkpoints, tags },
                expected,
                "{}",
                name_of(root)
            );
        }
    }
}

/// The stage at which reading the expected checkpoint fails, and how.
fn refused(
    root: &Path,
    expected: &ExpectedReject,
    mode: ReaderMode,
) -> Option<(&'static str, Error)> {
    let store = match open(root, mode) {
        Ok(store) => store,
        Err(error) => return Some(("open", error)),
    };
    let checkpoint = match store.checkpoint(&expected.checkpoint) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return Some(("checkpoint", error)),
    };
    restore(&checkpoint).err().map(|error| ("restore", error))
}

#[test]
fn every_bad_store_is_refused_for_its_one_reason() {
    let stores = golden::stores("must-reject");
    assert!(stores.len() >= 100);
    let mut wrong = Vec::new();
    for (root, mode) in stores
        .iter()
        .flat_map(|root| MODES.map(|mode| (root, mode)))
    {
        let expected: ExpectedReject = golden::expected(root);
        let refusal = refused(root, &expected, mode);
        let found = refusal
            .as_ref()
            .map(|(stage, error)| (*stage, error.kind().name(), error.code()));
        if found != Some((&expected.stage, &expected.kind, &expected.code)) {
            wrong.push(format!("{}: {refusal:?}", name_of(root)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every golden store is what a good one becomes when only the named part is bent: a sound
/// store made the same way is read.
#[test]
fn the_stores_that_are_bent_are_sound_before() {
    let folder = tempfile::tempdir().unwrap();
    let id = crate::make_golden::sound_store(folder.path());
    let store = open(folder.path(), ReaderMode::Auto).unwrap();
    restore(&store.checkpoint(&id).unwrap()).unwrap();
}

#[test]
fn the_good_stores_use_every_code_of_every_registry() {
    let mut seen: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    let mut deepest = 0;
    let stores = golden::stores("good").into_iter();
    // What a power cut left has packs that cannot be read.
    for root in stores.filter(|root| name_of(root) != "power-cut") {
        for (pack, entries) in packs::records(&root) {
            let file = root.join(format!("packs/{:02x}/{pack}.pack", pack.0[0]));
            let file = std::fs::read(file).unwrap();
            for entry in entries {
                let at = usize::try_from(entry.offset).unwrap();
                let record = &file[at..at + entry.stored_len as usize];
                let head = decode_head(record).unwrap();
                deepest = deepest.max(entry.depth);
                let mut see = |what, code| seen.entry(what).or_default().insert(code);
                see("predictor", head.predictor);
                see("transform", head.transform);
                see("layout", head.layout);
                see("lane width", head.lane_width);
                if matches!(head.layout, 3 | 4) {
                    see("grid lane width", head.lane_width);
                }
                head.streams.iter().for_each(|s| {
                    see("coder", s.coder);
                    let of_layout = [
                        "whole",
                        "planes",
                        "leading",
                        "grid",
                        "grid-delta",
                        "classes",
                        "sparse",
                        "palette",
                    ];
                    let of_layout = of_layout[usize::from(head.layout)];
                    see(of_layout, s.coder);
                });
            }
        }
    }
    assert!(deepest >= 3, "{deepest}");
    for grid in ["grid", "grid-delta"] {
        assert!(seen[grid].contains(&2), "{grid} with a coded plane");
    }
    let codes = |what: &str| seen[what].iter().copied().collect::<Vec<u8>>();
    assert_eq!(codes("predictor"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11]);
    assert_eq!(codes("transform"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(codes("layout"), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(codes("lane width"), [1, 2, 4, 8]);
    assert_eq!(codes("grid lane width"), [2, 4, 8]);
    assert!(seen["sparse"].contains(&2), "sparse with a coded stream");
    for what in ["coder", "whole", "planes"] {
        assert_eq!(codes(what), [0, 1, 2], "{what}");
    }
}

/// Version control drops empty folders: readers must not miss them, writers make them again.
#[test]
fn a_store_without_its_empty_folders_can_be_read_and_written() {
    let root = golden::root().join("good/smallest");
    for folder in ["txn", "trash", "cache", "tags"] {
        assert!(!root.join(folder).exists(), "{folder}");
    }
    let copy = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(root.join("."))
        .arg(copy.path())
        .status();
    assert!(status.unwrap().success());
    let store = open(copy.path(), ReaderMode::Auto).unwrap();
    assert_eq!(store.list(None).unwrap().checkpoints.len(), 2);
    assert!(store.tags().unwrap().is_empty());
    let weights: Vec<f32> = (0..16u8).map(f32::from).collect();
    let report = crate::support::store::save_floats(&store, 2, &[("w", &weights)]);
    assert_eq!(report.seq, 3);
    store.tag("new", &report.id).unwrap();
    restore(&store.checkpoint("new").unwrap()).unwrap();
}
