//! A store with a limit: what a save that finds no room says.

use crate::support::command::TestFolder;
use crate::support::safetensors;

fn save(test: &TestFolder, step: u8) -> String {
    let name = format!("step-{step}.safetensors");
    test.write(&name, &safetensors::small(step));
    name
}

#[test]
fn a_full_store_refuses_and_says_what_to_do() {
    let test = TestFolder::empty();
    test.ok(&["init", "--quota", "16KiB"]);
    assert!(test.ok(&["stats"]).contains("quota: 16.0 KiB, "));
    assert_eq!(test.json(&["stats"])["settings"]["quota_bytes"], 16 << 10);
    test.ok(&["save", &save(&test, 1)]);
    let error = test.fails(15, &["save", &save(&test, 2), "--full", "--self-contained"]);
    assert!(
        error.contains("quota") && error.contains("keep rules"),
        "{error}"
    );
    test.ok(&["verify", "--read-data"]);
    test.ok(&[
        "save",
        &save(&test, 3),
        "--self-contained",
        "--quota",
        "1GiB",
    ]);
    test.fails(2, &["save", &save(&test, 4), "--quota", "much"]);
}

#[test]
fn a_store_with_keep_rules_makes_room_and_tells() {
    let test = TestFolder::empty();
    test.ok(&["init", "--quota", "40KiB", "--keep-last", "1"]);
    let mut told = String::new();
    for step in 0..9 {
        told += &test.ok(&["save", &save(&test, step), "--self-contained"]);
    }
    assert!(told.contains("there was no room: dropped"), "{told}");
    assert_eq!(test.json(&["log"])["checkpoints"][0]["step"], 8);
}
