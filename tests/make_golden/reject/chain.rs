//! Chunks that are missing, too deep, too long, or not what their id says.

use super::files::case;
use super::{A, B, Build, Case};
use crate::make_golden::planted::{no_chunk, record};
use crate::support::hostile::Codes;

/// Gives `b` an input of other bytes.
fn base(b: &mut Build, raw: &[u8], depth: u8, inputs: &[&[u8]]) {
    let len = u32::try_from(raw.len()).unwrap();
    let mut codes = Codes {
        streams: vec![(0, raw.to_vec())],
        ..Codes::zeros(len)
    };
    if !inputs.is_empty() {
        codes = Codes::same_as_input(len);
    }
    b.records.push(record(raw, codes.bytes(), depth, inputs));
    b.records[1].inputs = vec![milepost_engine::hash::chunk_id(raw)];
}

pub(super) const CASES: &[Case] = &[
    case!("chunk-missing", "R60", "corrupt" / "chunk-missing" at "restore",
        "a tensor's chunk is in no pack", |b| b.body.tensors[0].chunks = vec![no_chunk()]),
    case!("input-missing", "R60", "corrupt" / "chunk-missing" at "restore",
        "a record's input is in no pack", |b| b.records[1].inputs = vec![no_chunk()]),
    case!("input-depth", "R61", "corrupt" / "input-depth" at "restore",
        "a record of depth 1 needs a record of depth 1", |b| base(b, b"as deep as what ", 1, &[&A])),
    case!("input-deeper", "R61", "corrupt" / "input-depth" at "restore",
        "a record of depth 1 needs a record of depth 7", |b| base(b, b"deeper than what", 7, &[&A])),
    case!("input-cycle", "R61", "corrupt" / "input-depth" at "restore",
        "two records need each other", |b| base(b, b"round and around", 2, &[&B])),
    case!("input-cycle-two-packs", "R61", "corrupt" / "input-depth" at "restore",
    "two records of two packs need each other", |b| {
        base(b, b"here and there, ", 1, &[&B]);
        let other = b.records.pop().unwrap();
        b.more_packs.push(vec![other]);
    }),
    case!("input-length", "R52", "corrupt" / "record-rule" at "restore",
        "a record's input is of another length", |b| base(b, b"shorter", 0, &[])),
    case!("chunk-length", "R62", "corrupt" / "chunk-length" at "restore",
        "a tensor's chunk is 4 bytes longer than it calls for",
        |b| b.body.tensors[0].shape = vec![3]),
    case!("chunk-hash", "R63", "corrupt" / "chunk-hash" at "restore",
    "a record decodes to other bytes than its chunk id says", |b| {
        let codes = Codes {
            streams: vec![(0, b"these other ones".to_vec())],
            ..Codes::zeros(16)
        };
        b.alone(&codes);
    }),
];
