//! Packs: records, an index and a trailer (format-spec.md section 9).

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::envelope::ENVELOPE_LEN;
use crate::format::limits;
use crate::format::record::{RECORD_ALIGN, RECORD_FIXED_LEN};
use crate::hash;
use crate::id::{ChunkId, PackId};

/// Bytes of a pack's trailer.
pub const TRAILER_LEN: usize = 32;
/// The trailer's first four bytes.
pub const TRAILER_MAGIC: [u8; 4] = *b"MPKE";
/// Bytes of one index entry.
pub const ENTRY_LEN: usize = 64;

/// One record, as the index describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The chunk it decodes to.
    pub chunk: ChunkId,
    /// Where the record starts in the pack.
    pub offset: u64,
    /// Bytes of the record.
    pub stored_len: u32,
    /// Bytes of the decoded chunk.
    pub raw_len: u32,
    /// CRC-32 of the record's bytes.
    pub crc32: u32,
    /// Restore cost of the record and all it needs, in raw bytes read (section 12.3).
    pub cost: u32,
    /// Advice to writers: bytes stored against this record's base up to this record, the
    /// base's own included (section 12.4).
    pub cycle_len: u32,
    /// Advice to writers: how many records of that cycle come before this one.
    pub age: u16,
    /// 0 without inputs, else more than each input's.
    pub depth: u8,
    /// The chunks needed to decode it, in the order the predictor takes them.
    pub inputs: Vec<ChunkId>,
}

/// Where a pack's index lies, from the pack's last bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// First byte of the index; the records end there.
    pub index_offset: u64,
    /// Bytes of the index.
    pub index_len: u64,
    /// Bytes of the whole pack.
    pub pack_len: u64,
}

impl Trailer {
    /// The trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.bytes(&TRAILER_MAGIC)
            .u64(self.index_offset)
            .u64(self.index_len)
            .u64(self.pack_len);
        let crc = hash::crc32(w.as_slice());
        w.u32(crc);
        w.finish()
    }

    /// Reads the last [`TRAILER_LEN`] bytes of a file of `file_len` bytes.
    ///
    /// # Errors
    /// `Corrupt` if they are no trailer of such a file.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self> {
        let at = file_len.saturating_sub(TRAILER_LEN as u64);
        let mut r = Reader::new(bytes, at);
        let magic = r.array::<4>()?;
        let trailer = Self {
            index_offset: r.u64()?,
            index_len: r.u64()?,
            pack_len: r.u64()?,
        };
        let (expected, found) = (
            r.u32()?,
            hash::crc32(bytes.get(..TRAILER_LEN - 4).unwrap_or_default()),
        );
        r.finish()?;
        if magic != TRAILER_MAGIC || expected != found {
            return Err(
                Error::corrupt("pack-trailer", "a pack's trailer is damaged or missing")
                    .offset(at)
                    .differs(format!("{expected:#010x}"), format!("{found:#010x}")),
            );
        }
        let index_end = trailer.index_offset.checked_add(trailer.index_len);
        let file_end = index_end.and_then(|end| end.checked_add(TRAILER_LEN as u64));
        let consistent = trailer.pack_len == file_len
            && file_len <= limits::PACK_LEN_MAX
            && trailer.index_offset >= ENVELOPE_LEN as u64
            && file_end == Some(file_len)
            && trailer.index_len <= index_len_max();
        if !consistent {
            return Err(
                Error::corrupt("pack-length", "a pack is not as long as its trailer says")
                    .offset(at)
                    .differs(trailer.pack_len, file_len),
            );
        }
        Ok(trailer)
    }
}

fn index_len_max() -> u64 {
    let per_record = (ENTRY_LEN + limits::INPUTS_MAX * ChunkId::LEN) as u64;
    8 + u64::from(limits::RECORDS_MAX) * per_record
}

/// Most bytes that a record takes in a pack beside its own: padding, and its part of the index.
#[must_use]
pub fn footprint(entry: &IndexEntry) -> u64 {
    RECORD_ALIGN - 1 + (ENTRY_LEN + entry.inputs.len() * ChunkId::LEN) as u64
}

/// The index's bytes and the pack's id; entries are sorted by chunk here.
///
/// # Errors
/// `Limit` if there are too many records or inputs.
pub fn encode_index(entries: &mut [IndexEntry]) -> Result<(Vec<u8>, PackId)> {
    entries.sort_by_key(|e| e.chunk);
    let inputs: usize = entries.iter().map(|e| e.inputs.len()).sum();
    let mut w = Writer::new();
    w.count(entries.len(), limits::RECORDS_MAX)?
        .count(inputs, u32::MAX)?;
    for e in entries.iter() {
        let input_count = u8::try_from(e.inputs.len()).map_err(|_| {
            Error::new(
                crate::ErrorKind::Limit,
                "inputs",
                "a record has more than 255 inputs",
            )
        })?;
        w.bytes(&e.chunk.0)
            .u64(e.offset)
            .u32(e.stored_len)
            .u32(e.raw_len)
            .u32(e.crc32);
        w.u32(e.cost)
            .u32(e.cycle_len)
            .u16(e.age)
            .u8(e.depth)
            .u8(input_count);
    }
    for input in entries.iter().flat_map(|e| &e.inputs) {
        w.bytes(&input.0);
    }
    let bytes = w.finish();
    let id = hash::pack_id(&bytes);
    Ok((bytes, id))
}

/// Reads an index and checks every rule that needs no record: order, extents, depths.
///
/// # Errors
/// `Corrupt` if a rule of section 9.3 is broken; `Limit` above a limit.
pub fn decode_index(bytes: &[u8], index_offset: u64) -> Result<Vec<IndexEntry>> {
    let mut r = Reader::new(bytes, index_offset);
    let count = r.count(limits::RECORDS_MAX, ENTRY_LEN)?;
    let inputs_count = r.u32()? as usize;
    let fixed = r.bytes(count * ENTRY_LEN)?;
    let mut inputs = r.clone();
    if inputs_count.checked_mul(ChunkId::LEN) != Some(inputs.left()) {
        return Err(
            Error::corrupt("index-length", "a pack's index does not end where it says")
                .offset(r.at())
                .differs(
                    format!("{inputs_count} inputs"),
                    format!("{} bytes", r.left()),
                ),
        );
    }
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
    for (i, chunk) in fixed.chunks_exact(ENTRY_LEN).enumerate() {
        let at = index_offset.saturating_add(8 + (i * ENTRY_LEN) as u64);
        let entry = decode_entry(&mut Reader::new(chunk, at), &mut inputs)?;
        if entries.last().is_some_and(|last| last.chunk >= entry.chunk) {
            return Err(Error::corrupt("index-order", "a pack's index is not sorted").offset(at));
        }
        entries.push(entry);
    }
    inputs.finish()?;
    check_extents(&entries, index_offset)?;
    Ok(entries)
}

fn decode_entry(r: &mut Reader<'_>, inputs: &mut Reader<'_>) -> Result<IndexEntry> {
    let at = r.at();
    let chunk = ChunkId(r.array()?);
    let offset = r.u64()?;
    let (stored_len, raw_len, crc32) = (r.u32()?, r.u32()?, r.u32()?);
    let (cost, cycle_len) = (r.u32()?, r.u32()?);
    let (age, depth, input_count) = (r.u16()?, r.u8()?, r.u8()?);
    let inputs = (0..input_count)
        .map(|_| Ok(ChunkId(inputs.array()?)))
        .collect::<Result<Vec<_>>>()?;
    let sane = raw_len > 0
        && raw_len <= limits::CHUNK_LEN_MAX
        && stored_len as usize >= RECORD_FIXED_LEN
        && stored_len <= raw_len.saturating_add(limits::RECORD_OVERHEAD_MAX)
        && (depth == 0) == inputs.is_empty()
        && !inputs.contains(&chunk);
    if !sane {
        return Err(
            Error::corrupt("index-entry", "an entry of a pack's index breaks its rules")
                .offset(at)
                .subject(format!("chunk {chunk}")),
        );
    }
    let entry = IndexEntry {
        chunk,
        offset,
        stored_len,
        raw_len,
        crc32,
        cost,
        cycle_len,
        age,
        depth,
        inputs,
    };
    Ok(entry)
}

/// Records tile the pack's body: each starts where the one before ends, rounded up.
fn check_extents(entries: &[IndexEntry], index_offset: u64) -> Result<()> {
    let mut extents: Vec<(u64, u32)> = entries.iter().map(|e| (e.offset, e.stored_len)).collect();
    extents.sort_unstable();
    let mut at = ENVELOPE_LEN as u64;
    for (offset, len) in extents {
        if offset != at {
            return Err(Error::corrupt(
                "record-extent",
                "records of a pack overlap or leave a hole",
            )
            .offset(offset)
            .differs(at, offset));
        }
        at = (offset + u64::from(len)).next_multiple_of(RECORD_ALIGN);
    }
    if at != index_offset {
        return Err(
            Error::corrupt("record-extent", "records of a pack do not end at its index")
                .offset(index_offset)
                .differs(index_offset, at),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u8, offset: u64, inputs: Vec<ChunkId>) -> IndexEntry {
        let depth = u8::from(!inputs.is_empty());
        IndexEntry {
            chunk: ChunkId([tag; 32]),
            offset,
            stored_len: 20,
            raw_len: 64,
            crc32: 7,
            cost: 84,
            cycle_len: 20,
            age: 0,
            depth,
            inputs,
        }
    }

    fn sample() -> (Vec<IndexEntry>, Vec<u8>) {
        let mut entries = vec![
            entry(9, 32, vec![]),
            entry(3, 64, vec![ChunkId([9; 32]), ChunkId([1; 32])]),
        ];
        let (bytes, _) = encode_index(&mut entries).unwrap();
        (entries, bytes)
    }

    #[test]
    fn index_round_trips_sorted() {
        let (entries, bytes) = sample();
        assert_eq!(decode_index(&bytes, 96).unwrap(), entries);
        assert_eq!(entries[0].chunk, ChunkId([3; 32]));
    }

    #[test]
    fn holes_overlaps_and_prefixes_are_refused() {
        let (_, bytes) = sample();
        assert!(decode_index(&bytes, 112).is_err());
        for len in 0..bytes.len() {
            assert!(decode_index(&bytes[..len], 96).is_err(), "prefix {len}");
        }
    }

    #[test]
    fn trailer_refuses_every_flip_and_other_lengths() {
        let trailer = Trailer {
            index_offset: 32,
            index_len: 8,
            pack_len: 72,
        };
        let good = trailer.encode();
        assert_eq!(good.len(), TRAILER_LEN);
        assert_eq!(Trailer::decode(&good, 72).unwrap(), trailer);
        assert!(Trailer::decode(&good, 73).is_err());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::decode(&bad, 72).is_err(), "bit {bit}");
        }
    }

    /// Where the index ends behind all numbers and the file is shorter than a trailer, neither end
    /// could be told, and two that could not be told were taken for the same.
    #[test]
    fn a_trailer_whose_index_ends_nowhere_is_refused() {
        for file_len in [0, 31, 32, 72, u64::MAX] {
            for index_offset in [32, u64::MAX - 31, u64::MAX - 7, u64::MAX] {
                let trailer = Trailer {
                    index_offset,
                    index_len: 8,
                    pack_len: file_len,
                };
                let decoded = Trailer::decode(&trailer.encode(), file_len);
                assert_eq!(decoded.is_ok(), (index_offset, file_len) == (32, 72));
            }
        }
    }
}
