//! Envelopes, FORMAT, tags.

use milepost_engine::CheckpointId;
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::format::tag;

use super::{Build, Case, put, reseal, reseal_envelope};

/// Puts a FORMAT field and makes both checksums right.
fn format_field<const N: usize>(b: &mut Build, at: usize, value: [u8; N]) {
    put(&mut b.format, at, value);
    reseal_envelope(&mut b.format);
    reseal(&mut b.format);
}

/// Two attributes, in the wrong order.
fn unsorted_attributes(b: &mut Build) {
    b.format.truncate(64);
    b.format.extend([2, 0, 0, 0]);
    for key in [b'b', b'a'] {
        b.format.extend([1, 0, key, 1, 0, b'x']);
    }
    b.format.extend([0; 4]);
    reseal(&mut b.format);
}

fn trailing_format(b: &mut Build) {
    b.format.extend([0; 4]);
    reseal(&mut b.format);
}

/// Puts a byte of an envelope and makes its checksum right.
fn envelope_byte(file: &mut [u8], at: usize, value: u8) {
    file[at] = value;
    reseal_envelope(file);
}

fn tagged(b: &mut Build, bend: fn(&mut Vec<u8>)) {
    let mut file = tag::encode(&CheckpointId([7; 32]));
    bend(&mut file);
    b.tag = Some(file);
}

macro_rules! case {
    ($name:literal, $rule:literal, $kind:literal / $code:literal at $stage:literal, $what:literal, $bend:expr) => {
        Case {
            name: $name,
            rule: $rule,
            kind: $kind,
            code: $code,
            stage: $stage,
            what: $what,
            bend: $bend,
        }
    };
}
pub(super) use case;

pub(super) const CASES: &[Case] = &[
    case!("format-short", "R1", "corrupt" / "truncated" at "open",
        "FORMAT ends within its envelope", |b| b.format.truncate(20)),
    case!("format-magic", "R4", "corrupt" / "magic" at "open",
        "FORMAT does not begin with the magic", |b| b.format[0] = 0x0d),
    case!("format-envelope-crc", "R5", "corrupt" / "envelope-checksum" at "open",
        "a bit of FORMAT's envelope is flipped", |b| b.format[20] ^= 1),
    case!("format-kind", "R6", "corrupt" / "file-kind" at "open",
    "FORMAT has the envelope of a tag", |b| {
        put(&mut b.format, 0, envelope::encode(FileKind::Tag));
        reseal(&mut b.format);
    }),
    case!("format-newer-major", "R7", "unsupported" / "format-version" at "open",
        "FORMAT is of major version 2", |b| format_field(b, 12, [2])),
    case!("format-reader-flag", "R7", "unsupported" / "format-version" at "open",
        "FORMAT has an unknown reader flag", |b| format_field(b, 16, [1])),
    case!("format-envelope-reserved", "R8", "corrupt" / "reserved" at "open",
        "the reserved field of FORMAT's envelope is not zero", |b| format_field(b, 24, [1])),
    case!("format-crc", "R9", "corrupt" / "format-checksum" at "open",
        "a bit of FORMAT's uuid is flipped", |b| b.format[40] ^= 1),
    case!("format-reserved", "R10", "corrupt" / "format-field" at "open",
        "the reserved field of FORMAT is not zero", |b| format_field(b, 62, [1])),
    case!("format-level", "R10", "corrupt" / "format-field" at "open",
        "FORMAT has an unknown level", |b| format_field(b, 61, [3])),
    case!("format-chunk-len", "R11", "corrupt" / "setting" at "open",
        "FORMAT's chunk_len is 4095", |b| format_field(b, 48, 4095u32.to_le_bytes())),
    case!("format-budget", "R11", "corrupt" / "setting" at "open",
        "FORMAT's restore_budget_milli is 999", |b| format_field(b, 52, 999u32.to_le_bytes())),
    case!("format-trailing", "R12", "corrupt" / "trailing-bytes" at "open",
        "four bytes lie before FORMAT's crc", trailing_format),
    case!("format-attribute-count", "R13", "limit" / "count" at "open",
        "FORMAT says that it has too many attributes",
        |b| format_field(b, 64, 4_194_305u32.to_le_bytes())),
    case!("format-attributes-unsorted", "R16", "corrupt" / "name-order" at "open",
        "FORMAT's attributes are not sorted", unsorted_attributes),
    case!("format-long", "R2", "limit" / "file-length" at "open",
        "FORMAT has 65537 bytes", |b| b.format.resize((64 << 10) + 1, 0)),
    case!("tag-long", "R2", "limit" / "file-length" at "checkpoint",
        "a tag has 65537 bytes", |b| tagged(b, |file| file.resize((64 << 10) + 1, 0))),
    case!("tag-magic", "R4", "corrupt" / "magic" at "checkpoint",
        "a tag does not begin with the magic", |b| tagged(b, |file| file[0] = 0x0d)),
    case!("tag-envelope-crc", "R5", "corrupt" / "envelope-checksum" at "checkpoint",
        "a bit of a tag's envelope is flipped", |b| tagged(b, |file| file[20] ^= 1)),
    case!("tag-kind", "R6", "corrupt" / "file-kind" at "checkpoint",
        "a tag has the envelope of a pack",
        |b| tagged(b, |file| put(file, 0, envelope::encode(FileKind::Pack)))),
    case!("tag-newer-major", "R7", "unsupported" / "format-version" at "checkpoint",
        "a tag is of major version 2", |b| tagged(b, |file| envelope_byte(file, 12, 2))),
    case!("tag-envelope-reserved", "R8", "corrupt" / "reserved" at "checkpoint",
        "the reserved field of a tag's envelope is not zero",
        |b| tagged(b, |file| envelope_byte(file, 24, 1))),
    case!("tag-short", "R1", "corrupt" / "truncated" at "checkpoint",
        "a tag ends within its id", |b| tagged(b, |file| file.truncate(60))),
    case!("tag-trailing", "R12", "corrupt" / "trailing-bytes" at "checkpoint",
        "a byte follows a tag", |b| tagged(b, |file| file.push(0))),
    case!("tag-crc", "R64", "corrupt" / "tag-checksum" at "checkpoint",
        "a bit of a tag's id is flipped", |b| tagged(b, |file| file[40] ^= 1)),
    case!("manifest-magic", "R4", "corrupt" / "magic" at "checkpoint",
        "a manifest does not begin with the magic", |b| b.bend_manifest = |f| f[7] = 0),
    case!("manifest-envelope-crc", "R5", "corrupt" / "envelope-checksum" at "checkpoint",
        "a bit of a manifest's envelope is flipped", |b| b.bend_manifest = |f| f[20] ^= 1),
    case!("manifest-newer-major", "R7", "unsupported" / "format-version" at "checkpoint",
        "a manifest is of major version 2", |b| b.bend_manifest = |f| envelope_byte(f, 12, 2)),
    case!("manifest-envelope-reserved", "R8", "corrupt" / "reserved" at "checkpoint",
        "the reserved field of a manifest's envelope is not zero",
        |b| b.bend_manifest = |f| envelope_byte(f, 24, 1)),
    case!("manifest-kind", "R6", "corrupt" / "file-kind" at "checkpoint",
        "a manifest has the envelope of a pack",
        |b| b.bend_manifest = |f| put(f, 0, envelope::encode(FileKind::Pack))),
    case!("manifest-reader-flag", "R7", "unsupported" / "format-version" at "checkpoint",
    "a manifest has an unknown reader flag", |b| b.bend_manifest = |f| {
        f[19] = 0x80;
        reseal_envelope(f);
    }),
    case!("pack-magic", "R4", "corrupt" / "magic" at "restore",
        "a pack does not begin with the magic", |b| b.bend_pack = |f| f[0] = 0x0d),
    case!("pack-envelope-crc", "R5", "corrupt" / "envelope-checksum" at "restore",
        "a bit of a pack's envelope is flipped", |b| b.bend_pack = |f| f[20] ^= 1),
    case!("pack-envelope-reserved", "R8", "corrupt" / "reserved" at "restore",
        "the reserved field of a pack's envelope is not zero",
        |b| b.bend_pack = |f| envelope_byte(f, 24, 1)),
    case!("pack-kind", "R6", "corrupt" / "file-kind" at "restore",
        "a pack has the envelope of a manifest",
        |b| b.bend_pack = |f| put(f, 0, envelope::encode(FileKind::Manifest))),
    case!("pack-newer-major", "R7", "unsupported" / "format-version" at "restore",
    "a pack is of major version 2 and ends in a way that version 1 does not know",
    |b| b.bend_pack = |f| {
        f[12] = 2;
        reseal_envelope(f);
        let at = f.len() - 32;
        f[at..].fill(0xaa);
    }),
];
