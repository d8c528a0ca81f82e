//! Stores that no writer made: any packs, records that need each other in any way, checkpoints
//! that name any of it. Every checksum and name is right, unless a record is flawed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arbitrary::Arbitrary;
use milepost_engine::format::body::{Body, TensorEntry};
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::format::manifest::Manifest;
use milepost_engine::format::pack::{self, IndexEntry, Trailer};
use milepost_engine::format::placement::{PackHint, Placement};
use milepost_engine::format::record::{RECORD_ALIGN, RecordHead, encode_head};
use milepost_engine::format::tag;
use milepost_engine::{CheckpointId, ChunkId, Dtype, Durability, PackId, Result, codec, hash};

use crate::memory_disk::Files;
use crate::small_store::settings;

/// Bytes of every chunk.
const LEN: u8 = 16;
/// Chunks that there are.
const CHUNKS: u8 = 7;
/// The boot of the disk that holds the store.
const THIS_BOOT: [u8; 16] = [1; 16];

/// What is wrong with a record, if anything.
#[derive(Arbitrary, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing; there are several so that most records are sound.
    None,
    /// Nothing.
    Nor,
    /// Nothing.
    Neither,
    /// Its checksum is wrong.
    Damaged,
    /// Its bytes are another chunk's.
    Lies,
}

/// A record of a pack.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct GivenRecord {
    chunk: u8,
    input: Option<u8>,
    depth: u8,
    cost: u16,
    flaw: Flaw,
}

/// A checkpoint of two tensors.
#[derive(Arbitrary, Clone, Debug)]
pub struct GivenCheckpoint {
    of_side: bool,
    seq: u8,
    step: u8,
    parent: Option<u8>,
    weights: [u8; 2],
    moments: [u8; 2],
    hints: u8,
    drops: bool,
    is_relaxed: bool,
    of_this_boot: bool,
}

/// A store.
#[derive(Arbitrary, Clone, Debug)]
pub struct Graph {
    packs: [[GivenRecord; 4]; 3],
    checkpoints: [GivenCheckpoint; 3],
    /// Whether records have the flaws that they were given.
    has_flaws: bool,
    tagged: u8,
}

/// The bytes of a chunk.
fn bytes(chunk: u8) -> [u8; LEN as usize] {
    let mut bytes = [chunk % CHUNKS; LEN as usize];
    bytes[0] = 1;
    bytes
}

fn id(chunk: u8) -> ChunkId {
    hash::chunk_id(&bytes(chunk))
}

impl Graph {
    /// Whether every record makes the bytes that its chunk names. A collection reads indexes,
    /// and of a chunk's records may keep the one that is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.has_flaws
    }

    /// The files of the store.
    ///
    /// # Errors
    /// Never for what a fuzzer can give.
    pub fn files(&self) -> Result<Files> {
        let mut files = Files::new();
        files.insert("FORMAT".into(), Arc::new(settings().encode()?));
        let mut hints = Vec::new();
        for records in &self.packs {
            let (pack, file) = pack_of(records, self.has_flaws)?;
            let len = file.len() as u64;
            hints.push(PackHint { pack, len });
            let path = format!("packs/{:02x}/{pack}.pack", pack.0[0]);
            files.insert(path, Arc::new(file));
        }
        // One that is nowhere.
        let pack = PackId([9; 32]);
        hints.push(PackHint { pack, len: 500 });
        let mut ids = Vec::new();
        for given in &self.checkpoints {
            let manifest = manifest_of(given, &hints, &ids)?;
            let Placement { run, seq, .. } = &manifest.placement;
            let path = format!("runs/{run}/{seq:020}-{}.ckpt", manifest.id);
            let file = manifest.encode(&codec::compress_section)?;
            files.insert(path, Arc::new(file));
            ids.push(manifest.id);
        }
        if let Some(tagged) = ids.get(usize::from(self.tagged)) {
            files.insert("tags/best".into(), Arc::new(tag::encode(tagged)));
        }
        Ok(files)
    }
}

fn pack_of(given: &[GivenRecord], has_flaws: bool) -> Result<(PackId, Vec<u8>)> {
    let mut file = envelope::encode(FileKind::Pack).to_vec();
    // An index names a chunk once.
    let by_chunk: BTreeMap<u8, &GivenRecord> = given
        .iter()
        .map(|record| (record.chunk % CHUNKS, record))
        .collect();
    let mut entries = Vec::new();
    for (chunk, record) in by_chunk {
        let input = record.input.map(|i| i % CHUNKS).filter(|i| *i != chunk);
        let flaw = if has_flaws { record.flaw } else { Flaw::None };
        let stored = record_of(chunk, input, flaw)?;
        entries.push(IndexEntry {
            chunk: id(chunk),
            offset: file.len() as u64,
            stored_len: u32::try_from(stored.len()).unwrap_or_default(),
            raw_len: LEN.into(),
            crc32: hash::crc32(&stored) ^ u32::from(flaw == Flaw::Damaged),
            cost: record.cost.into(),
            cycle_len: 0,
            age: 0,
            depth: input.map_or(0, |_| record.depth.max(1)),
            inputs: input.map(id).into_iter().collect(),
        });
        file.extend(stored);
        let end = (file.len() as u64).next_multiple_of(RECORD_ALIGN);
        file.resize(usize::try_from(end).unwrap_or_default(), 0);
    }
    let index_offset = file.len() as u64;
    let (index, _) = pack::encode_index(&mut entries)?;
    file.extend(&index);
    let trailer = Trailer {
        index_offset,
        index_len: index.len() as u64,
        pack_len: file.len() as u64 + pack::TRAILER_LEN as u64,
    };
    file.extend(trailer.encode());
    Ok((hash::pack_id(&index), file))
}

/// A record that makes a chunk, alone or by exclusive or with another.
fn record_of(chunk: u8, input: Option<u8>, flaw: Flaw) -> Result<Vec<u8>> {
    let mut stream = bytes(chunk).to_vec();
    if flaw == Flaw::Lies {
        stream[1] ^= 0x55;
    }
    if let Some(input) = input {
        let base = bytes(input);
        stream
            .iter_mut()
            .zip(base)
            .for_each(|(byte, base)| *byte ^= base);
    }
    let head = RecordHead {
        predictor: u8::from(input.is_some()),
        transform: if input.is_some() { 4 } else { 0 },
        layout: 0,
        lane_width: 1,
        inputs: u8::from(input.is_some()),
        raw_len: LEN.into(),
        params: &[],
        streams: Vec::new(),
    };
    let mut record = Vec::new();
    encode_head(&mut record, &head, std::iter::once((0, stream.len())))?;
    record.extend(stream);
    Ok(record)
}

fn manifest_of(
    given: &GivenCheckpoint,
    hints: &[PackHint],
    before: &[CheckpointId],
) -> Result<Manifest> {
    let tensor = |name: &str, chunks: &[u8]| {
        let chunks: Vec<ChunkId> = chunks.iter().map(|c| id(*c)).collect();
        let byte_len = chunks.len() as u64 * u64::from(LEN);
        TensorEntry {
            name: name.into(),
            dtype: Dtype::U8,
            shape: vec![byte_len],
            chunk_elements: LEN.into(),
            byte_len,
            chunks,
        }
    };
    let parent = given.parent.and_then(|p| before.get(usize::from(p)));
    let body = Body {
        parent: parent.copied(),
        step: given.step.into(),
        metrics: [("loss".to_owned(), f64::from(given.cost()))].into(),
        tensors: vec![
            tensor("moments", &given.moments),
            tensor("weights", &given.weights),
        ],
        ..Body::default()
    };
    let durability = match given.is_relaxed {
        true => Durability::Relaxed,
        false => Durability::Durable,
    };
    let placement = Placement {
        run: if given.of_side { "side" } else { "main" }.into(),
        seq: 1 + u64::from(given.seq % 8),
        time_ms: 1000 * u64::from(given.seq),
        durability,
        boot: match given.is_relaxed && given.of_this_boot {
            true => THIS_BOOT,
            false => [0; 16],
        },
        ..Placement::default()
    };
    // Most name all packs; some name one that is nowhere, or too few.
    let hints_of = |bit: u32| given.hints < 128 && bit < 3 || given.hints >> bit & 1 == 1;
    let named = (0u32..).zip(hints).filter(|(bit, _)| hints_of(*bit));
    let named = named.map(|(_, hint)| *hint).collect();
    let mut manifest = Manifest::new(body, placement, named, Vec::new())?;
    manifest.dropped = if given.drops { vec![0] } else { Vec::new() };
    Ok(manifest)
}

impl GivenCheckpoint {
    /// A number for its metric.
    fn cost(&self) -> u8 {
        self.step.wrapping_mul(7) ^ self.seq
    }
}
