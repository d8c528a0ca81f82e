//! Writes the seed corpora: `cargo run --release --bin seeds` in `fuzz/`.
//!
//! Structures for targets that take plain bytes; for targets that take structured input, bytes
//! that `arbitrary` reads as small, telling cases (it reads lengths from the end, so noise of
//! several lengths does).

use std::fs;
use std::path::Path;

use milepost_engine::codec::{self, Form, Layout, Rows, Workspace, transform::Transform};
use milepost_engine::dtype::Lane;
use milepost_engine::{Level, Result};
use milepost_fuzz::memory_disk::Files;
use milepost_fuzz::small_store;

fn main() -> Result<()> {
    let files = small_store::files()?;
    for (target, seeds) in [
        ("store_file", behind_envelope(&files, |p| p == "FORMAT")),
        ("tag", behind_envelope(&files, |p| p.starts_with("tags/"))),
        ("cache_file", vec![cache(&files)]),
        ("pack_index", indexes(&files)),
        ("record", [records(), worked_records()?].concat()),
        ("manifest", manifests(&files)),
        ("codec_roundtrip", chunks()),
        ("store_model", noise(&[64, 256, 1024, 2048])),
        ("store_bytes", noise(&[16, 64, 256, 1024])),
    ] {
        let folder = Path::new("corpus").join(target);
        let failed = |e| milepost_engine::Error::io("write a seed", e);
        fs::create_dir_all(&folder).map_err(failed)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed).map_err(failed)?;
        }
    }
    Ok(())
}

fn of_kind(files: &Files, kind: impl Fn(&str) -> bool) -> Vec<&Vec<u8>> {
    let found = files.iter().filter(|(path, _)| kind(path));
    found.map(|(_, file)| &**file).collect()
}

/// What lies between a small file's envelope and its checksum.
fn behind_envelope(files: &Files, kind: impl Fn(&str) -> bool) -> Vec<Vec<u8>> {
    let found = of_kind(files, kind);
    found
        .iter()
        .map(|file| file[32..file.len() - 4].to_vec())
        .collect()
}

/// A pack's index with its offset where `arbitrary` looks for the first integer.
fn indexes(files: &Files) -> Vec<Vec<u8>> {
    let packs = of_kind(files, |p| p.ends_with(".pack"));
    packs
        .iter()
        .map(|pack| [index_of(pack).0.to_le_bytes().to_vec(), index_of(pack).1].concat())
        .collect()
}

fn index_of(pack: &[u8]) -> (u64, Vec<u8>) {
    let trailer = &pack[pack.len() - 32..];
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&trailer[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let start = usize::try_from(number(4)).unwrap_or(usize::MAX);
    (number(4), pack[start..pack.len() - 32].to_vec())
}

/// Two lengths and an index: the item of a cache without its hash, which the target makes.
fn cache(files: &Files) -> Vec<u8> {
    let Some(pack) = of_kind(files, |p| p.ends_with(".pack")).first().copied() else {
        return Vec::new();
    };
    let (offset, index) = index_of(pack);
    let len = pack.len() as u64;
    [&len.to_le_bytes()[..], &offset.to_le_bytes(), &index].concat()
}

/// Whole manifests, behind the bytes that make an empty list of sections.
fn manifests(files: &Files) -> Vec<Vec<u8>> {
    let found = of_kind(files, |p| p.ends_with(".ckpt"));
    found
        .iter()
        .map(|file| [&[0], file.as_slice()].concat())
        .collect()
}

/// Records of several encodings, behind an output length and an empty list of inputs.
fn records() -> Vec<Vec<u8>> {
    let raw: Vec<u8> = (0..64u16).flat_map(|i| (i * 3 / 2).to_le_bytes()).collect();
    let lane = Lane {
        width: 2,
        float: true,
    };
    let form = Form {
        lane,
        rows: Some(Rows { len: 8, column: 3 }),
    };
    let record = |(transform, layout)| {
        let method = codec::Method { transform, layout };
        let mut record = vec![raw.len() as u8, 0, 0];
        let mut workspace = Workspace::default();
        codec::encode(
            &raw,
            Some(&raw),
            form,
            method,
            Level::Fast,
            &mut workspace,
            &mut record,
        )?;
        Ok(record)
    };
    let planes = Transform::ALL.map(|t| (t, Layout::Planes));
    let grids = [Layout::Grid, Layout::GridDelta].map(|l| (Transform::Rotate, l));
    let few = [
        (Transform::Rotate, Layout::Sparse),
        (Transform::FloatSubtract, Layout::Sparse),
        (Transform::Identity, Layout::Palette),
    ];
    planes
        .into_iter()
        .chain(grids)
        .chain(few)
        .map(record)
        .collect::<Result<_>>()
        .unwrap_or_default()
}

/// The worked records of the format's document, behind the output's length and the inputs.
fn worked_records() -> Result<Vec<Vec<u8>>> {
    let failed = |e| milepost_engine::Error::io("read the worked records", e);
    let document = fs::read_to_string("../format-spec.md").map_err(failed)?;
    let blocks = document.split("```record\n").skip(1);
    Ok(blocks.filter_map(worked_record).collect())
}

fn worked_record(block: &str) -> Option<Vec<u8>> {
    let mut inputs = Vec::new();
    let (mut record, mut len) = (Vec::new(), 0);
    for line in block.lines().take_while(|line| *line != "```") {
        let (name, digits) = line.split_once(' ').unwrap_or((line, ""));
        let hex = digits.split_whitespace();
        let bytes = hex.map(|byte| u8::from_str_radix(byte, 16));
        let bytes = bytes.collect::<std::result::Result<Vec<u8>, _>>().ok()?;
        match name {
            "record" => record = bytes,
            "input" if !bytes.is_empty() => inputs.push(list(bytes.into_iter().map(|b| vec![b]))),
            "output" => len = u16::try_from(bytes.len()).ok()?,
            _ => {}
        }
    }
    Some([len.to_le_bytes().to_vec(), list(inputs.into_iter()), record].concat())
}

/// Items as `arbitrary` reads a list: an odd byte before each, an even one at the end.
fn list(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let items = items.map(|item| [vec![1], item].concat());
    items.chain([vec![0]]).flatten().collect()
}

/// Codes for lane, transform and level, then base and chunk.
fn chunks() -> Vec<Vec<u8>> {
    let floats: Vec<u8> = (0..128u16)
        .flat_map(|i| f32::from(i).to_le_bytes())
        .collect();
    let codes = [
        [2, 1, 1, 0, 0, 0],
        [2, 1, 2, 0, 0, 0],
        [1, 0, 3, 1, 0, 0],
        [0, 0, 4, 1, 0, 0],
        [3, 1, 5, 0, 0, 0],
        [2, 1, 25, 0, 8, 3],
        [2, 1, 33, 1, 8, 0],
        [2, 1, 49, 0, 0, 0],
        [2, 1, 50, 0, 0, 0],
        [1, 0, 56, 0, 0, 0],
    ];
    codes
        .iter()
        .map(|codes| [&codes[..], &floats].concat())
        .collect()
}

fn noise(lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut byte = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    lengths
        .iter()
        .map(|len| (0..*len).map(|_| byte()).collect())
        .collect()
}
