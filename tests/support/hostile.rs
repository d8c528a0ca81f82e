//! Well-sealed files that no writer makes: every checksum and hash is right, the content lies.
#![expect(
    clippy::disallowed_methods,
    reason = "puts files into a store behind its back"
)]

use std::path::{Path, PathBuf};

use milepost_engine::format::body::{BlobEntry, Body, TensorEntry};
use milepost_engine::format::cursor::Writer;
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::format::pack::{self, IndexEntry, Trailer};
use milepost_engine::format::placement::{PackHint, Placement, encode_hints};
use milepost_engine::format::record::{RECORD_ALIGN, RecordHead, encode_head};
use milepost_engine::format::section::{self, Section};
use milepost_engine::{CheckpointId, ChunkId, Dtype, Error, PackId, Store, StoreOptions, hash};

use crate::support::store::TestStore;

/// One record and what the index will say of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) chunk: ChunkId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) raw_len: u32,
    pub(crate) depth: u8,
    pub(crate) inputs: Vec<ChunkId>,
}

/// A chunk id for tests that never hash the chunk.
pub(crate) fn chunk(tag: u8) -> ChunkId {
    ChunkId([tag; 32])
}

/// A record's codes and streams, to be bent one at a time.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    pub(crate) predictor: u8,
    pub(crate) transform: u8,
    pub(crate) layout: u8,
    pub(crate) lane_width: u8,
    pub(crate) inputs: u8,
    pub(crate) raw_len: u32,
    pub(crate) params: Vec<u8>,
    pub(crate) streams: Vec<(u8, Vec<u8>)>,
}

impl Codes {
    /// One constant stream of zeros.
    pub(crate) fn zeros(raw_len: u32) -> Self {
        Self {
            predictor: 0,
            transform: 0,
            layout: 0,
            lane_width: 1,
            inputs: 0,
            raw_len,
            params: Vec::new(),
            streams: vec![(1, vec![0])],
        }
    }

    /// A difference of nothing to input 0, by exclusive or.
    pub(crate) fn same_as_input(raw_len: u32) -> Self {
        Self {
            predictor: 1,
            transform: 4,
            inputs: 1,
            ..Self::zeros(raw_len)
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let head = RecordHead {
            predictor: self.predictor,
            transform: self.transform,
            layout: self.layout,
            lane_width: self.lane_width,
            inputs: self.inputs,
            raw_len: self.raw_len,
            params: &self.params,
            streams: Vec::new(),
        };
        let mut out = Vec::new();
        let streams = self.streams.iter().map(|(coder, s)| (*coder, s.len()));
        encode_head(&mut out, &head, streams).unwrap();
        self.streams.iter().for_each(|(_, s)| out.extend(s));
        out
    }

    /// A record of these codes under a chunk's name.
    pub(crate) fn record(&self, tag: u8, depth: u8, inputs: &[u8]) -> Record {
        Record {
            chunk: chunk(tag),
            bytes: self.bytes(),
            raw_len: self.raw_len,
            depth,
            inputs: inputs.iter().map(|t| chunk(*t)).collect(),
        }
    }
}

/// A pack's file: envelope, records, `index`, trailer; its name is the hash of `index`.
pub(crate) fn pack_of(records: &[u8], index: &[u8]) -> (PackId, Vec<u8>) {
    let mut file = envelope::encode(FileKind::Pack).to_vec();
    file.extend(records);
    let index_offset = file.len() as u64;
    file.extend(index);
    let trailer = Trailer {
        index_offset,
        index_len: index.len() as u64,
        pack_len: file.len() as u64 + pack::TRAILER_LEN as u64,
    };
    file.extend(trailer.encode());
    (hash::pack_id(index), file)
}

/// The records laid out as a writer would, and their entries for `change` to lie in.
pub(crate) fn entries_of(records: &[Record]) -> (Vec<u8>, Vec<IndexEntry>) {
    let (mut body, mut entries) = (Vec::new(), Vec::new());
    for record in records {
        entries.push(IndexEntry {
            chunk: record.chunk,
            offset: (envelope::ENVELOPE_LEN + body.len()) as u64,
            stored_len: u32::try_from(record.bytes.len()).unwrap(),
            raw_len: record.raw_len,
            crc32: hash::crc32(&record.bytes),
            cost: 0,
            cycle_len: 0,
            age: 0,
            depth: record.depth,
            inputs: record.inputs.clone(),
        });
        body.extend(&record.bytes);
        let aligned = (body.len() as u64).next_multiple_of(RECORD_ALIGN);
        body.resize(usize::try_from(aligned).unwrap(), 0);
    }
    (body, entries)
}

/// A body with one tensor of bytes, cut into these chunks.
pub(crate) fn body_of(byte_len: u64, chunk_len: u64, chunks: Vec<ChunkId>) -> Body {
    Body {
        tensors: vec![TensorEntry {
            name: "w".into(),
            dtype: Dtype::U8,
            shape: vec![byte_len],
            chunk_elements: chunk_len,
            byte_len,
            chunks,
        }],
        ..Body::default()
    }
}

/// The same as a blob.
pub(crate) fn blob_of(byte_len: u64, chunk_len: u64, chunks: Vec<ChunkId>) -> Body {
    Body {
        blobs: vec![BlobEntry {
            name: "b".into(),
            byte_len,
            chunk_len,
            chunks,
        }],
        ..Body::default()
    }
}

/// Where a hostile manifest claims to lie.
pub(crate) fn placement() -> Placement {
    Placement {
        run: "main".into(),
        seq: 1,
        durability: milepost_engine::Durability::Durable,
        ..Placement::default()
    }
}

/// A real, empty store that files can be planted in.
pub(crate) struct HostileStore {
    test: TestStore,
}

impl HostileStore {
    pub(crate) fn new() -> Self {
        Self {
            test: TestStore::new(),
        }
    }

    /// A store that has checkpoints already.
    pub(crate) fn around(test: TestStore) -> Self {
        Self { test }
    }

    pub(crate) fn root(&self) -> &Path {
        self.test.folder.path()
    }

    pub(crate) fn open(&self) -> Store {
        Store::open(self.root(), StoreOptions::default()).unwrap()
    }

    /// Writes a file, and the folders above it.
    pub(crate) fn plant(&self, path: &str, bytes: &[u8]) -> PathBuf {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn plant_pack(&self, (id, file): &(PackId, Vec<u8>)) -> PackHint {
        self.plant(&format!("packs/{:02x}/{id}.pack", id.0[0]), file);
        PackHint {
            pack: *id,
            len: file.len() as u64,
        }
    }

    /// Plants these records as one pack, with an honest index.
    pub(crate) fn plant_records(&self, records: &[Record]) -> PackHint {
        let (body, mut entries) = entries_of(records);
        let (index, _) = pack::encode_index(&mut entries).unwrap();
        self.plant_pack(&pack_of(&body, &index))
    }

    /// Plants a manifest of any body bytes, by the name that its hash gives it.
    pub(crate) fn plant_body(&self, body: &[u8], hints: &[PackHint]) -> CheckpointId {
        let placement = placement().encode().unwrap();
        let hints = encode_hints(hints).unwrap();
        self.plant_sections(
            body,
            &mut [
                raw(section::BODY, body),
                raw(section::PLACEMENT, &placement),
                raw(section::PACKS, &hints),
            ],
        )
    }

    /// Plants any sections as checkpoint 1 of run `main`.
    pub(crate) fn plant_sections(&self, body: &[u8], sections: &mut [Section<'_>]) -> CheckpointId {
        let id = hash::checkpoint_id(body);
        let file = section::encode_file(sections).unwrap();
        self.plant(&format!("runs/main/{:020}-{id}.ckpt", 1), &file);
        id
    }

    /// Plants records and a checkpoint whose tensor `w` is chunk `tag`; the error of reading it.
    pub(crate) fn error_of(&self, records: &[Record], tag: u8, byte_len: u64) -> Error {
        let hint = self.plant_records(records);
        self.read_error(&[hint], tag, byte_len)
    }

    /// The error of reading tensor `w` of one chunk.
    pub(crate) fn read_error(&self, hints: &[PackHint], tag: u8, byte_len: u64) -> Error {
        let body = body_of(byte_len, byte_len, vec![chunk(tag)]);
        let id = self.plant_body(&body.encode().unwrap(), hints);
        let checkpoint = self.open().checkpoint_by_id(&id);
        checkpoint.and_then(|c| c.tensor("w")).unwrap_err()
    }

    /// The error of opening a checkpoint of this body.
    pub(crate) fn body_error(&self, body: &[u8]) -> Error {
        let id = self.plant_body(body, &[]);
        self.open().checkpoint_by_id(&id).unwrap_err()
    }
}

/// A section stored as it is.
pub(crate) fn raw(kind: u32, stored: &[u8]) -> Section<'_> {
    Section {
        kind,
        coder: section::CODER_RAW,
        raw_len: u32::try_from(stored.len()).unwrap(),
        stored,
    }
}

/// `body` behind an envelope and before its CRC-32.
pub(crate) fn sealed(kind: FileKind, body: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(&envelope::encode(kind)).bytes(body);
    let crc = hash::crc32(w.as_slice());
    w.u32(crc);
    w.finish()
}
