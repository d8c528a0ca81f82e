//! Trailer and index.

use milepost_engine::ChunkId;

use super::files::case;
use super::{Case, put, reseal, trailer};

pub(super) const CASES: &[Case] = &[
    case!("pack-short", "R1", "corrupt" / "truncated" at "restore",
        "a pack has 10 bytes", |b| b.bend_pack = |f| f.truncate(10)),
    case!("pack-trailer-magic", "R40", "corrupt" / "pack-trailer" at "restore",
    "the trailer does not begin with its magic", |b| b.bend_pack = |f| {
        let at = f.len() - 32;
        f[at] = b'm';
        reseal(&mut f[at..]);
    }),
    case!("pack-trailer-crc", "R40", "corrupt" / "pack-trailer" at "restore",
        "a bit of the trailer's crc is flipped",
        |b| b.bend_pack = |f| *f.last_mut().unwrap() ^= 1),
    case!("pack-cut", "R40", "corrupt" / "pack-trailer" at "restore",
        "the last byte of a pack is missing", |b| b.bend_pack = |f| f.truncate(f.len() - 1)),
    case!("pack-length", "R41", "corrupt" / "pack-length" at "restore",
    "the trailer says that the pack is longer", |b| b.bend_pack = |f| {
        let at = f.len() - 32;
        let len = f.len() as u64 + 16;
        put(f, at + 20, len.to_le_bytes());
        reseal(&mut f[at..]);
    }),
    case!("pack-index-offset", "R41", "corrupt" / "pack-length" at "restore",
    "the index does not end at the trailer", |b| b.bend_pack = |f| {
        let at = f.len() - 32;
        let offset = trailer(f).index_offset - 16;
        put(f, at + 4, offset.to_le_bytes());
        reseal(&mut f[at..]);
    }),
    case!("pack-index-overflow", "R41", "corrupt" / "pack-length" at "restore",
    "the index would end behind the last byte that can be", |b| b.bend_pack = |f| {
        let at = f.len() - 32;
        put(f, at + 4, (u64::MAX - 16).to_le_bytes());
        reseal(&mut f[at..]);
    }),
    case!("index-hash", "R42", "corrupt" / "index-hash" at "restore",
    "a bit of a cost in the index is flipped", |b| b.bend_pack = |f| {
        let at = usize::try_from(trailer(f).index_offset).unwrap();
        f[at + 8 + 52] ^= 1;
    }),
    case!("index-count", "R13", "limit" / "count" at "restore",
        "the index says that it has 4194305 records",
        |b| b.bend_index = |i| put(i, 0, 4_194_305u32.to_le_bytes())),
    case!("index-count-large", "R14", "corrupt" / "count" at "restore",
        "the index says that it has more records than bytes", |b| b.bend_index = |i| i[0] = 9),
    case!("index-inputs-short", "R43", "corrupt" / "index-length" at "restore",
        "the index says that it has two inputs and holds one", |b| b.bend_index = |i| i[4] = 2),
    case!("index-trailing", "R43", "corrupt" / "index-length" at "restore",
        "a byte follows the index", |b| b.bend_index = |i| i.push(0)),
    case!("index-inputs-unclaimed", "R12", "corrupt" / "trailing-bytes" at "restore",
    "no entry claims the index's last input", |b| b.bend_index = |i| {
        i[4] = 2;
        i.extend([9; 32]);
    }),
    case!("index-unsorted", "R44", "corrupt" / "index-order" at "restore",
    "the index is not sorted by chunk id", |b| b.bend_index = |i| {
        let (first, second) = i[8..].split_at_mut(64);
        first.swap_with_slice(&mut second[..64]);
    }),
    case!("index-raw-len", "R45", "corrupt" / "index-entry" at "restore",
        "a record makes no bytes", |b| b.bend_entries = |e| e[0].raw_len = 0),
    case!("index-raw-len-large", "R45", "corrupt" / "index-entry" at "restore",
        "a record makes 64 MiB and a byte",
        |b| b.bend_entries = |e| e[0].raw_len = (64 << 20) + 1),
    case!("index-stored-len", "R45", "corrupt" / "index-entry" at "restore",
        "a record has 11 bytes", |b| b.bend_entries = |e| e[0].stored_len = 11),
    case!("index-stored-len-large", "R45", "corrupt" / "index-entry" at "restore",
        "a record is longer than its chunk by 4097 bytes",
        |b| b.bend_entries = |e| e[0].stored_len = 16 + 4097),
    case!("index-depth-without-input", "R45", "corrupt" / "index-entry" at "restore",
        "a record without inputs has depth 1", |b| b.bend_entries = |e| e[0].depth = 1),
    case!("index-input-without-depth", "R45", "corrupt" / "index-entry" at "restore",
        "a record with an input has depth 0", |b| b.bend_entries = |e| e[1].depth = 0),
    case!("index-own-input", "R45", "corrupt" / "index-entry" at "restore",
        "a record needs its own chunk", |b| b.bend_entries = |e| e[1].inputs = vec![e[1].chunk]),
    case!("record-overlap", "R46", "corrupt" / "record-extent" at "restore",
        "two records start at the same byte", |b| b.bend_entries = |e| e[1].offset = 32),
    case!("record-hole", "R46", "corrupt" / "record-extent" at "restore",
    "16 bytes between two records belong to none", |b| {
        b.bend_records = |r| {
            r.splice(32..32, [0; 16]);
        };
        b.bend_entries = |e| e[1].offset += 16;
    }),
    case!("record-first", "R46", "corrupt" / "record-extent" at "restore",
    "the first record starts behind byte 32", |b| {
        b.bend_records = |r| {
            r.splice(0..0, [0; 16]);
        };
        b.bend_entries = |e| e.iter_mut().for_each(|e| e.offset += 16);
    }),
    case!("record-end", "R46", "corrupt" / "record-extent" at "restore",
        "16 bytes between the last record and the index belong to none",
        |b| b.bend_records = |r| r.extend([0; 16])),
    case!("record-unindexed", "R46", "corrupt" / "record-extent" at "restore",
        "a record is in no index entry", |b| b.bend_entries = |e| drop(e.remove(0))),
    // Of version 1.0, which knew no predictor of several inputs: it said R65.
    case!("inputs-many", "R60", "corrupt" / "chunk-missing" at "restore",
    "a record has two inputs, and one of them is no chunk", |b| b.bend_entries = |e| {
        let first = e[0].chunk;
        e[1].inputs = vec![first, ChunkId([9; 32])];
    }),
    case!("inputs-five", "R65", "unsupported" / "inputs" at "restore",
    "a record has five inputs, and no known predictor takes five", |b| b.bend_entries = |e| {
        let first = e[0].chunk;
        e[1].inputs = vec![first, first, first, first, ChunkId([9; 32])];
    }),
];
