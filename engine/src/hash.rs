//! Bytes to ids (format-spec.md section 7).

use crate::id::{CheckpointId, ChunkId, PackId};

/// BLAKE3 key-derivation context of a pack's id.
pub const PACK_CONTEXT: &str = "milepost v1 pack index";
/// BLAKE3 key-derivation context of a checkpoint's id.
pub const CHECKPOINT_CONTEXT: &str = "milepost v1 checkpoint body";

/// BLAKE3 key-derivation context of what the writer of a part hands over.
pub const PART_CONTEXT: &str = "milepost v1 part";

/// The id of a chunk: plain BLAKE3-256 of its raw bytes.
#[must_use]
pub fn chunk_id(raw: &[u8]) -> ChunkId {
    ChunkId(*blake3::hash(raw).as_bytes())
}

/// The id of a pack, from the bytes of its index.
#[must_use]
pub fn pack_id(index: &[u8]) -> PackId {
    PackId(blake3::derive_key(PACK_CONTEXT, index))
}

/// The id of a checkpoint, from the bytes of its manifest's body.
#[must_use]
pub fn checkpoint_id(body: &[u8]) -> CheckpointId {
    CheckpointId(blake3::derive_key(CHECKPOINT_CONTEXT, body))
}

/// The hash at the end of a part, of all bytes before it.
#[must_use]
pub fn part_hash(bytes: &[u8]) -> [u8; 32] {
    blake3::derive_key(PART_CONTEXT, bytes)
}

/// CRC-32 (ISO-HDLC, as in gzip and PNG).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors() {
        assert_eq!(
            chunk_id(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_same_bytes_have_different_ids_in_different_roles() {
        assert_ne!(pack_id(b"x").0, checkpoint_id(b"x").0);
        assert_ne!(pack_id(b"x").0, chunk_id(b"x").0);
    }
}
