//! The right bytes in the wrong place, and things that are no files where files should be.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use milepost_engine::{ErrorKind, ReaderMode, SaveOptions};

use crate::corruption::fixture::{Fixture, Outcome};

const READERS: [ReaderMode; 2] = [ReaderMode::Mmap, ReaderMode::Pread];
/// Far longer than any case takes; only a hang lasts so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the store in a thread that is waited for only so long.
fn read_in_time(fixture: Fixture, what: String) -> (Fixture, Outcome) {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let outcomes = READERS.map(|reader| fixture.read_all(reader));
        assert_eq!(outcomes[0], outcomes[1], "both readers say the same");
        sender.send((fixture, outcomes[0])).unwrap();
    });
    receiver
        .recv_timeout(PATIENCE)
        .map_err(|error| format!("{what}: {error}, from a hang or a panic"))
        .unwrap()
}

/// Does `replace` to every file in turn, reads, and puts the file back.
fn replace_each(replace: impl Fn(&Path, &Path)) -> usize {
    let mut fixture = Fixture::new();
    let outside = tempfile::tempdir().unwrap();
    let files = fixture.files.clone();
    for file in &files {
        let good = fixture.read(file);
        fixture.clear(file);
        replace(&fixture.path(file), outside.path());
        let (back, outcome) = read_in_time(fixture, format!("{file:?}"));
        fixture = back;
        assert!(outcome.refused > 0, "{file:?}");
        fixture.write(file, &good);
    }
    let (_, outcome) = read_in_time(fixture, "the store put back".into());
    assert_eq!(outcome.refused, 0);
    files.len()
}

#[test]
fn a_missing_file_is_refused() {
    assert!(replace_each(|_, _| ()) > 8);
}

#[test]
fn an_empty_file_is_refused() {
    #[expect(clippy::disallowed_methods, reason = "plants what no store makes")]
    replace_each(|path, _| std::fs::write(path, b"").unwrap());
}

#[test]
fn a_folder_in_a_files_place_is_refused() {
    #[expect(clippy::disallowed_methods, reason = "plants what no store makes")]
    replace_each(|path, _| std::fs::create_dir(path).unwrap());
}

#[test]
fn a_fifo_in_a_files_place_is_refused_and_never_waited_for() {
    replace_each(|path, _| {
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    });
}

/// Even a link to the very same bytes: a store must not lead out of itself.
#[test]
fn a_link_in_a_files_place_is_refused() {
    let source = Fixture::new();
    let root = source.folder.path().to_path_buf();
    replace_each(|path, outside| {
        let target = outside.join("target");
        let same = source.files.iter().find(|f| path.ends_with(f)).unwrap();
        if !target.exists() {
            symlink(&root, &target).unwrap();
        }
        symlink(root.join(same), path).unwrap();
    });
    replace_each(|path, _| symlink(path, path).unwrap());
    replace_each(|path, _| symlink("/nowhere", path).unwrap());
}

/// Every file under the name of every other: the name says which bytes belong there.
#[test]
fn swapped_files_are_refused() {
    let fixture = Fixture::new();
    let mut cases = 0;
    for (a, b) in pairs(&fixture.files) {
        let (good_a, good_b) = (fixture.read(&a), fixture.read(&b));
        if good_a == good_b {
            continue;
        }
        fixture.write(&a, &good_b);
        fixture.write(&b, &good_a);
        for reader in READERS {
            assert!(fixture.read_all(reader).refused > 0, "{a:?} and {b:?}");
            cases += 1;
        }
        fixture.write(&a, &good_a);
        fixture.write(&b, &good_b);
    }
    println!("swapped pairs: {cases} cases");
    assert_eq!(fixture.read_all(ReaderMode::Mmap).refused, 0);
}

fn pairs(files: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let with_later = |(i, a): (usize, &PathBuf)| {
        let a = a.clone();
        files[i + 1..].iter().map(move |b| (a.clone(), b.clone()))
    };
    files.iter().enumerate().flat_map(with_later).collect()
}

/// Names that are none of the store's: they are passed over, and what is there stays right.
#[test]
fn foreign_names_are_passed_over() {
    let fixture = Fixture::new();
    for name in [
        "README",
        "packs/zz",
        "packs/00/notes.txt",
        "packs/00/00.pack",
        "runs/Main",
        "runs/main/1-ab.ckpt",
        "runs/main/latest",
        "tags/.hidden",
        "cache/indexes-zz.cache",
        "txn/foreign",
    ] {
        let path = fixture.path(Path::new(name));
        #[expect(clippy::disallowed_methods, reason = "plants what no store makes")]
        let made = std::fs::create_dir_all(path.parent().unwrap());
        made.unwrap();
        fixture.write(Path::new(name), b"foreign");
        assert_eq!(fixture.read_all(ReaderMode::Mmap).refused, 0, "{name}");
    }
    let store = fixture.open(ReaderMode::Mmap).unwrap();
    let draft = store.draft(SaveOptions::new("main")).unwrap();
    assert_eq!(draft.commit().unwrap().seq, 4);
}

#[test]
fn a_file_among_the_runs_is_no_run() {
    let fixture = Fixture::new();
    #[expect(clippy::disallowed_methods, reason = "plants what no store makes")]
    std::fs::write(fixture.path(Path::new("runs/notes")), b"of a person").unwrap();
    for reader in READERS {
        let store = fixture.open(reader).unwrap();
        let error = store.checkpoint("notes").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let newest = store.checkpoint("latest").unwrap().id();
        store.tag("notes", &newest).unwrap();
        assert_eq!(store.checkpoint("notes").unwrap().id(), newest);
        store.untag("notes").unwrap();
    }
}
