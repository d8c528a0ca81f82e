//! The stores that every reader must refuse: a sound store of two tensors, bent in one place,
//! with every checksum, hash and name made right again behind the bend.

mod body;
mod chain;
mod few;
mod files;
mod manifest;
mod pack;
mod record;

use std::path::Path;

use milepost_engine::format::body::Body;
use milepost_engine::format::envelope::{self, ENVELOPE_LEN, FileKind};
use milepost_engine::format::pack::{IndexEntry, Trailer, encode_index};
use milepost_engine::format::placement::{Durability, Placement, encode_hints};
use milepost_engine::format::section;
use milepost_engine::{CheckpointId, Dtype, hash};

use crate::make_golden::planted::{placement, plant, plant_pack, record, single_chunk};
use crate::make_golden::settings;
use crate::support::golden::ExpectedReject;
use crate::support::hostile::{Codes, Record, entries_of, pack_of};

/// Bytes of tensor `a`, whose record stands alone.
const A: [u8; 16] = *b"\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40";
/// Bytes of tensor `b`, whose record needs `a`.
const B: [u8; 16] = *b"\x01\0\x80\x3f\0\0\0\x40\0\0\x40\x40\xff\xff\x7f\x40";

/// One store that must be refused.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    rule: &'static str,
    kind: &'static str,
    code: &'static str,
    stage: &'static str,
    what: &'static str,
    bend: fn(&mut Build),
}

/// Every case.
pub(crate) fn cases() -> impl Iterator<Item = &'static Case> {
    [
        files::CASES,
        manifest::CASES,
        body::CASES,
        pack::CASES,
        record::CASES,
        few::CASES,
        chain::CASES,
    ]
    .into_iter()
    .flatten()
}

/// Makes the store that the cases bend.
pub(crate) fn sound(root: &Path) -> CheckpointId {
    Build::new().plant(root)
}

/// A section as it will lie in the file.
#[derive(Clone)]
struct Section {
    kind: u32,
    coder: u32,
    raw_len: u32,
    stored: Vec<u8>,
}

/// The parts of a store, and what is done to their bytes before they are sealed.
struct Build {
    format: Vec<u8>,
    records: Vec<Record>,
    more_packs: Vec<Vec<Record>>,
    body: Body,
    placement: Placement,
    statistics: Option<Vec<u8>>,
    tag: Option<Vec<u8>>,
    /// The pack's records, before the index is made.
    bend_records: fn(&mut Vec<u8>),
    /// The entries of the index, before they are sorted and encoded.
    bend_entries: fn(&mut Vec<IndexEntry>),
    /// The bytes of the index, before the pack gets its name.
    bend_index: fn(&mut Vec<u8>),
    /// The pack's file, after it got its name.
    bend_pack: fn(&mut Vec<u8>),
    /// The bytes of the body, before the manifest gets its id.
    bend_body: fn(&mut Vec<u8>),
    bend_placement: fn(&mut Vec<u8>),
    bend_hints: fn(&mut Vec<u8>),
    /// The sections, before their table and checksums are made.
    bend_sections: fn(&mut Vec<Section>),
    /// The manifest's file, after it got its name.
    bend_manifest: fn(&mut Vec<u8>),
    /// The id in the manifest's name.
    rename: fn(&mut CheckpointId),
}

impl Build {
    fn new() -> Self {
        let alone = Codes {
            lane_width: 4,
            streams: vec![(0, A.to_vec())],
            ..Codes::zeros(16)
        };
        let xor = A.iter().zip(B).map(|(a, b)| a ^ b).collect();
        let delta = Codes {
            lane_width: 4,
            streams: vec![(0, xor)],
            ..Codes::same_as_input(16)
        };
        Self {
            format: settings().encode().unwrap(),
            records: vec![
                record(&A, alone.bytes(), 0, &[]),
                record(&B, delta.bytes(), 1, &[&A]),
            ],
            more_packs: Vec::new(),
            body: Body {
                tensors: vec![
                    single_chunk("a", Dtype::F32, &A),
                    single_chunk("b", Dtype::F32, &B),
                ],
                ..Body::default()
            },
            placement: placement("main", 1, Durability::Durable),
            statistics: None,
            tag: None,
            bend_records: |_| {},
            bend_entries: |_| {},
            bend_index: |_| {},
            bend_pack: |_| {},
            bend_body: |_| {},
            bend_placement: |_| {},
            bend_hints: |_| {},
            bend_sections: |_| {},
            bend_manifest: |_| {},
            rename: |_| {},
        }
    }

    /// Replaces the record of `b` by one of these codes.
    fn delta(&mut self, codes: &Codes) {
        self.records[1].bytes = codes.bytes();
    }

    /// Replaces the record of `a` by one of these codes.
    fn alone(&mut self, codes: &Codes) {
        self.records[0].bytes = codes.bytes();
    }

    /// Adds a tensor of a length that is no multiple of its record's lanes.
    fn with_odd_lanes(&mut self) {
        let raw = &A[1..];
        let codes = Codes {
            lane_width: 4,
            streams: vec![(0, raw.to_vec())],
            ..Codes::zeros(15)
        };
        self.records.push(record(raw, codes.bytes(), 0, &[]));
        self.body.tensors.push(single_chunk("c", Dtype::U8, raw));
    }

    fn plant(&self, root: &Path) -> CheckpointId {
        plant(root, "FORMAT", &self.format);
        let mut hints = vec![self.plant_pack(root)];
        for records in &self.more_packs {
            hints.push(crate::make_golden::planted::plant_records(root, records));
        }
        let mut body = self.body.encode().unwrap();
        (self.bend_body)(&mut body);
        let mut placement = self.placement.encode().unwrap();
        (self.bend_placement)(&mut placement);
        let mut hints = encode_hints(&hints).unwrap();
        (self.bend_hints)(&mut hints);
        let mut id = hash::checkpoint_id(&body);
        let mut sections = vec![
            raw(section::BODY, body),
            raw(section::PLACEMENT, placement),
            raw(section::PACKS, hints),
        ];
        let statistics = self.statistics.clone();
        sections.extend(statistics.map(|s| raw(section::STATISTICS, s)));
        (self.bend_sections)(&mut sections);
        let mut file = manifest_of(&sections);
        (self.bend_manifest)(&mut file);
        (self.rename)(&mut id);
        plant(root, &format!("runs/main/{:020}-{id}.ckpt", 1), &file);
        if let Some(tag) = &self.tag {
            plant(root, "tags/best", tag);
        }
        id
    }

    fn plant_pack(&self, root: &Path) -> milepost_engine::format::placement::PackHint {
        let (mut records, mut entries) = entries_of(&self.records);
        (self.bend_records)(&mut records);
        (self.bend_entries)(&mut entries);
        let mut index = encode_index(&mut entries).unwrap().0;
        (self.bend_index)(&mut index);
        let (id, mut file) = pack_of(&records, &index);
        (self.bend_pack)(&mut file);
        plant_pack(root, &id, &file)
    }
}

impl Case {
    /// Makes the store and says how it must be refused.
    pub(crate) fn make(&self, root: &Path) -> ExpectedReject {
        let mut build = Build::new();
        (self.bend)(&mut build);
        let id = build.plant(root);
        let tagged = build.tag.is_some();
        ExpectedReject {
            rule: self.rule.into(),
            kind: self.kind.into(),
            code: self.code.into(),
            what: self.what.into(),
            stage: self.stage.into(),
            checkpoint: if tagged {
                "best".into()
            } else {
                id.to_string()
            },
        }
    }
}

/// A section stored as it is.
fn raw(kind: u32, stored: Vec<u8>) -> Section {
    Section {
        kind,
        coder: section::CODER_RAW,
        raw_len: u32::try_from(stored.len()).unwrap(),
        stored,
    }
}

/// A manifest of these sections, whatever they are.
fn manifest_of(sections: &[Section]) -> Vec<u8> {
    let len = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut table = len(sections.len()).to_vec();
    for s in sections {
        table.extend(s.kind.to_le_bytes());
        table.extend(s.coder.to_le_bytes());
        table.extend(s.raw_len.to_le_bytes());
        table.extend(len(s.stored.len()));
        table.extend(hash::crc32(&s.stored).to_le_bytes());
    }
    let mut file = envelope::encode(FileKind::Manifest).to_vec();
    let crc = hash::crc32(&table);
    file.extend(table);
    file.extend(crc.to_le_bytes());
    sections.iter().for_each(|s| file.extend(&s.stored));
    file
}

/// Puts a number at an offset.
fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

/// Makes the crc in the last four bytes right again.
fn reseal(bytes: &mut [u8]) {
    let at = bytes.len() - 4;
    let crc = hash::crc32(&bytes[..at]);
    put(bytes, at, crc.to_le_bytes());
}

/// Makes an envelope's crc right again.
fn reseal_envelope(file: &mut [u8]) {
    reseal(&mut file[..ENVELOPE_LEN]);
}

/// The trailer of a pack's file.
fn trailer(file: &[u8]) -> Trailer {
    Trailer::decode(&file[file.len() - 32..], file.len() as u64).unwrap()
}

/// A zstd frame of bytes as they are: one segment, one raw block.
fn frame(bytes: &[u8]) -> Vec<u8> {
    let len = u8::try_from(bytes.len()).unwrap();
    let block = (u32::from(len) << 3 | 1).to_le_bytes();
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, len];
    frame.extend(&block[..3]);
    frame.extend(bytes);
    frame
}
