//! The parts of a manifest as a fuzzer gives them.

use arbitrary::Arbitrary;
use milepost_engine::Result;
use milepost_engine::format::section::{self, Section};

/// One section, its numbers folded into what is worth trying.
#[derive(Arbitrary, Debug)]
pub struct Part {
    kind: u8,
    coder: u8,
    raw_len: u32,
    stored: Vec<u8>,
}

impl Part {
    fn section(&self) -> Section<'_> {
        let kinds = [
            section::BODY,
            section::PLACEMENT,
            section::PACKS,
            section::STATISTICS,
            9,
        ];
        // A raw section has its own length, so that what is behind the check is reached.
        let own_len = u32::try_from(self.stored.len()).unwrap_or(u32::MAX);
        let raw_len = if self.coder == 0 {
            own_len
        } else {
            self.raw_len % (1 << 22)
        };
        Section {
            kind: kinds[usize::from(self.kind) % kinds.len()],
            coder: self.coder.into(),
            raw_len,
            stored: &self.stored,
        }
    }
}

/// A manifest's file of these sections, every checksum right.
///
/// # Errors
/// Never for what a fuzzer can give.
pub fn file(parts: &[Part]) -> Result<Vec<u8>> {
    let mut sections: Vec<Section<'_>> = parts.iter().take(64).map(Part::section).collect();
    section::encode_file(&mut sections)
}
