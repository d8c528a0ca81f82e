//! `compact`: what it says, and that every file comes back as before.

use crate::support::command::{TestFolder, snapshot_json, snapshot_text};
use crate::support::safetensors;

#[test]
fn packs_are_merged_and_every_file_comes_back() {
    let test = TestFolder::with_checkpoints();
    let plan = test.ok(&["compact", "-n"]);
    snapshot_text("compact-plan.txt", &plan);
    assert_eq!(test.json(&["stats"])["packs"], 3);
    snapshot_text("compact.txt", &test.ok(&["compact"]));
    assert_eq!(test.json(&["stats"])["packs"], 1);
    for step in 1..4 {
        test.ok(&["restore", &format!("step:{step}"), "-o", "back", "--force"]);
        assert_eq!(test.read("back"), safetensors::small(step));
    }
    test.ok(&["verify", "--read-data"]);
    assert_eq!(
        test.ok(&["compact"]).lines().next(),
        Some("nothing to rewrite")
    );
}

#[test]
fn scripts_are_told_what_was_done() {
    let test = TestFolder::with_checkpoints();
    let plan = test.json(&["compact", "-n"]);
    assert!(plan["gc"].is_null() && plan["done"] == false);
    snapshot_json(
        "compact.json",
        test.json(&["compact", "--reencode", "--level", "archive"]),
    );
    snapshot_text("compact-reencode.txt", &test.ok(&["compact", "--reencode"]));
}

#[test]
fn wrong_options_are_usage_errors() {
    let test = TestFolder::with_checkpoints();
    test.fails(2, &["compact", "--idle-min", "101"]);
    test.fails(2, &["compact", "--level", "archive"]);
    test.fails(2, &["compact", "--small", "2000"]);
    let other = TestFolder::empty();
    other.fails(10, &["compact"]);
}
