//! The body's rules. Every id is right: it is the hash of the bent body.

use milepost_engine::Dtype;
use milepost_engine::format::body::BlobEntry;

use super::files::case;
use super::{Build, Case, put};

/// Offset of the metadata's count in a body without a parent.
const METADATA: usize = 9;
/// Offset of the tensors' count in the same body without metadata and metrics.
const TENSOR: usize = METADATA + 8;

/// Adds metadata entries at will.
fn metadata(body: &mut Vec<u8>, entries: &[(&[u8], &[u8])]) {
    let mut bytes = u32::try_from(entries.len()).unwrap().to_le_bytes().to_vec();
    for (key, value) in entries {
        bytes.extend(u16::try_from(key.len()).unwrap().to_le_bytes());
        bytes.extend(*key);
        bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        bytes.extend(*value);
    }
    body.splice(METADATA..METADATA + 4, bytes);
}

fn blob(b: &mut Build, chunk_len: u64) {
    b.body.blobs.push(BlobEntry {
        name: "blob".into(),
        byte_len: 16,
        chunk_len,
        chunks: vec![b.body.tensors[0].chunks[0]],
    });
}

pub(super) const CASES: &[Case] = &[
    case!("body-parent", "R25", "corrupt" / "body-parent" at "checkpoint",
        "has_parent is 2", |b| b.bend_body = |y| y[0] = 2),
    case!("body-short", "R1", "corrupt" / "truncated" at "checkpoint",
        "the body ends within step", |b| b.bend_body = |y| y.truncate(5)),
    case!("body-count-limit", "R13", "limit" / "count" at "checkpoint",
        "the body says that it has 4194305 metadata entries",
        |b| b.bend_body = |y| put(y, METADATA, 4_194_305u32.to_le_bytes())),
    case!("body-count-large", "R14", "corrupt" / "count" at "checkpoint",
        "the body says that it has more metadata entries than bytes",
        |b| b.bend_body = |y| put(y, METADATA, 4_000_000u32.to_le_bytes())),
    case!("key-empty", "R15", "corrupt" / "key" at "checkpoint",
        "a metadata key is empty", |b| b.bend_body = |y| metadata(y, &[(b"", b"")])),
    case!("key-control", "R15", "corrupt" / "key" at "checkpoint",
        "a tensor's name is a line feed", |b| b.bend_body = |y| y[TENSOR + 6] = b'\n'),
    case!("key-control-c1", "R15", "corrupt" / "key" at "checkpoint",
        "a metadata key holds U+0085",
        |b| b.bend_body = |y| metadata(y, &[("\u{85}".as_bytes(), b"")])),
    case!("key-utf8", "R15", "corrupt" / "key" at "checkpoint",
        "a tensor's name is no UTF-8", |b| b.bend_body = |y| y[TENSOR + 6] = 0xff),
    case!("key-long", "R15", "corrupt" / "key" at "checkpoint",
        "a metadata key has 4097 bytes",
        |b| b.bend_body = |y| metadata(y, &[(&[b'k'; 4097], b"")])),
    case!("metadata-unsorted", "R16", "corrupt" / "name-order" at "checkpoint",
        "metadata is not sorted",
        |b| b.bend_body = |y| metadata(y, &[(b"b", b""), (b"a", b"")])),
    case!("metadata-twice", "R16", "corrupt" / "name-order" at "checkpoint",
        "a metadata key occurs twice",
        |b| b.bend_body = |y| metadata(y, &[(b"a", b"1"), (b"a", b"2")])),
    case!("tensors-unsorted", "R16", "corrupt" / "name-order" at "checkpoint",
        "tensors are not sorted", |b| b.body.tensors.swap(0, 1)),
    case!("metadata-utf8", "R26", "corrupt" / "utf8" at "checkpoint",
        "a metadata value is no UTF-8",
        |b| b.bend_body = |y| metadata(y, &[(b"a", b"\xc0\x80")])),
    case!("metadata-limit", "R27", "limit" / "metadata-value" at "checkpoint",
    "a metadata value says that it has 16 MiB and a byte", |b| b.bend_body = |y| {
        metadata(y, &[(b"a", b"")]);
        put(y, METADATA + 7, 16_777_217u32.to_le_bytes());
    }),
    case!("dtype", "R28", "unsupported" / "dtype-code" at "checkpoint",
        "a tensor's dtype is 200", |b| b.bend_body = |y| y[TENSOR + 7] = 200),
    case!("rank", "R29", "limit" / "rank" at "checkpoint",
    "a tensor has 33 dimensions", |b| b.bend_body = |y| {
        y[TENSOR + 8] = 33;
        y.splice(TENSOR + 9..TENSOR + 9, [1, 0, 0, 0, 0, 0, 0, 0].repeat(32));
    }),
    case!("tensor-overflow", "R30", "corrupt" / "tensor-size" at "checkpoint",
        "a tensor's dimensions overflow 64 bits", |b| b.body.tensors[0].shape = vec![1 << 32; 2]),
    case!("tensor-bits-overflow", "R30", "corrupt" / "tensor-size" at "checkpoint",
        "a tensor's bits overflow 64 bits", |b| b.body.tensors[0].shape = vec![1 << 60]),
    case!("tensor-sub-byte", "R30", "corrupt" / "tensor-size" at "checkpoint",
    "a tensor of three half bytes", |b| {
        b.body.tensors[0].dtype = Dtype::F4;
        b.body.tensors[0].shape = vec![3];
    }),
    case!("chunk-zero", "R31", "corrupt" / "chunk-size" at "checkpoint",
        "a tensor's chunks have no elements",
        |b| b.bend_body = |y| put(y, TENSOR + 17, 0u64.to_le_bytes())),
    case!("chunk-large", "R31", "corrupt" / "chunk-size" at "checkpoint",
        "a tensor's chunks have 64 MiB and an element",
        |b| b.bend_body = |y| put(y, TENSOR + 17, ((16u64 << 20) + 1).to_le_bytes())),
    case!("chunk-sub-byte", "R31", "corrupt" / "chunk-size" at "checkpoint",
    "a chunk of half a byte", |b| {
        b.body.tensors[0].dtype = Dtype::F4;
        b.body.tensors[0].shape = vec![32];
        b.bend_body = |y| put(y, TENSOR + 17, 1u64.to_le_bytes());
    }),
    case!("blob-chunk-zero", "R31", "corrupt" / "chunk-size" at "checkpoint",
    "a blob's chunks have no bytes", |b| {
        blob(b, 64);
        b.bend_body = |y| {
            let at = y.len() - 3 * 32 - 8;
            put(y, at, 0u64.to_le_bytes());
        };
    }),
    case!("chunk-refs", "R32", "limit" / "chunk-refs" at "checkpoint",
        "a tensor calls for more chunk ids than a checkpoint may have",
        |b| b.bend_body = |y| put(y, TENSOR + 9, (1u64 << 50).to_le_bytes())),
    case!("chunk-ids-short", "R33", "corrupt" / "chunk-ids" at "checkpoint",
        "a chunk id is missing", |b| b.bend_body = |y| y.truncate(y.len() - 32)),
    case!("chunk-ids-trailing", "R33", "corrupt" / "chunk-ids" at "checkpoint",
        "a byte follows the chunk ids", |b| b.bend_body = |y| y.push(0)),
];
