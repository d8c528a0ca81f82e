//! Sections and what lies outside the body.

use milepost_engine::format::placement::Durability;
use milepost_engine::format::relations::{TensorRelation, encode_relations};
use milepost_engine::format::section;

use super::files::case;
use super::{Case, frame, put, raw};

pub(super) const CASES: &[Case] = &[
    case!("section-table-crc", "R17", "corrupt" / "section-table" at "checkpoint",
        "a bit of the section table is flipped", |b| b.bend_manifest = |f| f[44] ^= 1),
    case!("section-count", "R17", "corrupt" / "section-table" at "checkpoint",
    "a manifest has 65 sections", |b| b.bend_sections = |s| {
        let more = (0..65 - 3).map(|i| raw(section::IGNORABLE | (100 + i), Vec::new()));
        s.extend(more);
    }),
    case!("section-count-short", "R17", "corrupt" / "section-table" at "checkpoint",
        "a manifest says that it has 64 sections and is too short for them",
        |b| b.bend_manifest = |f| f[32] = 64),
    case!("section-order", "R18", "corrupt" / "section-order" at "checkpoint",
        "placement comes before body", |b| b.bend_sections = |s| s.swap(0, 1)),
    case!("section-twice", "R18", "corrupt" / "section-order" at "checkpoint",
        "there are two bodies", |b| b.bend_sections = |s| s.insert(0, s[0].clone())),
    case!("section-unknown", "R19", "unsupported" / "section-kind" at "checkpoint",
        "there is a section of unknown kind that is not ignorable",
        |b| b.bend_sections = |s| s.insert(2, raw(77, b"new".to_vec()))),
    case!("section-crc", "R20", "corrupt" / "section-checksum" at "checkpoint",
        "a bit of the body is flipped", |b| b.bend_manifest = |f| f[100] ^= 1),
    case!("section-crc-unknown", "R20", "corrupt" / "section-checksum" at "checkpoint",
    "a bit of an unknown, ignorable section is flipped", |b| {
        b.bend_sections = |s| s.push(raw(section::IGNORABLE | 77, b"new".to_vec()));
        b.bend_manifest = |f| *f.last_mut().unwrap() ^= 1;
    }),
    case!("section-coder", "R21", "corrupt" / "section-coder" at "checkpoint",
        "the body has an unknown coder", |b| b.bend_sections = |s| s[0].coder = 2),
    case!("section-limit", "R22", "limit" / "section-length" at "checkpoint",
        "a section says that it decodes to 4 GiB",
        |b| b.bend_sections = |s| s[0].raw_len = u32::MAX),
    case!("section-raw-len", "R23", "corrupt" / "section-length" at "checkpoint",
        "a raw section's raw_len is not its stored_len",
        |b| b.bend_sections = |s| s[0].raw_len += 1),
    case!("section-bomb", "R23", "corrupt" / "section-length" at "checkpoint",
    "a zstd section says that it decodes to more than any frame of its length", |b| {
        b.bend_sections = |s| {
            s[0].coder = section::CODER_ZSTD;
            s[0].stored = frame(b"bomb");
            s[0].raw_len = 512 << 20;
        };
    }),
    case!("section-zstd-longer", "R23", "corrupt" / "zstd-frame" at "checkpoint",
    "the hints' frame decodes to more than raw_len", |b| b.bend_sections = |s| {
        s[2].coder = section::CODER_ZSTD;
        s[2].stored = frame(&s[2].stored);
        s[2].raw_len -= 1;
    }),
    case!("section-zstd-trailing", "R23", "corrupt" / "zstd-frame" at "checkpoint",
    "a byte follows the hints' frame", |b| b.bend_sections = |s| {
        s[2].coder = section::CODER_ZSTD;
        s[2].stored = frame(&s[2].stored);
        s[2].stored.push(0);
    }),
    case!("section-missing-body", "R24", "corrupt" / "section-missing" at "checkpoint",
        "there is no body", |b| b.bend_sections = |s| drop(s.remove(0))),
    case!("section-missing-placement", "R24", "corrupt" / "section-missing" at "checkpoint",
        "there is no placement", |b| b.bend_sections = |s| drop(s.remove(1))),
    case!("manifest-trailing", "R12", "corrupt" / "trailing-bytes" at "checkpoint",
        "a byte follows the last section", |b| b.bend_manifest = |f| f.push(0)),
    case!("manifest-short", "R1", "corrupt" / "truncated" at "checkpoint",
        "a manifest ends within its last section",
        |b| b.bend_manifest = |f| f.truncate(f.len() - 1)),
    case!("manifest-id", "R36", "corrupt" / "manifest-id" at "checkpoint",
        "a manifest's name holds another id", |b| b.rename = |id| id.0[0] ^= 1),
    case!("manifest-seq", "R37", "corrupt" / "manifest-place" at "checkpoint",
        "the placement holds another seq than the name", |b| b.placement.seq = 2),
    case!("manifest-run", "R37", "corrupt" / "manifest-place" at "checkpoint",
        "the placement holds another run than the folder", |b| b.placement.run = "side".into()),
    case!("placement-run-name", "R34", "corrupt" / "run-name" at "checkpoint",
        "the placement's run would leave the folder",
        |b| b.bend_placement = |p| put(p, 2, *b"../x")),
    case!("placement-short", "R1", "corrupt" / "truncated" at "checkpoint",
        "the placement ends within boot", |b| b.bend_placement = |p| p.truncate(p.len() - 1)),
    case!("placement-full", "R35", "corrupt" / "placement" at "checkpoint",
        "the placement's full is 2", |b| b.bend_placement = |p| p[22] = 2),
    case!("placement-durability", "R35", "corrupt" / "placement" at "checkpoint",
        "the placement's durability is 3", |b| b.bend_placement = |p| p[64] = 3),
    case!("hints-trailing", "R12", "corrupt" / "trailing-bytes" at "checkpoint",
        "a byte follows the hints", |b| b.bend_hints = |h| h.push(0)),
    case!("hints-count", "R14", "corrupt" / "count" at "checkpoint",
        "there are fewer hints than their count says", |b| b.bend_hints = |h| h[0] = 2),
    case!("statistics-count", "R38", "corrupt" / "statistics" at "checkpoint",
    "two tensors have the statistics of one", |b| {
        b.statistics = Some([&[1, 0, 0, 0][..], &[0; 24]].concat());
    }),
    case!("relations-beyond", "R77", "corrupt" / "relations" at "checkpoint",
    "a copy of a tensor that the body does not have", |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(0, 5, &[2])])));
    }),
    case!("relations-of-beyond", "R77", "corrupt" / "relations" at "checkpoint",
    "a tensor that the body does not have is a copy", |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(2, 5, &[0])])));
    }),
    case!("relations-unknown-beyond", "R77", "corrupt" / "relations" at "checkpoint",
    "a relation of an unknown kind names a tensor that the body does not have",
    |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(0, 200, &[1, 2])])));
    }),
    case!("relations-twice", "R77", "corrupt" / "relations" at "checkpoint",
    "one tensor has two relations", |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(0, 5, &[1]), (0, 4, &[1])])));
    }),
    case!("relations-descending", "R77", "corrupt" / "relations" at "checkpoint",
    "relations are not in the order of their tensors", |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(1, 5, &[0]), (0, 5, &[1])])));
    }),
    case!("relations-few", "R77", "corrupt" / "relations" at "checkpoint",
    "a relation of kind adam names one tensor", |b| b.bend_sections = |s| {
        s.push(raw(section::RELATIONS, relations(&[(0, 1, &[1])])));
    }),
    case!("relations-trailing", "R12", "corrupt" / "trailing-bytes" at "checkpoint",
    "a byte follows the relations", |b| b.bend_sections = |s| {
        let mut told = relations(&[(0, 5, &[1])]);
        told.push(0);
        s.push(raw(section::RELATIONS, told));
    }),
    case!("dropped-none", "R68", "corrupt" / "dropped" at "checkpoint",
        "the list of dropped tensors is empty",
        |b| b.bend_sections = |s| s.insert(2, raw(section::DROPPED, vec![0; 4]))),
    case!("dropped-twice", "R68", "corrupt" / "dropped" at "checkpoint",
    "one tensor is dropped twice", |b| b.bend_sections = |s| {
        s.insert(2, raw(section::DROPPED, [[2u8, 0, 0, 0], [0; 4], [0; 4]].concat()));
    }),
    case!("dropped-descending", "R68", "corrupt" / "dropped" at "checkpoint",
    "dropped tensors are not in order", |b| b.bend_sections = |s| {
        s.insert(2, raw(section::DROPPED, [[2u8, 0, 0, 0], [1, 0, 0, 0], [0; 4]].concat()));
    }),
    case!("dropped-beyond", "R68", "corrupt" / "dropped" at "checkpoint",
    "a tensor is dropped that the body does not have", |b| b.bend_sections = |s| {
        s.insert(2, raw(section::DROPPED, [[1u8, 0, 0, 0], [9, 0, 0, 0]].concat()));
    }),
    case!("dropped-trailing", "R12", "corrupt" / "trailing-bytes" at "checkpoint",
    "a byte follows the dropped tensors", |b| b.bend_sections = |s| {
        s.insert(2, raw(section::DROPPED, [&[1u8, 0, 0, 0][..], &[0; 5]].concat()));
    }),
    case!("relaxed-damaged", "R39", "corrupt" / "record-checksum" at "checkpoint",
    "a relaxed checkpoint of an unknown boot needs a damaged record", |b| {
        b.placement.durability = Durability::Relaxed;
        b.bend_pack = |f| f[60] ^= 1;
    }),
    case!("relaxed-missing", "R39", "corrupt" / "chunk-missing" at "checkpoint",
    "a relaxed checkpoint of an unknown boot needs a chunk that no pack holds", |b| {
        b.placement.durability = Durability::Relaxed;
        b.records.remove(1);
    }),
];

/// The bytes of relations: the place of a tensor, a kind, and the places of others.
fn relations(told: &[(u32, u8, &[u32])]) -> Vec<u8> {
    let relation = |(tensor, kind, of): &(u32, u8, &[u32])| TensorRelation {
        tensor: *tensor,
        kind: *kind,
        of: of.to_vec(),
    };
    encode_relations(&told.iter().map(relation).collect::<Vec<_>>()).unwrap()
}
