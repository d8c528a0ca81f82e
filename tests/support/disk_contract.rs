//! What the engine relies on from every disk: one suite for all implementations.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use milepost_engine::store::disk::{Disk, Entry, EntryKind, LockMode, Published, read_whole};
use milepost_engine::store::path::{self, Folder, StorePath};
use milepost_engine::{ErrorKind, Result};

/// Something that lies where a file should.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Oddity {
    /// A link to the file `file` beside it.
    Link,
    /// A link to the folder `folder` beside it.
    FolderLink,
    Fifo,
}

type Plant = dyn Fn(Oddity, &StorePath);

/// A disk under test.
pub(crate) struct Subject {
    pub(crate) disk: Arc<dyn Disk>,
    /// The same storage, as another process sees it.
    pub(crate) other: Arc<dyn Disk>,
    /// Puts something odd at a path.
    pub(crate) plant: Box<Plant>,
}

type Clause = (&'static str, fn(&Subject));

/// Every clause, by name.
pub(crate) const CLAUSES: &[Clause] = &[
    ("what was written comes back", bytes_come_back),
    ("large and odd writes come back", large_writes_come_back),
    ("reserved space is no content", reserved_space_is_no_content),
    ("an empty file is a file", an_empty_file_is_a_file),
    ("nobody sees a file without a name", unnamed_is_unseen),
    ("publish never replaces", publish_never_replaces),
    ("replace replaces", replace_replaces),
    ("an open file stays as it was", an_open_file_stays),
    (
        "a missing folder lists nothing",
        missing_folder_lists_nothing,
    ),
    ("a listing says what is what", listing_says_what_is_what),
    ("a missing file is not found", missing_file_is_not_found),
    ("oddities are errors", oddities_are_errors),
    ("a linked folder is none", a_linked_folder_is_none),
    ("a folder is no file", a_folder_is_no_file),
    ("reading past the end is corrupt", reading_past_the_end),
    ("a link is a second name", a_link_is_a_second_name),
    ("removing nothing is fine", removing_nothing_is_fine),
    ("folders are made once", folders_are_made_once),
    ("files and folders sync", files_and_folders_sync),
    ("locks exclude until dropped", locks_exclude_until_dropped),
    ("the boot id stays", the_boot_id_stays),
];

/// Holds a disk to the whole contract, on fresh storage for every clause.
pub(crate) fn hold(make: impl Fn() -> Subject) {
    for (name, clause) in CLAUSES {
        println!("clause: {name}");
        let subject = make();
        subject
            .disk
            .make_folder(&path::folder(Folder::Txn))
            .unwrap();
        subject
            .disk
            .make_folder(&path::folder(Folder::Tags))
            .unwrap();
        clause(&subject);
    }
}

fn tag(name: &str) -> StorePath {
    path::tag(name).unwrap()
}

fn publish(disk: &dyn Disk, path: &StorePath, pieces: &[&[u8]]) -> Result<Published> {
    let mut file = disk.create(5)?;
    for piece in pieces {
        file.write(piece)?;
    }
    file.sync()?;
    file.publish(path)
}

fn content(disk: &dyn Disk, path: &StorePath) -> Vec<u8> {
    read_whole(disk, path, u64::MAX).unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let mut rng = super::rng::Rng::new(len as u64);
    let words = (0..len.div_ceil(8)).flat_map(|_| rng.next().to_le_bytes());
    words.take(len).collect()
}

fn bytes_come_back(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[b"one", b"", b"two"]).unwrap();
    assert_eq!(content(&*s.disk, &tag("a")), b"onetwo");
    assert_eq!(content(&*s.other, &tag("a")), b"onetwo");
    let view = s.disk.open(&tag("a")).unwrap();
    assert_eq!(view.len(), 6);
    if let Some(mapped) = view.mapped() {
        assert_eq!(mapped, b"onetwo");
    }
    let uncached = s.other.open_uncached(&tag("a")).unwrap();
    assert!(uncached.mapped().is_none() && uncached.len() == 6);
    let mut all = [0; 6];
    uncached.read_at(0, &mut all).unwrap();
    assert_eq!(&all, b"onetwo");
    assert!(uncached.read_at(4, &mut [0; 3]).is_err());
    let mut part = [0; 3];
    view.read_at(2, &mut part).unwrap();
    assert_eq!(&part, b"etw");
}

fn large_writes_come_back(s: &Subject) {
    let block = 4 << 20;
    let lens: [&[usize]; 5] = [
        &[block],
        &[block - 1, 2],
        &[1, 2 * block, 4096],
        &[3 * block + 12_345],
        &[4095, block, 1, 511],
    ];
    for (number, lens) in lens.iter().enumerate() {
        let bytes = noise(lens.iter().sum());
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        for len in *lens {
            let (piece, after) = rest.split_at(*len);
            pieces.push(piece);
            rest = after;
        }
        let path = tag(&format!("large-{number}"));
        publish(&*s.disk, &path, &pieces).unwrap();
        assert!(content(&*s.disk, &path) == bytes, "lengths {lens:?}");
    }
}

fn reserved_space_is_no_content(s: &Subject) {
    let mut file = s.disk.create(5).unwrap();
    file.reserve(1 << 20).unwrap();
    file.write(b"short").unwrap();
    file.reserve(0).unwrap();
    file.sync().unwrap();
    file.publish(&tag("a")).unwrap();
    assert_eq!(content(&*s.disk, &tag("a")), b"short");
}

fn an_empty_file_is_a_file(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[]).unwrap();
    let view = s.disk.open(&tag("a")).unwrap();
    assert!(view.is_empty() && content(&*s.disk, &tag("a")).is_empty());
}

fn unnamed_is_unseen(s: &Subject) {
    let mut file = s.disk.create(5).unwrap();
    file.write(b"x").unwrap();
    file.sync().unwrap();
    drop(file);
    assert!(
        s.other
            .list(&path::folder(Folder::Tags))
            .unwrap()
            .is_empty()
    );
    let left = s.other.list(&path::folder(Folder::Txn)).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

fn publish_never_replaces(s: &Subject) {
    assert_eq!(
        publish(&*s.disk, &tag("a"), &[b"old"]).unwrap(),
        Published::New
    );
    assert_eq!(
        publish(&*s.other, &tag("a"), &[b"new"]).unwrap(),
        Published::Exists
    );
    assert_eq!(content(&*s.disk, &tag("a")), b"old");
}

fn replace_replaces(s: &Subject) {
    for bytes in [b"old", b"new"] {
        let mut file = s.disk.create(5).unwrap();
        file.write(bytes).unwrap();
        file.sync().unwrap();
        file.replace(&tag("a")).unwrap();
        assert_eq!(content(&*s.other, &tag("a")), bytes);
    }
    let left = s.disk.list(&path::folder(Folder::Txn)).unwrap();
    assert!(left.is_empty(), "{left:?}");
}

fn an_open_file_stays(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[b"old"]).unwrap();
    let view = s.disk.open(&tag("a")).unwrap();
    let mut file = s.other.create(6).unwrap();
    file.write(b"other").unwrap();
    file.replace(&tag("a")).unwrap();
    s.other.remove(&tag("a")).unwrap();
    let mut bytes = [0; 3];
    view.read_at(0, &mut bytes).unwrap();
    assert_eq!((&bytes, view.len()), (b"old", 3));
}

fn missing_folder_lists_nothing(s: &Subject) {
    assert!(
        s.disk
            .list(&path::folder(Folder::Trash))
            .unwrap()
            .is_empty()
    );
    assert!(s.disk.list(&path::pack_folder(7)).unwrap().is_empty());
}

fn listing_says_what_is_what(s: &Subject) {
    publish(&*s.disk, &tag("file"), &[b"x"]).unwrap();
    s.disk.make_folder(&tag("folder")).unwrap();
    (s.plant)(Oddity::Link, &tag("link"));
    (s.plant)(Oddity::Fifo, &tag("fifo"));
    let mut listed = s.other.list(&path::folder(Folder::Tags)).unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    let expected = [
        ("fifo", EntryKind::Other),
        ("file", EntryKind::File),
        ("folder", EntryKind::Folder),
        ("link", EntryKind::Other),
    ];
    let expected = expected.map(|(name, kind)| Entry {
        name: name.to_owned(),
        kind,
    });
    assert_eq!(listed, expected);
}

fn missing_file_is_not_found(s: &Subject) {
    let error = s.disk.open(&tag("a")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = s
        .disk
        .open(&path::manifest("main", 1, &milepost_engine::CheckpointId([0; 32])).unwrap());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(s.disk.sync(&tag("a")).is_err());
}

/// Opening must end at once: a FIFO that blocks would hang every reader of the store.
fn oddities_are_errors(s: &Subject) {
    publish(&*s.disk, &tag("file"), &[b"x"]).unwrap();
    for (oddity, name) in [(Oddity::Link, "link"), (Oddity::Fifo, "fifo")] {
        (s.plant)(oddity, &tag(name));
        let (disk, (done, opened)) = (Arc::clone(&s.disk), mpsc::channel());
        let path = tag(name);
        std::thread::spawn(move || done.send(disk.open(&path).map(|view| view.len())));
        let opened = opened.recv_timeout(Duration::from_secs(10));
        let error = opened.expect("opening must not block").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{oddity:?}: {error}");
    }
}

/// A link must not lead elsewhere from the middle of a path either.
fn a_linked_folder_is_none(s: &Subject) {
    let file = |run| path::manifest(run, 1, &milepost_engine::CheckpointId([7; 32])).unwrap();
    let (real, linked) = (
        path::run_folder("folder"),
        path::run_folder("linked").unwrap(),
    );
    s.disk.make_folder(&path::folder(Folder::Runs)).unwrap();
    s.disk.make_folder(&real.unwrap()).unwrap();
    publish(&*s.disk, &file("folder"), &[b"x"]).unwrap();
    (s.plant)(Oddity::FolderLink, &linked);
    assert!(s.disk.open(&file("linked")).is_err());
    assert!(s.disk.list(&linked).is_err());
}

fn a_folder_is_no_file(s: &Subject) {
    let error = s.disk.open(&path::folder(Folder::Tags)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    publish(&*s.disk, &tag("a"), &[b"x"]).unwrap();
    assert!(s.disk.list(&tag("a")).is_err());
}

fn reading_past_the_end(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[b"abc"]).unwrap();
    let view = s.disk.open(&tag("a")).unwrap();
    for offset in [1, 3, 4, 1 << 40] {
        let error = view.read_at(offset, &mut [0; 3]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset}: {error}");
    }
}

fn a_link_is_a_second_name(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[b"abc"]).unwrap();
    assert_eq!(s.disk.link(&tag("a"), &tag("b")).unwrap(), Published::New);
    publish(&*s.disk, &tag("c"), &[b"x"]).unwrap();
    assert_eq!(
        s.disk.link(&tag("c"), &tag("b")).unwrap(),
        Published::Exists
    );
    s.other.remove(&tag("a")).unwrap();
    assert_eq!(content(&*s.other, &tag("b")), b"abc");
    let missing = s.disk.link(&tag("a"), &tag("d")).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

fn removing_nothing_is_fine(s: &Subject) {
    s.disk.remove(&tag("a")).unwrap();
    s.disk
        .remove(&path::pack(&milepost_engine::PackId([3; 32])))
        .unwrap();
    publish(&*s.disk, &tag("a"), &[b"x"]).unwrap();
    s.other.remove(&tag("a")).unwrap();
    assert!(s.disk.list(&path::folder(Folder::Tags)).unwrap().is_empty());
    assert!(s.disk.remove(&path::folder(Folder::Tags)).is_err());
}

fn folders_are_made_once(s: &Subject) {
    let packs = path::folder(Folder::Packs);
    assert!(s.disk.make_folder(&path::pack_folder(1)).is_err());
    for _ in 0..2 {
        s.disk.make_folder(&packs).unwrap();
        s.disk.make_folder(&path::pack_folder(1)).unwrap();
    }
    assert_eq!(s.disk.list(&packs).unwrap().len(), 1);
}

fn files_and_folders_sync(s: &Subject) {
    publish(&*s.disk, &tag("a"), &[b"x"]).unwrap();
    for path in [path::root(), path::folder(Folder::Tags), tag("a")] {
        s.disk.sync(&path).unwrap();
    }
}

fn locks_exclude_until_dropped(s: &Subject) {
    let gate = path::gate();
    let take = |disk: &Arc<dyn Disk>, mode| disk.lock(&gate, mode).unwrap();
    let shared = take(&s.disk, LockMode::Shared).unwrap();
    let also_shared = take(&s.other, LockMode::Shared).unwrap();
    assert!(take(&s.other, LockMode::Exclusive).is_none());
    drop((shared, also_shared));
    let alone = take(&s.other, LockMode::Exclusive).unwrap();
    assert!(take(&s.disk, LockMode::Shared).is_none());
    assert!(take(&s.disk, LockMode::Exclusive).is_none());
    // Another file's lock is another lock, even within one process.
    assert!(
        s.other
            .lock(&path::intent(1), LockMode::Exclusive)
            .unwrap()
            .is_some()
    );
    drop(alone);
    assert!(take(&s.disk, LockMode::Exclusive).is_some());
}

fn the_boot_id_stays(s: &Subject) {
    assert_eq!(s.disk.boot_id(), s.other.boot_id());
    assert_ne!(s.disk.boot_id(), [0; 16]);
}
