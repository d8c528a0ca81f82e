//! `restore --salvage`: a damaged checkpoint's intact part, and a list of the rest.

use super::verify::files;
use crate::support::command::TestFolder;
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
