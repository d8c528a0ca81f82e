//! Right checksums around arbitrary bytes: a fuzzer cannot guess a CRC, so the targets make it.

use milepost_engine::format::cursor::Writer;
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::hash;

/// A file of that kind: envelope, `body`, CRC-32.
#[must_use]
pub fn file(kind: FileKind, body: &[u8]) -> Vec<u8> {
    sealed([&envelope::encode(kind), body].concat())
}

/// `bytes` with their CRC-32 behind.
#[must_use]
pub fn sealed(bytes: Vec<u8>) -> Vec<u8> {
    let mut w = Writer::new();
    w.bytes(&bytes).u32(hash::crc32(&bytes));
    w.finish()
}

/// Puts right every checksum of a store's file that is known to lie at a fixed place, so that
/// mutations reach what is behind it.
pub fn reseal(path: &str, file: &mut [u8]) {
    seal_range(file, 0, envelope::ENVELOPE_LEN);
    let len = file.len();
    if path == "FORMAT" || path.starts_with("tags/") || path.starts_with("cache/") {
        seal_range(file, 0, len);
    } else if path.ends_with(".pack") {
        seal_range(file, len.saturating_sub(32), len);
    }
}

/// The last four bytes of a range become the CRC-32 of those before.
fn seal_range(file: &mut [u8], start: usize, end: usize) {
    let Some((body, crc)) = file
        .get_mut(start..end)
        .and_then(|range| range.split_last_chunk_mut::<4>())
    else {
        return;
    };
    *crc = hash::crc32(body).to_le_bytes();
}
