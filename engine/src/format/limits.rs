//! Every limit of the format (format-spec.md section 16), checked before anything is allocated.

/// Bytes of a run or tag name.
pub const NAME_LEN_MAX: usize = 64;
/// Bytes of a tensor, blob, metadata or metric name.
pub const KEY_LEN_MAX: usize = 4096;
/// Bytes of one metadata value.
pub const VALUE_LEN_MAX: usize = 16 << 20;
/// Dimensions of a tensor.
pub const RANK_MAX: usize = 32;
/// Tensors, blobs, metadata entries or metrics of one checkpoint, each.
pub const ENTRIES_MAX: u32 = 1 << 22;
/// Chunk references of one checkpoint.
pub const CHUNK_REFS_MAX: u64 = 1 << 23;
/// Raw bytes of one chunk.
pub const CHUNK_LEN_MAX: u32 = 64 << 20;
/// Smallest chunk size that a store may be set to.
pub const CHUNK_LEN_SETTING_MIN: u32 = 4 << 10;
/// Largest chunk size that a store may be set to.
pub const CHUNK_LEN_SETTING_MAX: u32 = 16 << 20;
/// Bytes of one record, header included; a record is never larger than its chunk plus this slack.
pub const RECORD_OVERHEAD_MAX: u32 = 4096;
/// Streams of one record.
pub const STREAMS_MAX: usize = 255;
/// Bytes of one stream's stored form: its length has 28 bits.
pub const STREAM_LEN_MAX: u32 = (1 << 28) - 1;
/// Inputs of one record.
pub const INPUTS_MAX: usize = 255;
/// Parameter bytes of one record.
pub const PARAMS_LEN_MAX: usize = 1 << 12;
/// Records of one pack.
pub const RECORDS_MAX: u32 = 1 << 22;
/// Bytes of one pack.
pub const PACK_LEN_MAX: u64 = 1 << 40;
/// Depth of a record.
pub const DEPTH_MAX: u8 = 255;
/// Sections of one manifest.
pub const SECTIONS_MAX: u32 = 64;
/// Bytes of one manifest section, decoded.
pub const SECTION_LEN_MAX: u32 = 512 << 20;
/// Bytes of one manifest.
pub const MANIFEST_LEN_MAX: u64 = 1 << 30;
/// Bytes of a FORMAT or tag file.
pub const SMALL_FILE_LEN_MAX: u64 = 64 << 10;
/// Window of a zstd frame, as log2 of bytes: no larger than the largest chunk.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 26;
