//! Appendix A, the limits and the versions against the code.

use std::collections::BTreeMap;

use milepost_engine::codec::coder::PATTERN_LEN_MAX;
use milepost_engine::codec::cost::weight;
use milepost_engine::format::envelope::{self, FileKind};
use milepost_engine::format::{limits, pack, record, section, store_file};
use milepost_engine::restore::recipe::{RECIPE_BYTES_MAX, RECIPE_RECORDS_MAX};
use milepost_engine::{ChunkId, chunking, hash};

use crate::spec::document::{self, blocks, columns, number, table, text};

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
}

fn in_document() -> BTreeMap<String, Value> {
    let block = blocks(&document::section("Appendix A."), "constants")
        .remove(0)
        .1;
    let constant = |line: &String| {
        let (name, value) = line.split_once(" = ").unwrap();
        let value = match (value.strip_prefix("hex:"), value.strip_prefix('"')) {
            (Some(digits), _) => Value::Bytes(document::hex(digits)),
            (_, Some(quoted)) => Value::Text(quoted.strip_suffix('"').unwrap().into()),
            _ => Value::Number(number(value)),
        };
        (name.to_owned(), value)
    };
    let constants: BTreeMap<String, Value> = block.iter().map(constant).collect();
    assert_eq!(constants.len(), block.len(), "a constant is there twice");
    constants
}

fn limits_in_code() -> Vec<(&'static str, u64)> {
    vec![
        ("NAME_LEN_MAX", limits::NAME_LEN_MAX as u64),
        ("KEY_LEN_MAX", limits::KEY_LEN_MAX as u64),
        ("VALUE_LEN_MAX", limits::VALUE_LEN_MAX as u64),
        ("RANK_MAX", limits::RANK_MAX as u64),
        ("ENTRIES_MAX", limits::ENTRIES_MAX.into()),
        ("CHUNK_REFS_MAX", limits::CHUNK_REFS_MAX),
        ("CHUNK_LEN_MAX", limits::CHUNK_LEN_MAX.into()),
        (
            "CHUNK_LEN_SETTING_MIN",
            limits::CHUNK_LEN_SETTING_MIN.into(),
        ),
        (
            "CHUNK_LEN_SETTING_MAX",
            limits::CHUNK_LEN_SETTING_MAX.into(),
        ),
        ("RECORD_OVERHEAD_MAX", limits::RECORD_OVERHEAD_MAX.into()),
        ("STREAMS_MAX", limits::STREAMS_MAX as u64),
        ("STREAM_LEN_MAX", limits::STREAM_LEN_MAX.into()),
        ("INPUTS_MAX", limits::INPUTS_MAX as u64),
        ("PARAMS_LEN_MAX", limits::PARAMS_LEN_MAX as u64),
        ("RECORDS_MAX", limits::RECORDS_MAX.into()),
        ("PACK_LEN_MAX", limits::PACK_LEN_MAX),
        ("DEPTH_MAX", limits::DEPTH_MAX.into()),
        ("SECTIONS_MAX", limits::SECTIONS_MAX.into()),
        ("SECTION_LEN_MAX", limits::SECTION_LEN_MAX.into()),
        ("MANIFEST_LEN_MAX", limits::MANIFEST_LEN_MAX),
        ("SMALL_FILE_LEN_MAX", limits::SMALL_FILE_LEN_MAX),
        ("ZSTD_WINDOW_LOG_MAX", limits::ZSTD_WINDOW_LOG_MAX.into()),
        ("RECIPE_RECORDS_MAX", RECIPE_RECORDS_MAX as u64),
        ("RECIPE_BYTES_MAX", RECIPE_BYTES_MAX),
    ]
}

fn numbers_in_code() -> Vec<(&'static str, u64)> {
    let mut numbers = limits_in_code();
    numbers.extend([
        ("VERSION_MAJOR", envelope::VERSION_MAJOR.into()),
        ("VERSION_MINOR", envelope::VERSION_MINOR.into()),
        ("READER_FLAGS_KNOWN", envelope::READER_FLAGS_KNOWN.into()),
        ("WRITER_FLAGS_KNOWN", envelope::WRITER_FLAGS_KNOWN.into()),
        ("ENVELOPE_LEN", envelope::ENVELOPE_LEN as u64),
        ("ID_LEN", ChunkId::LEN as u64),
        ("RECORD_ALIGN", record::RECORD_ALIGN),
        ("RECORD_FIXED_LEN", record::RECORD_FIXED_LEN as u64),
        ("TRAILER_LEN", pack::TRAILER_LEN as u64),
        ("INDEX_ENTRY_LEN", pack::ENTRY_LEN as u64),
        ("SECTION_IGNORABLE", section::IGNORABLE.into()),
        ("SECTION_BODY", section::BODY.into()),
        ("SECTION_PLACEMENT", section::PLACEMENT.into()),
        ("SECTION_DROPPED", section::DROPPED.into()),
        ("SECTION_PACKS", section::PACKS.into()),
        ("SECTION_STATISTICS", section::STATISTICS.into()),
        ("SECTION_RELATIONS", section::RELATIONS.into()),
        ("SECTION_CODER_RAW", section::CODER_RAW.into()),
        ("SECTION_CODER_ZSTD", section::CODER_ZSTD.into()),
        ("PATTERN_LEN_MAX", PATTERN_LEN_MAX as u64),
        ("CHUNK_LEN_DEFAULT", store_file::CHUNK_LEN_DEFAULT.into()),
        (
            "RESTORE_BUDGET_MILLI_DEFAULT",
            store_file::RESTORE_BUDGET_MILLI_DEFAULT.into(),
        ),
        ("DEPTH_MAX_DEFAULT", store_file::DEPTH_MAX_DEFAULT.into()),
        ("COST_READ", weight::READ),
        ("COST_MERGE", weight::MERGE),
        ("COST_UNPACK", weight::UNPACK),
        ("COST_ZSTD", weight::ZSTD),
    ]);
    numbers
}

fn in_code() -> BTreeMap<String, Value> {
    let version = format!("{}.{}", envelope::VERSION_MAJOR, envelope::VERSION_MINOR);
    let kind = |kind: FileKind| String::from_utf8(kind.code().to_vec()).unwrap();
    let texts = [
        ("SPEC_VERSION", version),
        ("SPEC_DATE", "2026-11-28".into()),
        ("LIBRARY_VERSION", "0.1.0".into()),
        ("KIND_STORE", kind(FileKind::Store)),
        ("KIND_PACK", kind(FileKind::Pack)),
        ("KIND_MANIFEST", kind(FileKind::Manifest)),
        ("KIND_TAG", kind(FileKind::Tag)),
        ("KIND_CACHE", kind(FileKind::Cache)),
        ("PACK_CONTEXT", hash::PACK_CONTEXT.into()),
        ("CHECKPOINT_CONTEXT", hash::CHECKPOINT_CONTEXT.into()),
        (
            "TRAILER_MAGIC",
            String::from_utf8(pack::TRAILER_MAGIC.to_vec()).unwrap(),
        ),
    ];
    let texts = texts.map(|(name, text)| (name, Value::Text(text)));
    let numbers = numbers_in_code()
        .into_iter()
        .map(|(name, n)| (name, Value::Number(n)));
    let magic = ("MAGIC", Value::Bytes(envelope::MAGIC.to_vec()));
    let all = texts.into_iter().chain(numbers).chain([magic]);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[test]
fn the_constants_are_those_of_the_code() {
    let (document, code) = (in_document(), in_code());
    for (name, value) in &document {
        assert_eq!(Some(value), code.get(name), "{name}");
    }
    for name in code.keys() {
        assert!(document.contains_key(name), "appendix A lacks {name}");
    }
}

#[test]
fn the_table_of_limits_is_that_of_the_code() {
    let rows = columns::<2>("16.1 Limits");
    let found: Vec<(&str, u64)> = rows
        .iter()
        .map(|[n, value]| (n.as_str(), number(value)))
        .collect();
    assert_eq!(found, limits_in_code());
}

/// A limit that was added to the code and to nothing else would be nobody's to keep.
#[test]
fn no_limit_of_the_code_is_left_out() {
    let source = document::repository().join("engine/src/format/limits.rs");
    let source = std::fs::read_to_string(source).unwrap();
    let names = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    let known = limits_in_code();
    for name in names.map(|line| line.split(':').next().unwrap()) {
        assert!(known.iter().any(|(known, _)| *known == name), "{name}");
    }
}

#[test]
fn versions_and_dates_agree_everywhere() {
    let status = document::section("0. Status");
    for said in [
        "version **1.5**",
        "dated **2026-11-28**",
        "milepost\n**0.1.0**",
    ] {
        assert!(status.contains(said), "{said}");
    }
    assert_eq!(
        table("Appendix F.").rows.last().unwrap()[..2],
        ["1.5", "2026-11-28"]
    );
    assert_eq!(table("18. Versions").rows.last().unwrap()[0], "1.5");
}

#[test]
fn the_named_bytes_of_structures_are_those_of_the_code() {
    let text = text();
    let spaced = |bytes: &[u8]| {
        let digits: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        digits.join(" ")
    };
    for (title, bytes) in [
        ("6. The file envelope", spaced(&envelope::MAGIC)),
        (
            "6.2 Checks",
            spaced(&envelope::encode(FileKind::Pack)[..16]),
        ),
        ("9.4 Trailer", spaced(&pack::TRAILER_MAGIC)),
    ] {
        assert!(
            document::section(title).contains(&bytes),
            "{title}: {bytes}"
        );
    }
    let example = "F32 has 1024 elements a chunk, F6_E2M3 has 5440 (4080 bytes), F4 has 8192";
    assert!(text.contains(example));
    let elements = [32, 6, 4].map(|bits| chunking::chunk_elements(4096, bits));
    assert_eq!(elements, [1024, 5440, 8192]);
}
