//! Packs whose checksums and hashes are right and whose content lies: each lie has its error.

use milepost_engine::format::pack::{self, IndexEntry};
use milepost_engine::{Error, ErrorKind, Selection, Unobserved, codec};

use crate::support::hostile::{Codes, HostileStore, Record, body_of, chunk, entries_of, pack_of};

fn assert_error(error: &Error, kind: ErrorKind, code: &str) {
    assert_eq!((error.kind(), error.code()), (kind, code), "{error}");
}

/// The error of reading one record of 64 bytes.
fn record_error(codes: &Codes) -> Error {
    HostileStore::new().error_of(&[codes.record(1, 0, &[])], 1, 64)
}

/// The error of opening a pack of one good record whose entry is changed.
fn entry_error(change: impl Fn(&mut IndexEntry)) -> Error {
    let planted = HostileStore::new();
    let (body, mut entries) = entries_of(&[Codes::zeros(64).record(1, 0, &[])]);
    change(&mut entries[0]);
    let (index, _) = pack::encode_index(&mut entries).unwrap();
    let hint = planted.plant_pack(&pack_of(&body, &index));
    planted.read_error(&[hint], 1, 64)
}

#[test]
fn a_planted_record_is_read_at_all() {
    let planted = HostileStore::new();
    let base = Codes {
        streams: vec![(0, (0..64).collect())],
        ..Codes::zeros(64)
    };
    let delta = Codes::same_as_input(64);
    let hint = planted.plant_records(&[base.record(1, 0, &[]), delta.record(2, 1, &[1])]);
    let body = body_of(64, 64, vec![chunk(2)]).encode().unwrap();
    let id = planted.plant_body(&body, &[hint]);
    let checkpoint = planted.open().checkpoint_by_id(&id).unwrap();
    assert_eq!(
        checkpoint.tensor("w").unwrap(),
        (0..64).collect::<Vec<u8>>()
    );
    // The ids here are no hashes: whoever asks for the check is told.
    let (_, plan) = checkpoint.plan(&Selection::all()).unwrap();
    let checked = checkpoint.restore_to(&plan, &|_, _, _| Ok(()), true, &Unobserved);
    assert_error(&checked.unwrap_err(), ErrorKind::Corrupt, "chunk-hash");
}

#[test]
fn inputs_that_lead_nowhere_or_in_circles_are_refused() {
    let delta = Codes::same_as_input(64);
    let circle = [delta.record(1, 1, &[2]), delta.record(2, 1, &[1])];
    let error = HostileStore::new().error_of(&circle, 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "input-depth");
    let upwards = [delta.record(1, 1, &[2]), delta.record(2, 2, &[3])];
    let error = HostileStore::new().error_of(&upwards, 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "input-depth");
    let error = HostileStore::new().error_of(&[delta.record(1, 1, &[9])], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "chunk-missing");
    assert!(error.about().unwrap().contains(&chunk(9).to_string()));
    let error = HostileStore::new().error_of(&[delta.record(1, 1, &[1])], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "index-entry");
    let pair = [
        delta.record(1, 1, &[2]),
        Codes::zeros(128).record(2, 0, &[]),
    ];
    let error = HostileStore::new().error_of(&pair, 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "record-rule");
}

#[test]
fn the_deepest_chain_is_read_without_recursion() {
    let delta = Codes::same_as_input(64);
    let mut records: Vec<Record> = vec![Codes::zeros(64).record(0, 0, &[])];
    records.extend((1..=255).map(|depth| delta.record(depth, depth, &[depth - 1])));
    let planted = HostileStore::new();
    let hint = planted.plant_records(&records);
    let body = body_of(64, 64, vec![chunk(255)]).encode().unwrap();
    let id = planted.plant_body(&body, &[hint]);
    let checkpoint = planted.open().checkpoint_by_id(&id).unwrap();
    assert_eq!(checkpoint.tensor("w").unwrap(), [0; 64]);
}

#[test]
fn lengths_that_lie_are_refused() {
    let short = Codes {
        raw_len: 32,
        ..Codes::zeros(64)
    };
    let lying = Record {
        raw_len: 64,
        ..short.record(1, 0, &[])
    };
    let error = HostileStore::new().error_of(&[lying], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "record-rule");
    let error = HostileStore::new().error_of(&[Codes::zeros(32).record(1, 0, &[])], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "chunk-length");
    let huge = Codes {
        raw_len: u32::MAX,
        ..Codes::zeros(64)
    };
    let huge = Record {
        raw_len: 64,
        ..huge.record(1, 0, &[])
    };
    let error = HostileStore::new().error_of(&[huge], 1, 64);
    assert_error(&error, ErrorKind::Limit, "record-limits");
    let mut open_end = Codes::zeros(64).record(1, 0, &[]);
    open_end.bytes.push(0);
    let error = HostileStore::new().error_of(&[open_end], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "record-length");
}

#[test]
fn streams_that_do_not_fit_are_refused() {
    let with = |coder, stored: &[u8]| Codes {
        streams: vec![(coder, stored.to_vec())],
        ..Codes::zeros(64)
    };
    let bomb = codec::compress_section(&vec![0; 1 << 20]).unwrap();
    let cases = [
        (with(2, &bomb), "zstd-frame"),
        (with(2, b"no frame"), "zstd-frame"),
        (with(2, &[]), "zstd-frame"),
        (with(0, &[1; 63]), "raw-stream"),
        (with(1, &[]), "constant-pattern"),
        (with(1, &[1; 3]), "constant-pattern"),
        (with(1, &[1; 32]), "constant-pattern"),
    ];
    for (codes, code) in cases {
        assert_error(&record_error(&codes), ErrorKind::Corrupt, code);
    }
    for streams in [vec![], vec![(1, vec![0]); 2]] {
        let codes = Codes {
            streams,
            ..Codes::zeros(64)
        };
        assert_error(&record_error(&codes), ErrorKind::Corrupt, "record-streams");
    }
    let planes = Codes {
        layout: 1,
        lane_width: 4,
        streams: vec![(1, vec![0]); 3],
        ..Codes::zeros(64)
    };
    assert_error(&record_error(&planes), ErrorKind::Corrupt, "record-streams");
}

#[test]
fn codes_that_are_unknown_or_do_not_go_together_are_refused() {
    let zeros = Codes::zeros(64);
    let changed = |change: fn(&mut Codes)| {
        let mut codes = zeros.clone();
        change(&mut codes);
        record_error(&codes)
    };
    for (error, code) in [
        (changed(|c| c.predictor = 200), "encoding"),
        (changed(|c| c.transform = 200), "encoding"),
        (changed(|c| c.layout = 200), "encoding"),
        (changed(|c| c.streams[0].0 = 15), "coder"),
    ] {
        assert_error(&error, ErrorKind::Unsupported, code);
    }
    for error in [
        changed(|c| c.lane_width = 0),
        changed(|c| c.lane_width = 3),
        changed(|c| c.lane_width = 16),
        changed(|c| c.inputs = 1),
        changed(|c| c.predictor = 1),
        changed(|c| c.transform = 4),
        changed(|c| c.params = vec![0; 8]),
    ] {
        assert_error(&error, ErrorKind::Corrupt, "record-rule");
    }
    let uneven = Codes {
        lane_width: 8,
        ..Codes::zeros(60)
    };
    let error = HostileStore::new().error_of(&[uneven.record(1, 0, &[])], 1, 60);
    assert_error(&error, ErrorKind::Corrupt, "record-rule");
}

#[test]
fn entries_that_break_a_rule_are_refused() {
    type Change = fn(&mut IndexEntry);
    let changes: [(Change, &str); 9] = [
        (|e| e.raw_len = 0, "index-entry"),
        (|e| e.raw_len = u32::MAX, "index-entry"),
        (|e| e.stored_len = 5000, "index-entry"),
        (|e| e.stored_len = 11, "index-entry"),
        (|e| e.depth = 1, "index-entry"),
        (|e| e.inputs = vec![chunk(2)], "index-entry"),
        (|e| e.offset += 16, "record-extent"),
        (|e| e.offset = u64::MAX, "record-extent"),
        (|e| e.stored_len += 16, "record-extent"),
    ];
    for (change, code) in changes {
        assert_error(&entry_error(change), ErrorKind::Corrupt, code);
    }
    assert_error(
        &entry_error(|e| e.crc32 ^= 1),
        ErrorKind::Corrupt,
        "record-checksum",
    );
}

#[test]
fn records_that_overlap_are_refused() {
    let planted = HostileStore::new();
    let records = [
        Codes::zeros(64).record(1, 0, &[]),
        Codes::zeros(64).record(2, 0, &[]),
    ];
    let (body, mut entries) = entries_of(&records);
    entries[1].offset = entries[0].offset;
    let (index, _) = pack::encode_index(&mut entries).unwrap();
    let hint = planted.plant_pack(&pack_of(&body, &index));
    assert_error(
        &planted.read_error(&[hint], 1, 64),
        ErrorKind::Corrupt,
        "record-extent",
    );
}

#[test]
fn indexes_out_of_order_or_of_huge_counts_are_refused() {
    let records = [
        Codes::zeros(64).record(1, 0, &[]),
        Codes::zeros(64).record(2, 0, &[]),
    ];
    let (body, mut entries) = entries_of(&records);
    let (index, _) = pack::encode_index(&mut entries).unwrap();
    let error_of = |change: &dyn Fn(&mut Vec<u8>)| {
        let planted = HostileStore::new();
        let mut index = index.clone();
        change(&mut index);
        let hint = planted.plant_pack(&pack_of(&body, &index));
        planted.read_error(&[hint], 1, 64)
    };
    let swapped = error_of(&|i| i[8..].rotate_left(pack::ENTRY_LEN));
    assert_error(&swapped, ErrorKind::Corrupt, "index-order");
    let doubled = error_of(&|i| i.copy_within(8..40, 8 + pack::ENTRY_LEN));
    assert_error(&doubled, ErrorKind::Corrupt, "index-order");
    let many = error_of(&|i| i[..4].fill(0xff));
    assert_error(&many, ErrorKind::Limit, "count");
    let more = error_of(&|i| i[..4].copy_from_slice(&1000u32.to_le_bytes()));
    assert_error(&more, ErrorKind::Corrupt, "count");
    let inputs = error_of(&|i| i[4..8].fill(0xff));
    assert_error(&inputs, ErrorKind::Corrupt, "index-length");
    let longer = error_of(&|i| i.push(0));
    assert_error(&longer, ErrorKind::Corrupt, "index-length");
    let unused = error_of(&|i| {
        i[4] = 1;
        i.extend([0; 32]);
    });
    assert_error(&unused, ErrorKind::Corrupt, "trailing-bytes");
    assert_error(
        &error_of(&|i| i.truncate(0)),
        ErrorKind::Corrupt,
        "truncated",
    );
}

/// A head of 255 streams that its record does not have.
#[test]
fn a_head_that_promises_more_than_follows_is_refused() {
    let mut record = Codes::zeros(64).record(1, 0, &[]);
    record.bytes[5] = 255;
    let error = HostileStore::new().error_of(&[record.clone()], 1, 64);
    assert_error(&error, ErrorKind::Corrupt, "truncated");
    record.bytes[5] = 1;
    record.bytes[6..8].fill(0xff);
    let error = HostileStore::new().error_of(&[record], 1, 64);
    assert_error(&error, ErrorKind::Limit, "record-limits");
}
