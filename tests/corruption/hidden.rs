//! What lies where folders of a store should be: it hides no checkpoint from who removes, and
//! leads nobody out who writes.
#![expect(
    clippy::disallowed_methods,
    reason = "plants links behind the store's back"
)]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use milepost_engine::{
    CompactOptions, ErrorKind, Forget, GcOptions, ReaderMode, SaveOptions, Store, Unobserved,
    VerifyOptions,
};

use crate::corruption::fixture::Fixture;
use crate::support::packs::files_below;

/// Every removal says what is in its way and removes nothing; `verify` names it.
fn assert_nothing_is_removed(fixture: &Fixture, why: &str) {
    let before = files_below(fixture.folder.path());
    let store = fixture.open(ReaderMode::Mmap).unwrap();
    let forget = Forget {
        revisions: vec!["trial".into()],
        ..Forget::default()
    };
    let dry = GcOptions {
        dry_run: true,
        ..GcOptions::default()
    };
    let refusals = [
        store.gc(&GcOptions::default(), &Unobserved).err(),
        store.gc(&dry, &Unobserved).err(),
        store.compact(&CompactOptions::default(), &Unobserved).err(),
        store.plan_forget(&forget, &Unobserved).err(),
    ];
    for error in refusals {
        let error = error.unwrap_or_else(|| panic!("{why}: something was removed"));
        assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "place"));
        assert!(error.advice().unwrap().contains("nothing was removed"));
    }
    let packs = |files: &[PathBuf]| files.iter().filter(|f| f.starts_with("packs")).count();
    let after = files_below(fixture.folder.path());
    assert_eq!(packs(&after), packs(&before), "{why}");
    let report = store
        .verify(&VerifyOptions::default(), &Unobserved)
        .unwrap();
    let named = report.problems.iter().any(|p| p.error.code() == "place");
    assert!(named, "{why}: {:?}", report.problems);
}

/// A run that is reached by a link, or that somebody gave another name, is no run to readers; a
/// collection once took its packs for what nobody needs.
#[test]
fn what_may_hide_checkpoints_stops_every_removal() {
    let fixture = Fixture::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let away = elsewhere.path().join("away");
    let run = fixture.path(Path::new("runs/main"));
    let manifest = fixture.files.iter().find(|f| f.starts_with("runs/main"));
    let manifest = fixture.path(manifest.unwrap());
    for path in [&run, &manifest] {
        std::fs::rename(path, &away).unwrap();
        symlink(&away, path).unwrap();
        assert_nothing_is_removed(&fixture, "a link");
        std::fs::remove_file(path).unwrap();
        std::fs::rename(&away, path).unwrap();
    }
    for name in [&b"main of last week"[..], b"main\xff"] {
        let renamed = run.with_file_name(OsStr::from_bytes(name));
        std::fs::rename(&run, &renamed).unwrap();
        assert_nothing_is_removed(&fixture, "another name");
        std::fs::rename(&renamed, &run).unwrap();
    }
    let store = fixture.open(ReaderMode::Mmap).unwrap();
    store.gc(&GcOptions::default(), &Unobserved).unwrap();
    assert_eq!(fixture.read_all(ReaderMode::Mmap).refused, 0);
}

/// Works on a store in every way that changes it; what it says does not matter here.
fn write_in_every_way(store: &Store) {
    if let Ok(mut draft) = store.draft(SaveOptions::new("main").step(9)) {
        draft.blob("new", &[7; 5000]).unwrap();
        let _ = draft.commit();
    }
    let _ = store.fork("main~1", "other");
    if let Ok(checkpoint) = store.checkpoint("latest") {
        let _ = store.tag("best", &checkpoint.id());
    }
    let _ = store.untag("best");
    let named = Forget {
        revisions: vec!["latest".into()],
        ..Forget::default()
    };
    if let Ok(plan) = store.plan_forget(&named, &Unobserved) {
        let _ = store.forget(&plan, &Unobserved);
    }
    let _ = store.gc(&GcOptions::default(), &Unobserved);
    let merge = CompactOptions {
        small_pack_len: u64::MAX,
        ..CompactOptions::default()
    };
    let _ = store.compact(&merge, &Unobserved);
}

/// A tag was once written over a file of a stranger: `tags` was a link.
#[test]
fn no_writer_is_led_out_of_a_store() {
    let names = Fixture::new();
    let mut folders: Vec<PathBuf> = names
        .files
        .iter()
        .flat_map(|f| f.ancestors().skip(1))
        .map(Path::to_owned)
        .collect();
    folders.extend(["txn", "trash", "cache", "tags"].map(PathBuf::from));
    folders.sort();
    folders.dedup();
    for folder in folders.iter().filter(|f| !f.as_os_str().is_empty()) {
        let fixture = Fixture::new();
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().join("target");
        let path = fixture.path(folder);
        if path.exists() {
            std::fs::rename(&path, &target).unwrap();
        } else {
            std::fs::create_dir(&target).unwrap();
        }
        std::fs::write(target.join("best"), b"of a stranger").unwrap();
        symlink(&target, &path).unwrap();
        let picture = || {
            let files = files_below(outside.path()).into_iter();
            let read = |f: PathBuf| (std::fs::read(outside.path().join(&f)).unwrap(), f);
            files.map(read).collect::<Vec<_>>()
        };
        let before = picture();
        if let Ok(store) = fixture.open(ReaderMode::Mmap) {
            write_in_every_way(&store);
        }
        assert_eq!(picture(), before, "{folder:?} is a link");
    }
}
