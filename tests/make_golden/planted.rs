//! Stores put together file by file: what no writer makes, and encodings that none chooses.

use std::path::Path;

use milepost_engine::format::body::{Body, TensorEntry};
use milepost_engine::format::manifest::Manifest;
use milepost_engine::format::pack;
use milepost_engine::format::placement::{Durability, PackHint, Placement};
use milepost_engine::{CheckpointId, ChunkId, Dtype, PackId, codec, hash};

use crate::make_golden::state::State;
use crate::make_golden::{CLOCK_MS, settings};
use crate::support::golden::ExpectedCheckpoint;
use crate::support::hostile::{Record, entries_of, pack_of};

/// Writes a file of a store, and the folders above it.
pub(crate) fn plant(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// An honest FORMAT file.
pub(crate) fn plant_format(root: &Path) {
    plant(root, "FORMAT", &settings().encode().unwrap());
}

/// Plants a pack under its name.
pub(crate) fn plant_pack(root: &Path, id: &PackId, file: &[u8]) -> PackHint {
    plant(root, &format!("packs/{:02x}/{id}.pack", id.0[0]), file);
    PackHint {
        pack: *id,
        len: file.len() as u64,
    }
}

/// Plants records as one pack with an honest index.
pub(crate) fn plant_records(root: &Path, records: &[Record]) -> PackHint {
    let (body, mut entries) = entries_of(records);
    let (index, _) = pack::encode_index(&mut entries).unwrap();
    let (id, file) = pack_of(&body, &index);
    plant_pack(root, &id, &file)
}

/// A tensor of one chunk of at most 4096 bytes.
pub(crate) fn single_chunk(name: &str, dtype: Dtype, raw: &[u8]) -> TensorEntry {
    let byte_len = raw.len() as u64;
    TensorEntry {
        name: name.into(),
        dtype,
        shape: vec![byte_len * 8 / dtype.bits()],
        chunk_elements: 4096 * 8 / dtype.bits(),
        byte_len,
        chunks: vec![hash::chunk_id(raw)],
    }
}

/// Where checkpoint `seq` of run `run` says that it lies.
pub(crate) fn placement(run: &str, seq: u64, durability: Durability) -> Placement {
    Placement {
        run: run.into(),
        seq,
        time_ms: CLOCK_MS,
        durability,
        ..Placement::default()
    }
}

/// Plants a checkpoint under its name.
pub(crate) fn plant_manifest(
    root: &Path,
    body: Body,
    placement: Placement,
    hints: Vec<PackHint>,
) -> CheckpointId {
    let (run, seq) = (placement.run.clone(), placement.seq);
    let manifest = Manifest::new(body, placement, hints, Vec::new()).unwrap();
    let file = manifest.encode(&codec::compress_section).unwrap();
    let path = format!("runs/{run}/{seq:020}-{}.ckpt", manifest.id);
    plant(root, &path, &file);
    manifest.id
}

/// Plants records and the one checkpoint of run `by-hand` that holds all their tensors; what is
/// expected of it.
pub(crate) fn plant_by_hand(
    root: &Path,
    records: &[Record],
    mut tensors: Vec<TensorEntry>,
    state: &State,
) -> ExpectedCheckpoint {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let hint = plant_records(root, records);
    let body = Body {
        tensors,
        ..Body::default()
    };
    let placed = placement("by-hand", 1, Durability::Durable);
    let id = plant_manifest(root, body, placed, vec![hint]);
    state.expected(("by-hand", 1, 0), id, None)
}

/// A record under the id of the bytes that it decodes to.
pub(crate) fn record(raw: &[u8], bytes: Vec<u8>, depth: u8, inputs: &[&[u8]]) -> Record {
    Record {
        chunk: hash::chunk_id(raw),
        bytes,
        raw_len: u32::try_from(raw.len()).unwrap(),
        depth,
        inputs: inputs.iter().map(|i| hash::chunk_id(i)).collect(),
    }
}

/// A pack's id that no pack has.
pub(crate) fn no_pack() -> PackHint {
    PackHint {
        pack: PackId([0xee; 32]),
        len: 4096,
    }
}

/// A chunk's id that no bytes have.
pub(crate) fn no_chunk() -> ChunkId {
    ChunkId([0xdd; 32])
}
