//! Tag files (format-spec.md section 13): a name for a checkpoint, replaced atomically.

use crate::error::{Error, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::envelope::{self, FileKind};
use crate::hash::crc32;
use crate::id::CheckpointId;

/// The bytes of a tag for `id`.
#[must_use]
pub fn encode(id: &CheckpointId) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(&envelope::encode(FileKind::Tag)).bytes(&id.0);
    let crc = crc32(w.as_slice());
    w.u32(crc);
    w.finish()
}

/// Reads a tag.
///
/// # Errors
/// `Corrupt` or `Unsupported`.
pub fn decode(file: &[u8]) -> Result<CheckpointId> {
    let mut r = Reader::new(file, 0);
    envelope::decode(&mut r, FileKind::Tag)?;
    let id = CheckpointId(r.array()?);
    let (expected, at) = (r.u32()?, r.at() - 4);
    r.finish()?;
    let found = crc32(file.get(..file.len() - 4).unwrap_or_default());
    if expected != found {
        return Err(Error::corrupt("tag-checksum", "a tag fails its checksum")
            .offset(at)
            .differs(format!("{expected:#010x}"), format!("{found:#010x}")));
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_every_flip_and_prefix() {
        let id = CheckpointId([7; 32]);
        let good = encode(&id);
        assert_eq!(decode(&good).unwrap(), id);
        for len in 0..good.len() {
            assert!(decode(&good[..len]).is_err());
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }
}
