//! Another's file is saved against what is nearest in the store.

use crate::support::command::TestFolder;
use crate::support::safetensors::{file, weights};

fn saved(test: &TestFolder, words: &[&str]) -> (String, u64) {
    let saved = &test.json(&[&["save"], words].concat())["saved"][0];
    let like = &saved["like"];
    let like = match like["run"].as_str() {
        Some(run) => format!("{run} {} {}", like["step"], like["tensors"]),
        None => "nothing".to_owned(),
    };
    (like, saved["added_bytes"].as_u64().unwrap())
}

#[test]
fn a_strangers_file_is_small_beside_its_origin() {
    let test = TestFolder::with_store();
    let ours = file(&[weights("model.w", 30_000, 1)], &[]);
    let theirs = file(&[weights("transformer.weight", 30_000, 2)], &[]);
    test.write("ours-7.safetensors", &ours);
    test.write("theirs.safetensors", &theirs);
    test.ok(&["save", "ours-7.safetensors"]);
    let (like, alone) = saved(&test, &["theirs.safetensors", "--run", "alone"]);
    assert_eq!(like, "nothing");
    test.ok(&["forget", "alone@step:0"]);
    let words = ["theirs.safetensors", "--run", "theirs", "--like", "auto"];
    let (like, added) = saved(&test, &words);
    assert_eq!(like, "main 7 1");
    assert!(added * 3 < alone * 2, "{added} of {alone}");
    let back = test.raw(&["restore", "theirs", "-o", "-", "-q", "--check"]);
    assert!(back.stdout == theirs);
    test.ok(&["forget", "theirs@step:0"]);
    let words = ["theirs.safetensors", "--run", "again", "--like", "main"];
    let (like, again) = saved(&test, &words);
    assert_eq!(like, "main 7 1");
    assert!(again.abs_diff(added) < 100, "{again} and {added}");
    let words = [
        "save",
        "theirs.safetensors",
        "--run",
        "third",
        "--like",
        "auto",
    ];
    let told = test.ok(&words);
    assert!(told.trim_end().ends_with(", like again@step:0"), "{told}");
    let refused = test.raw(&[
        "save",
        "ours-7.safetensors",
        "--run",
        "x",
        "--like",
        "nobody",
    ]);
    assert_eq!(refused.status.code(), Some(12));
}
