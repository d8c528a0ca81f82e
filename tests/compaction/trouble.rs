//! What stops a compaction, and leaves everything as it was.

use std::path::Path;

use milepost_engine::{CompactOptions, ErrorKind, Full, SaveOptions, Unobserved};

use super::{compact, eager, save_steps, state};
use crate::support::packs;
use crate::support::state::{assert_holds, save};
use crate::support::store::{TestStore, hold_lock};

#[expect(
    clippy::disallowed_methods,
    reason = "the test spoils a file of a store"
)]
fn put(path: &Path, bytes: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the test loses a pack")]
fn put_away(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_damaged_record_is_not_copied_and_stops_nothing_else() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..1);
    let options = SaveOptions {
        full: Full::SelfContained,
        ..SaveOptions::new("other").step(7)
    };
    save(&test.store, options, &state(7)).unwrap();
    save_steps(&test.store, "main", 1..4);
    let damaged = test.store.checkpoint("other").unwrap().manifest().packs[0].pack;
    let path = test
        .folder
        .path()
        .join("packs")
        .join(format!("{}/{damaged}.pack", &damaged.to_string()[..2]));
    let mut bytes = std::fs::read(&path).unwrap();
    // Each chunk is in this pack alone, or in others as well.
    for at in (40..bytes.len() / 2).step_by(97) {
        bytes[at] ^= 1;
    }
    put(&path, &bytes);
    let store = test.reopened();
    let report = compact(&store, &eager());
    assert_eq!(report.damaged_packs, [damaged]);
    assert!(path.exists() && report.new_packs == 1);
    for step in 0..4 {
        let checkpoint = test.reopened().checkpoint(&format!("main@step:{step}"));
        assert_holds(&checkpoint.unwrap(), &state(step));
    }
    let anew = CompactOptions {
        reencode: true,
        ..eager()
    };
    let error = store.compact(&anew, &Unobserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn nothing_is_moved_while_a_checkpoint_lacks_a_chunk_or_a_manifest_is_damaged() {
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..3);
    let manifests = packs::files_below(&test.folder.path().join("runs"));
    let manifest = test.folder.path().join("runs").join(&manifests[0]);
    let held = std::fs::read(&manifest).unwrap();
    put(&manifest, &held[..held.len() - 1]);
    let before = packs::pack_files(test.folder.path());
    let error = test.reopened().compact(&eager(), &Unobserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    put(&manifest, &held);
    put_away(&before[0]);
    let error = test.reopened().compact(&eager(), &Unobserved).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Corrupt, "unresolved")
    );
    assert_eq!(packs::pack_files(test.folder.path()), before[1..]);
}

#[test]
fn one_collector_or_compactor_at_a_time_and_cancelling_leaves_nothing() {
    struct Cancel;
    impl milepost_engine::Observer for Cancel {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let test = TestStore::new();
    save_steps(&test.store, "main", 0..3);
    let before = packs::files_below(&test.folder.path().join("packs"));
    let error = test.store.compact(&eager(), &Cancel).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(
        packs::files_below(&test.folder.path().join("packs")),
        before
    );
    let _held = hold_lock(&test.folder.path().join("txn/collector.lock"));
    let error = test.store.compact(&eager(), &Unobserved).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
}
