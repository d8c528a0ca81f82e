//! `restore --salvage`: a damaged checkpoint's intact part, and a list of the rest.

use milepost_engine::hash;

use super::verify::files;
use crate::support::command::TestFolder;
use crate::support::hostile::{Codes, HostileStore, Record, body_of};
use crate::support::packs::flip;
use crate::support::safetensors;

/// Damages the first record of the first pack.
fn damaged() -> TestFolder {
    let test = TestFolder::with_checkpoints();
    for pack in files(&test, "packs") {
        flip(&pack, 60);
    }
    test
}

#[test]
fn what_is_intact_is_written_and_the_rest_is_listed() {
    let test = damaged();
    let error = test.fails(13, &["restore", "step:1", "-o", "plain"]);
    assert!(
        error.contains("--salvage") && !test.path("plain").exists(),
        "{error}"
    );
    let ran = test.run(&["restore", "step:1", "-o", "part", "--salvage"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("is not intact"), "{}", ran.stderr);
    let json = test.run(&[
        "restore",
        "step:1",
        "-o",
        "part",
        "--salvage",
        "--force",
        "--json",
    ]);
    let view: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let lost = view["salvage"]["tensors"].as_array().unwrap();
    assert!(json.code == 3 && !lost.is_empty() && view["identical"] == false);
    for part in lost {
        let name = part["name"].as_str().unwrap();
        assert!(part["lost_bytes"].as_u64() > Some(0) && !part["lost"][0].is_null());
        test.fails(13, &["restore", "step:1", "-o", "none", "--include", name]);
    }
    assert_eq!(
        view["tensors"].as_u64().unwrap() + lost.len() as u64,
        tensors(&test)
    );
}

/// How many tensors a checkpoint has.
fn tensors(test: &TestFolder) -> u64 {
    let ls = test.json(&["ls", "step:1"]);
    ls["tensors"].as_array().unwrap().len() as u64
}

#[test]
fn what_is_whole_comes_back_byte_for_byte() {
    let test = TestFolder::with_checkpoints();
    test.ok(&["restore", "step:2", "-o", "back", "--salvage"]);
    assert_eq!(test.read("back"), safetensors::small(2));
}

#[test]
fn salvage_is_for_whole_tensors() {
    let test = TestFolder::with_checkpoints();
    test.fails(2, &["restore", "step:1", "-o", "x", "--salvage", "--kept"]);
    test.fails(
        2,
        &[
            "restore",
            "step:1",
            "-o",
            "x",
            "--salvage",
            "--rows",
            "w=0..1",
        ],
    );
}

/// A record whose checksum is right, but not its bytes: salvage found that another pack has the
/// chunk, and what was written was the wrong one.
#[test]
fn what_is_written_is_what_was_found_to_be_intact() {
    const LEN: u32 = 64;
    let hostile = HostileStore::new();
    let record = |value: u8| {
        let codes = Codes {
            streams: vec![(1, vec![value])],
            ..Codes::zeros(LEN)
        };
        Record {
            chunk: hash::chunk_id(&[7; LEN as usize]),
            ..codes.record(0, 0, &[])
        }
    };
    let lying = hostile.plant_records(&[record(0)]);
    hostile.plant_records(&[record(7), Codes::zeros(8).record(1, 0, &[])]);
    let body = body_of(LEN.into(), LEN.into(), vec![record(7).chunk]);
    hostile.plant_body(&body.encode().unwrap(), &[lying]);
    let test = TestFolder::empty();
    let root = hostile.root().to_str().unwrap();
    let words = ["-s", root, "restore", "main", "-o", "back", "--salvage"];
    let view = test.json(&words);
    assert_eq!(view["salvage"]["whole"], true);
    let back = test.read("back");
    assert_eq!(back[back.len() - LEN as usize..], [7; LEN as usize]);
}

/// One record that this version cannot decode once ended salvage, and where no tensor was whole
/// nothing was listed.
#[test]
fn what_cannot_be_decoded_is_lost_and_the_rest_is_told() {
    const LEN: u32 = 64;
    let hostile = HostileStore::new();
    let sound = Record {
        chunk: hash::chunk_id(&[0; LEN as usize]),
        ..Codes::zeros(LEN).record(0, 0, &[])
    };
    let of_later = Codes {
        predictor: 99,
        ..Codes::zeros(LEN)
    };
    let chunks = vec![sound.chunk, of_later.record(9, 0, &[]).chunk];
    let hint = hostile.plant_records(&[sound, of_later.record(9, 0, &[])]);
    let body = body_of(2 * u64::from(LEN), LEN.into(), chunks);
    hostile.plant_body(&body.encode().unwrap(), &[hint]);
    let root = hostile.root().to_str().unwrap();
    let words = ["-s", root, "restore", "main", "-o", "back", "--salvage"];
    let error = TestFolder::empty().fails(13, &words);
    assert!(
        error.contains("w is not intact") && error.contains("bytes 64..128"),
        "{error}"
    );
    assert!(error.contains("no tensor is intact"), "{error}");
}
