//! The sections of a manifest (format-spec.md section 11.1): kind, coder, lengths, checksum.

use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::{Reader, Writer};
use crate::format::envelope::{self, FileKind};
use crate::format::limits;
use crate::hash::crc32;

/// Set in the kind of a section that a reader may skip when it does not know it.
pub const IGNORABLE: u32 = 1 << 31;
/// The checkpoint's identity: its hash is the checkpoint's id.
pub const BODY: u32 = 1;
/// Where and when it was saved: run, sequence number, time, sizes.
pub const PLACEMENT: u32 = 2;
/// The tensors that are not kept any more.
pub const DROPPED: u32 = 5;
/// Hints: the packs that a restore opens.
pub const PACKS: u32 = IGNORABLE | 3;
/// What the save measured, tensor by tensor.
pub const STATISTICS: u32 = IGNORABLE | 4;
/// Which tensors were made from which.
pub const RELATIONS: u32 = IGNORABLE | 6;

/// Section bytes stored as they are.
pub const CODER_RAW: u32 = 0;
/// Section bytes stored as one zstd frame.
pub const CODER_ZSTD: u32 = 1;

const ENTRY_LEN: usize = 20;

/// One section as it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// What it holds.
    pub kind: u32,
    /// How it is stored.
    pub coder: u32,
    /// Bytes once decoded.
    pub raw_len: u32,
    /// Its stored bytes, checked against their checksum.
    pub stored: &'a [u8],
}

/// A whole manifest file of these sections, sorted by kind.
///
/// # Errors
/// `Limit` if a section is too long.
pub fn encode_file(sections: &mut [Section<'_>]) -> Result<Vec<u8>> {
    sections.sort_by_key(|s| s.kind);
    let mut table = Writer::new();
    table.count(sections.len(), limits::SECTIONS_MAX)?;
    for s in sections.iter() {
        let len = u32::try_from(s.stored.len()).unwrap_or(u32::MAX);
        if len > limits::SECTION_LEN_MAX || s.raw_len > limits::SECTION_LEN_MAX {
            return Err(Error::new(
                ErrorKind::Limit,
                "section-length",
                "a manifest is too large",
            ));
        }
        table
            .u32(s.kind)
            .u32(s.coder)
            .u32(s.raw_len)
            .u32(len)
            .u32(crc32(s.stored));
    }
    let mut w = Writer::new();
    w.bytes(&envelope::encode(FileKind::Manifest))
        .bytes(table.as_slice());
    w.u32(crc32(table.as_slice()));
    for s in sections.iter() {
        w.bytes(s.stored);
    }
    Ok(w.finish())
}

/// Reads a manifest file's sections: kinds strictly ascending, bytes to the end, every
/// checksum right, no unknown kind that is not ignorable.
///
/// # Errors
/// `Corrupt`, `Unsupported` or `Limit`, by the rule that is broken.
pub fn decode_file(file: &[u8]) -> Result<Vec<Section<'_>>> {
    let mut r = Reader::new(file, 0);
    envelope::decode(&mut r, FileKind::Manifest)?;
    let table_at = r.at();
    let mut ahead = r.clone();
    let damaged = |what| Error::corrupt("section-table", what).offset(table_at);
    // The count is not checked yet, so one that is too large is damage, not a limit.
    let count = ahead.count(limits::SECTIONS_MAX, ENTRY_LEN);
    let count =
        count.map_err(|_| damaged("a manifest has no section table of a possible length"))?;
    let table = r.bytes(4 + count * ENTRY_LEN)?;
    let (expected, found) = (r.u32()?, crc32(table));
    if expected != found {
        return Err(damaged("a manifest's section table fails its checksum")
            .differs(format!("{expected:#010x}"), format!("{found:#010x}")));
    }
    let mut sections: Vec<Section<'_>> = Vec::with_capacity(count);
    for _ in 0..count {
        ahead = decode_section(ahead, &mut r, &mut sections)?;
    }
    r.finish()?;
    Ok(sections)
}

fn decode_section<'a>(
    mut table: Reader<'a>,
    payload: &mut Reader<'a>,
    sections: &mut Vec<Section<'a>>,
) -> Result<Reader<'a>> {
    let at = table.at();
    let (kind, coder, raw_len) = (table.u32()?, table.u32()?, table.u32()?);
    let (stored_len, expected) = (table.u32()?, table.u32()?);
    if raw_len > limits::SECTION_LEN_MAX {
        return Err(Error::new(
            ErrorKind::Limit,
            "section-length",
            "a manifest section is too long",
        )
        .offset(at)
        .differs(limits::SECTION_LEN_MAX, raw_len));
    }
    if sections.last().is_some_and(|last| last.kind >= kind) {
        return Err(
            Error::corrupt("section-order", "manifest sections are not in order").offset(at),
        );
    }
    if kind & IGNORABLE == 0 && ![BODY, PLACEMENT, DROPPED].contains(&kind) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "section-kind",
            format!("a manifest has a section of unknown kind {kind}"),
        )
        .offset(at)
        .hint("upgrade milepost"));
    }
    let stored_at = payload.at();
    let stored = payload.bytes(stored_len as usize)?;
    let found = crc32(stored);
    if expected != found {
        return Err(
            Error::corrupt("section-checksum", "a manifest section fails its checksum")
                .offset(stored_at)
                .differs(format!("{expected:#010x}"), format!("{found:#010x}")),
        );
    }
    sections.push(Section {
        kind,
        coder,
        raw_len,
        stored,
    });
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_and_flip_is_refused() {
        let mut sections = [
            Section {
                kind: PLACEMENT,
                coder: 0,
                raw_len: 3,
                stored: b"abc",
            },
            Section {
                kind: BODY,
                coder: 0,
                raw_len: 2,
                stored: b"xy",
            },
        ];
        let good = encode_file(&mut sections).unwrap();
        assert_eq!(decode_file(&good).unwrap(), sections);
        for len in 0..good.len() {
            assert!(decode_file(&good[..len]).is_err(), "prefix {len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_file(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn unknown_sections_are_skipped_only_when_ignorable() {
        let with = |kind| {
            encode_file(&mut [Section {
                kind,
                coder: 0,
                raw_len: 1,
                stored: b"z",
            }])
            .unwrap()
        };
        assert!(decode_file(&with(IGNORABLE | 77)).is_ok());
        assert_eq!(
            decode_file(&with(77)).unwrap_err().kind(),
            ErrorKind::Unsupported
        );
    }
}
