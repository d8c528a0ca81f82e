//! Damage is found, named, and traced to the checkpoints and tensors that it hits.

use std::path::{Path, PathBuf};

use crate::support::command::TestFolder;
use crate::support::packs::flip;

/// The files below a folder of the store.
pub(super) fn files(test: &TestFolder, folder: &str) -> Vec<PathBuf> {
    fn visit(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit(&test.path(".milepost").join(folder), &mut found);
    found.sort();
    found
}

/// The report of a damaged store: it must exit with 13 and say so on standard error.
fn report(test: &TestFolder, args: &[&str]) -> serde_json::Value {
    let ran = test.run(&[&["verify", "--json"], args].concat());
    assert_eq!(ran.code, 13, "{}", ran.stdout);
    let last: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["code"], &last["id"]),
        (&13.into(), &"damage-found".into())
    );
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], false);
    report
}

fn steps(problem: &serde_json::Value) -> Vec<u64> {
    let hits = problem["checkpoints"].as_array().unwrap().iter();
    let mut steps: Vec<u64> = hits.filter_map(|hit| hit["step"].as_u64()).collect();
    steps.sort_unstable();
    steps
}

#[test]
fn a_flipped_bit_in_a_base_hits_everything_decoded_from_it() {
    let test = TestFolder::with_checkpoints();
    let first = test.json(&["show", "step:1", "model.w"])["chunks"][0].clone();
    let pack = first["pack"].as_str().unwrap();
    let path = files(&test, "packs")
        .into_iter()
        .find(|p| p.display().to_string().contains(pack))
        .unwrap();
    let offset = first["offset"].as_u64().unwrap();
    flip(&path, offset + 20);
    for args in [&[][..], &["--read-data"], &["--reader", "pread"]] {
        let report = report(&test, args);
        let problems = report["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{report:#}");
        assert_eq!(problems[0]["id"], "record-checksum");
        assert_eq!(problems[0]["offset"], offset);
        assert_eq!(problems[0]["chunk"], first["id"]);
        assert_eq!(steps(&problems[0]), [1, 2, 3]);
        for hit in problems[0]["checkpoints"].as_array().unwrap() {
            assert_eq!(hit["tensors"], serde_json::json!(["model.w"]));
        }
    }
    let text = test.run(&["verify"]);
    assert!(
        text.stdout.contains("hits step 2 of run main"),
        "{}",
        text.stdout
    );
    // What is not named is whole; what is named is refused, not restored wrongly.
    test.ok(&[
        "restore",
        "latest",
        "-o",
        "part",
        "--include",
        "model.frozen",
    ]);
    test.fails(13, &["restore", "latest", "-o", "whole"]);
    assert!(!test.path("whole").exists());
}

#[test]
fn a_lost_pack_is_one_problem_and_hits_what_needs_it() {
    let test = TestFolder::with_checkpoints();
    let packs = test.json(&["show", "step:3"])["packs"].clone();
    let older = test.json(&["show", "step:2"])["packs"].clone();
    let newest = packs
        .as_array()
        .unwrap()
        .iter()
        .find(|p| !older.as_array().unwrap().contains(p))
        .unwrap();
    let id = newest["id"].as_str().unwrap();
    let path = files(&test, "packs")
        .into_iter()
        .find(|p| p.display().to_string().contains(id))
        .unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "the test is the fault in the disk"
    )]
    std::fs::remove_file(path).unwrap();
    let report = report(&test, &[]);
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1, "{report:#}");
    assert_eq!(problems[0]["id"], "pack-missing");
    assert_eq!(steps(&problems[0]), [3]);
    let whole = test.json(&["verify", "step:2", "--read-data"]);
    assert_eq!(
        (&whole["ok"], &whole["checkpoints"]),
        (&true.into(), &1.into())
    );
    test.fails(13, &["verify", "step:3"]);
    assert_eq!(
        test.json(&["show", "step:3"])["packs"]
            .as_array()
            .unwrap()
            .len(),
        packs.as_array().unwrap().len()
    );
}

#[test]
fn a_damaged_index_and_a_damaged_manifest_are_named() {
    let test = TestFolder::with_checkpoints();
    let pack = &files(&test, "packs")[0];
    let len = std::fs::metadata(pack).unwrap().len();
    flip(pack, len - 40);
    let found = report(&test, &[]);
    let problem = &found["problems"][0];
    assert_eq!(problem["id"], "index-hash");
    assert!(!steps(problem).is_empty(), "{found:#}");
    flip(pack, len - 40);
    assert_eq!(test.json(&["verify"])["ok"], true);

    let manifest = &files(&test, "runs")[1];
    flip(manifest, 200);
    let found = report(&test, &[]);
    let problems = found["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0]["checkpoints"][0]["seq"], 2);
    assert!(problems[0]["checkpoints"][0]["step"].is_null());
    let log = test.run(&["log"]);
    assert_eq!(
        (log.code, log.stdout.lines().count()),
        (0, 4),
        "{}",
        log.stdout
    );
    assert!(log.stderr.contains("cannot be read"), "{}", log.stderr);
}

#[test]
fn a_share_of_the_data_is_the_same_every_time() {
    let test = TestFolder::with_checkpoints();
    let decoded = |args: &[&str]| {
        let report = test.json(&[&["verify"], args].concat());
        report["decoded_chunks"].as_u64().unwrap()
    };
    let all = decoded(&["--read-data"]);
    let half = decoded(&["--read-data=50%"]);
    assert!(half < all, "{half} of {all}");
    assert_eq!(half, decoded(&["--read-data=50%"]));
    assert_eq!(decoded(&[]), 0);
}
