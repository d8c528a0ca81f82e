//! Manifests, tags and FORMAT files whose checksums are right and whose content lies.

use milepost_engine::format::body::{Body, TensorEntry};
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::format::placement::Placement;
use milepost_engine::format::section::{self, Section};
use milepost_engine::format::store_file::StoreSettings;
use milepost_engine::{Dtype, Error, ErrorKind, SaveOptions, Store, StoreOptions, codec, hash};

use crate::support::hostile::{HostileStore, blob_of, body_of, chunk, placement, raw, sealed};

fn assert_error(error: &Error, kind: ErrorKind, code: &str) {
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
}

/// The error of opening a checkpoint whose body's bytes are changed.
fn changed(body: &Body, change: impl Fn(&mut Vec<u8>)) -> Error {
    let mut bytes = body.encode().unwrap();
    change(&mut bytes);
    HostileStore::new().body_error(&bytes)
}

/// Where a good body of one tensor `w` keeps what: parent flag, step, metadata, metrics,
/// tensors, name, dtype, rank, dimension, chunk elements.
const METADATA_COUNT: usize = 9;
const TENSOR_COUNT: usize = 17;
const NAME: usize = 23;
const DTYPE: usize = 24;
const RANK: usize = 25;
const DIMENSION: usize = 26;
const CHUNK_ELEMENTS: usize = 34;

#[test]
fn bodies_that_break_a_rule_are_refused() {
    let good = body_of(64, 64, vec![chunk(1)]);
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, ErrorKind, &str); 12] = [
        (|b| b[0] = 2, ErrorKind::Corrupt, "body-parent"),
        (
            |b| b[METADATA_COUNT..][..4].fill(0xff),
            ErrorKind::Limit,
            "count",
        ),
        (|b| b[METADATA_COUNT + 1] = 9, ErrorKind::Corrupt, "count"),
        (
            |b| b[TENSOR_COUNT..][..4].fill(0xff),
            ErrorKind::Limit,
            "count",
        ),
        (|b| b[NAME] = 7, ErrorKind::Corrupt, "key"),
        (|b| b[NAME] = 0xff, ErrorKind::Corrupt, "key"),
        (|b| b[DTYPE] = 250, ErrorKind::Unsupported, "dtype-code"),
        (|b| b[RANK] = 33, ErrorKind::Limit, "rank"),
        (
            |b| b[DIMENSION..][..7].fill(0xff),
            ErrorKind::Limit,
            "chunk-refs",
        ),
        (
            |b| b[CHUNK_ELEMENTS..][..8].fill(0),
            ErrorKind::Corrupt,
            "chunk-size",
        ),
        (
            |b| b[CHUNK_ELEMENTS..][..8].fill(0xff),
            ErrorKind::Corrupt,
            "chunk-size",
        ),
        (|b| b.push(0), ErrorKind::Corrupt, "chunk-ids"),
    ];
    for (change, kind, code) in changes {
        assert_error(&changed(&good, change), kind, code);
    }
    let too_few = body_of(128, 64, vec![chunk(1)]).encode().unwrap();
    assert_error(
        &HostileStore::new().body_error(&too_few),
        ErrorKind::Corrupt,
        "chunk-ids",
    );
    let endless = blob_of(u64::MAX, 0, vec![]);
    let mut bytes = blob_of(64, 64, vec![chunk(1)]).encode().unwrap();
    let at = bytes.len() - 40;
    bytes[at..at + 8].copy_from_slice(&endless.blobs[0].chunk_len.to_le_bytes());
    assert_error(
        &HostileStore::new().body_error(&bytes),
        ErrorKind::Corrupt,
        "chunk-size",
    );
}

#[test]
fn names_out_of_order_or_twice_are_refused() {
    let named = |name: &str| TensorEntry {
        name: name.into(),
        dtype: Dtype::U8,
        shape: vec![0],
        chunk_elements: 64,
        byte_len: 0,
        chunks: vec![],
    };
    for names in [["b", "a"], ["a", "a"]] {
        let body = Body {
            tensors: names.map(named).to_vec(),
            ..Body::default()
        };
        let error = HostileStore::new().body_error(&body.encode().unwrap());
        assert_error(&error, ErrorKind::Corrupt, "name-order");
    }
}

#[test]
fn a_size_that_overflows_is_refused() {
    let mut body = body_of(64, 64, vec![chunk(1)]);
    body.tensors[0].shape = vec![1 << 40, 1 << 40];
    let error = HostileStore::new().body_error(&body.encode().unwrap());
    assert_error(&error, ErrorKind::Corrupt, "tensor-size");
    body.tensors[0].dtype = Dtype::F4;
    body.tensors[0].shape = vec![3];
    let error = HostileStore::new().body_error(&body.encode().unwrap());
    assert_error(&error, ErrorKind::Corrupt, "tensor-size");
}

/// The error of opening a checkpoint of these sections.
fn sections_error(body: &[u8], sections: &mut [Section<'_>]) -> Error {
    let planted = HostileStore::new();
    let id = planted.plant_sections(body, sections);
    planted.open().checkpoint_by_id(&id).unwrap_err()
}

#[test]
fn sections_that_break_a_rule_are_refused() {
    let body = Body::default().encode().unwrap();
    let place = placement().encode().unwrap();
    let with = |third: Section<'_>| {
        let (b, p) = (raw(section::BODY, &body), raw(section::PLACEMENT, &place));
        sections_error(&body, &mut [b, p, third])
    };
    assert_error(&with(raw(77, b"x")), ErrorKind::Unsupported, "section-kind");
    assert_error(
        &with(raw(section::BODY, &body)),
        ErrorKind::Corrupt,
        "section-order",
    );
    assert_error(
        &with(raw(section::PACKS, b"\xff\xff\xff\xff")),
        ErrorKind::Limit,
        "count",
    );
    assert_error(
        &with(raw(section::STATISTICS, b"\x09\0\0\0")),
        ErrorKind::Corrupt,
        "count",
    );
    let mut packs = raw(section::PACKS, b"1234");
    packs.coder = 9;
    assert_error(&with(packs), ErrorKind::Corrupt, "section-coder");
    packs.coder = section::CODER_RAW;
    packs.raw_len = 5;
    assert_error(&with(packs), ErrorKind::Corrupt, "section-length");
    let bomb = codec::compress_section(&vec![0; 1 << 20]).unwrap();
    let mut packs = raw(section::PACKS, &bomb);
    packs.coder = section::CODER_ZSTD;
    assert_error(&with(packs), ErrorKind::Corrupt, "zstd-frame");
    packs.raw_len = 512 << 20;
    assert_error(&with(packs), ErrorKind::Corrupt, "section-length");
    let alone = sections_error(&body, &mut [raw(section::BODY, &body)]);
    assert_error(&alone, ErrorKind::Corrupt, "section-missing");
}

#[test]
fn a_manifest_in_anothers_place_is_refused() {
    let body = Body::default().encode().unwrap();
    let in_place = |change: &dyn Fn(&mut Placement)| {
        let mut place = placement();
        change(&mut place);
        place.encode().unwrap()
    };
    let refused = |place: Vec<u8>| {
        let place = raw(section::PLACEMENT, &place);
        sections_error(&body, &mut [raw(section::BODY, &body), place])
    };
    let run = refused(in_place(&|p| p.run = "other".into()));
    assert_error(&run, ErrorKind::Corrupt, "manifest-place");
    let seq = refused(in_place(&|p| p.seq = 2));
    assert_error(&seq, ErrorKind::Corrupt, "manifest-place");
    let mut outside = in_place(&|p| p.run = "aa/bb".replace('/', "."));
    outside[2..7].copy_from_slice(b"../bb");
    assert_error(&refused(outside), ErrorKind::Corrupt, "run-name");
    let mut durability = in_place(&|_| ());
    let at = durability.len() - 17;
    durability[at] = 9;
    assert_error(&refused(durability), ErrorKind::Corrupt, "placement");
    // A body that is not what its name says.
    let planted = HostileStore::new();
    let id = planted.plant_body(&body, &[]);
    let root = planted.root().join("runs/main");
    let other = Body {
        step: 9,
        ..Body::default()
    };
    let other_id = planted.plant_body(&other.encode().unwrap(), &[]);
    let name = |id| format!("{:020}-{id}.ckpt", 1);
    let bytes = std::fs::read(root.join(name(other_id))).unwrap();
    planted.plant(&format!("runs/main/{}", name(id)), &bytes);
    let error = planted.open().checkpoint_by_id(&id).unwrap_err();
    assert_error(&error, ErrorKind::Corrupt, "manifest-id");
}

#[test]
fn tags_that_lie_are_refused() {
    let planted = HostileStore::new();
    let error_of = |bytes: &[u8]| {
        planted.plant("tags/best", bytes);
        planted.open().checkpoint("best").unwrap_err()
    };
    let dangling = error_of(&sealed(FileKind::Tag, &[9; 32]));
    assert_error(&dangling, ErrorKind::NotFound, "revision");
    assert_error(
        &error_of(&sealed(FileKind::Tag, &[9; 31])),
        ErrorKind::Corrupt,
        "truncated",
    );
    assert_error(
        &error_of(&sealed(FileKind::Pack, &[9; 32])),
        ErrorKind::Corrupt,
        "file-kind",
    );
    assert_error(
        &error_of(&vec![0; 1 << 20]),
        ErrorKind::Limit,
        "file-length",
    );
}

/// The error of opening a store whose FORMAT file is changed and sealed anew.
fn format_error(change: impl Fn(&mut Vec<u8>)) -> Result<Store, Error> {
    let planted = HostileStore::new();
    let mut file = StoreSettings::default().encode().unwrap();
    file.truncate(file.len() - 4);
    change(&mut file);
    for end in [28, file.len()] {
        let crc = hash::crc32(&file[..end]).to_le_bytes();
        if end == 28 {
            file[28..envelope::ENVELOPE_LEN].copy_from_slice(&crc);
        } else {
            file.extend(crc);
        }
    }
    planted.plant("FORMAT", &file);
    let store = Store::open(planted.root(), StoreOptions::default())?;
    let draft = store.draft(SaveOptions::new("main"))?;
    draft.commit().map(|_| store)
}

#[test]
fn format_files_that_lie_are_refused() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(Change, ErrorKind, &str); 9] = [
        (|f| f[12] = 2, ErrorKind::Unsupported, "format-version"),
        (|f| f[16] = 1, ErrorKind::Unsupported, "format-version"),
        (|f| f[20] = 1, ErrorKind::Unsupported, "writer-flags"),
        (|f| f[24] = 1, ErrorKind::Corrupt, "reserved"),
        (|f| f[48..52].fill(0), ErrorKind::Corrupt, "setting"),
        (|f| f[52..56].fill(0xff), ErrorKind::Corrupt, "setting"),
        (|f| f[61] = 9, ErrorKind::Corrupt, "format-field"),
        (|f| f[62] = 1, ErrorKind::Corrupt, "format-field"),
        (|f| f[64..68].fill(0xff), ErrorKind::Limit, "count"),
    ];
    for (change, kind, code) in changes {
        assert_error(&format_error(change).unwrap_err(), kind, code);
    }
    format_error(|_| ()).unwrap();
    format_error(|f| f[14] = 9).unwrap();
}
