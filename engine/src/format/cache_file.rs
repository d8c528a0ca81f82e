//! Cache files (format-spec.md section 5.5): items, each a byte string, behind an envelope.

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::envelope::{self, FileKind};
use crate::format::pack::{self, IndexEntry, TRAILER_LEN};
use crate::hash;
use crate::id::PackId;

/// The bytes of a cache file: the envelope, the items, a CRC-32 behind.
#[must_use]
pub fn encode(items: &[Vec<u8>]) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(&envelope::encode(FileKind::Cache))
        .u64(items.len() as u64);
    for item in items {
        w.u64(item.len() as u64).bytes(item);
    }
    let crc = hash::crc32(w.as_slice());
    w.u32(crc);
    w.finish()
}

/// The items of a cache file.
///
/// # Errors
/// `Corrupt` or `Unsupported`, by the rule that is broken.
pub fn decode(file: &[u8]) -> Result<Vec<&[u8]>> {
    let mut r = Reader::new(file, 0);
    envelope::decode(&mut r, FileKind::Cache)?;
    let (body, crc) = file.split_at(file.len() - 4);
    if crc != hash::crc32(body).to_le_bytes() {
        return Err(Error::corrupt(
            "cache-checksum",
            "a cache fails its checksum",
        ));
    }
    let count = r.u64()?;
    let mut items = Vec::new();
    for _ in 0..count {
        let len = usize::try_from(r.u64()?).unwrap_or(usize::MAX);
        items.push(r.bytes(len)?);
    }
    r.u32()?;
    r.finish()?;
    Ok(items)
}

/// An item of a cache of indexes: a pack's length and its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedIndex {
    /// The pack's id: the hash of its index.
    pub pack: PackId,
    /// Bytes of the whole pack.
    pub len: u64,
    /// Its records.
    pub entries: Vec<IndexEntry>,
}

impl CachedIndex {
    /// The item's bytes.
    ///
    /// # Errors
    /// `Limit` if there are too many records or inputs.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        let (index, _) = pack::encode_index(&mut self.entries)?;
        let behind = (index.len() + TRAILER_LEN) as u64;
        let mut w = Writer::new();
        w.bytes(&self.pack.0)
            .u64(self.len)
            .u64(self.len.saturating_sub(behind))
            .bytes(&index);
        Ok(w.finish())
    }

    /// Reads an item; `None` if its pack is not wanted or the index is not the pack's.
    ///
    /// # Errors
    /// `Corrupt` or `Limit`, by the rule that is broken.
    pub fn decode(item: &[u8], wanted: impl Fn(&PackId) -> bool) -> Result<Option<Self>> {
        let mut r = Reader::new(item, 0);
        let (pack, len, index_offset) = (PackId(r.array()?), r.u64()?, r.u64()?);
        if !wanted(&pack) {
            return Ok(None);
        }
        let index = r.bytes(r.left())?;
        if hash::pack_id(index) != pack {
            return Ok(None);
        }
        let entries = pack::decode_index(index, index_offset)?;
        Ok(Some(Self { pack, len, entries }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cache_is_refused() {
        let items = vec![b"one".to_vec(), vec![], b"three".to_vec()];
        let good = encode(&items);
        assert_eq!(decode(&good).unwrap(), items);
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err(), "prefix {len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }
}
