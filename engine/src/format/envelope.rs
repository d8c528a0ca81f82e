//! The 32 bytes that open every file of a store (format-spec.md section 6).

use crate::error::{Error, ErrorKind, Result};
use crate::format::cursor::{Reader, Writer};
use crate::hash::crc32;

/// The first eight bytes: a byte above 127, the name, and the line endings that text-mode
/// transfers damage.
pub const MAGIC: [u8; 8] = *b"\x8dMPS\r\n\x1a\n";
/// Bytes of an envelope.
pub const ENVELOPE_LEN: usize = 32;
/// The format's major version: a reader refuses a larger one.
pub const VERSION_MAJOR: u16 = 1;
/// The format's minor version: a reader accepts a larger one.
pub const VERSION_MINOR: u16 = 5;
/// Feature flags without which this reader can read; none are defined yet.
pub const READER_FLAGS_KNOWN: u32 = 0;
/// Feature flags without which this writer can write; none are defined yet.
pub const WRITER_FLAGS_KNOWN: u32 = 0;

/// Which structure follows the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// The store's FORMAT file.
    Store,
    /// A pack of records.
    Pack,
    /// A checkpoint's manifest.
    Manifest,
    /// A tag.
    Tag,
    /// The cache of what manifests and packs say.
    Cache,
}

impl FileKind {
    /// The four bytes on disk.
    #[must_use]
    pub const fn code(self) -> [u8; 4] {
        match self {
            Self::Store => *b"STOR",
            Self::Pack => *b"PACK",
            Self::Manifest => *b"CKPT",
            Self::Tag => *b"TAG ",
            Self::Cache => *b"CACH",
        }
    }
}

/// What an envelope says beyond magic and kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Minor version of the writer.
    pub minor: u16,
    /// Features that a writer must know before it adds to the store.
    pub writer_flags: u32,
}

/// The envelope of a file of this version.
#[must_use]
pub fn encode(kind: FileKind) -> [u8; ENVELOPE_LEN] {
    let mut w = Writer::new();
    w.bytes(&MAGIC).bytes(&kind.code());
    w.u16(VERSION_MAJOR).u16(VERSION_MINOR).u32(0).u32(0).u32(0);
    let crc = crc32(w.as_slice());
    w.u32(crc);
    let mut out = [0; ENVELOPE_LEN];
    out.copy_from_slice(w.as_slice());
    out
}

/// Reads an envelope: magic, checksum, kind, version, flags, in this order.
///
/// # Errors
/// `Corrupt` if it is none or damaged, `Unsupported` if a newer major version or an unknown
/// reader flag is needed.
pub fn decode(reader: &mut Reader<'_>, kind: FileKind) -> Result<Envelope> {
    let at = reader.at();
    let bytes = reader.bytes(ENVELOPE_LEN)?;
    let mut r = Reader::new(bytes, at);
    if r.array::<8>()? != MAGIC {
        return Err(Error::corrupt("magic", "this is not a milepost file").offset(at));
    }
    let found_kind = r.array::<4>()?;
    let (major, minor) = (r.u16()?, r.u16()?);
    let (reader_flags, writer_flags, reserved) = (r.u32()?, r.u32()?, r.u32()?);
    let (expected, found) = (
        r.u32()?,
        crc32(bytes.get(..ENVELOPE_LEN - 4).unwrap_or_default()),
    );
    if expected != found {
        return Err(
            Error::corrupt("envelope-checksum", "a file's envelope fails its checksum")
                .offset(at)
                .differs(format!("{expected:#010x}"), format!("{found:#010x}")),
        );
    }
    if found_kind != kind.code() {
        return Err(
            Error::corrupt("file-kind", "a file is of another kind than its place says")
                .offset(at + 8)
                .differs(kind.code().escape_ascii(), found_kind.escape_ascii()),
        );
    }
    if major != VERSION_MAJOR || reader_flags & !READER_FLAGS_KNOWN != 0 {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "format-version",
            "the file needs a newer milepost",
        )
        .offset(at + 12)
        .differs(
            format!("version {VERSION_MAJOR}, reader flags within {READER_FLAGS_KNOWN:#x}"),
            format!("version {major}.{minor}, reader flags {reader_flags:#x}"),
        )
        .hint("upgrade milepost, or read the store with the version that wrote it"));
    }
    if reserved != 0 {
        return Err(Error::corrupt("reserved", "a reserved field is not zero").offset(at + 24));
    }
    Ok(Envelope {
        minor,
        writer_flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resealed(change: impl Fn(&mut [u8; ENVELOPE_LEN])) -> [u8; ENVELOPE_LEN] {
        let mut bytes = encode(FileKind::Pack);
        change(&mut bytes);
        let crc = crc32(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn every_flipped_byte_is_refused() {
        let good = encode(FileKind::Pack);
        decode(&mut Reader::new(&good, 0), FileKind::Pack).unwrap();
        for i in 0..good.len() {
            let mut bad = good;
            bad[i] ^= 0x40;
            assert!(
                decode(&mut Reader::new(&bad, 0), FileKind::Pack).is_err(),
                "byte {i}"
            );
        }
    }

    #[test]
    fn a_newer_file_is_unsupported_not_corrupt() {
        for at in [12, 16] {
            let bytes = resealed(|b| b[at] = 2);
            let error = decode(&mut Reader::new(&bytes, 0), FileKind::Pack).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        let minor = resealed(|b| b[14] = 9);
        assert_eq!(
            decode(&mut Reader::new(&minor, 0), FileKind::Pack)
                .unwrap()
                .minor,
            9
        );
    }
}
