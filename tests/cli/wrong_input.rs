//! Wrong input of every kind: one sentence, a hint, the right exit code, nothing half-written.

use crate::support::command::{TestFolder, snapshot_text};
use crate::support::safetensors as made;

/// Everything that lies in the folder, with its length.
fn listing(test: &TestFolder) -> Vec<(String, u64)> {
    fn visit(path: &std::path::Path, found: &mut Vec<(String, u64)>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                visit(&entry.path(), found);
            } else {
                found.push((entry.path().display().to_string(), metadata.len()));
            }
        }
    }
    let mut found = Vec::new();
    visit(test.folder.path(), &mut found);
    found.retain(|(path, _)| !path.contains("/txn/"));
    found.sort();
    found
}

#[test]
fn files_that_cannot_be_saved() {
    let test = TestFolder::with_checkpoints();
    let good = made::small(9);
    let mut huge = good.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let hole = |h: String| h.replace("[2000,", "[2004,");
    let unknown = |h: String| h.replace("F32", "F99");
    let bad: [(&str, Vec<u8>); 12] = [
        ("empty", Vec::new()),
        ("short", vec![1, 2, 3]),
        ("text", b"hello, this is no model at all".to_vec()),
        (
            "zip",
            b"PK\x03\x04\x14\x00\x00\x00\x08\x00data of a zip archive".to_vec(),
        ),
        ("zeros", vec![0; 4096]),
        ("huge-header", huge),
        ("cut-in-header", good[..40].to_vec()),
        ("cut-in-data", good[..good.len() - 1].to_vec()),
        ("trailing", [good.as_slice(), b"x"].concat()),
        ("hole", made::with_header(&good, hole)),
        ("unknown-dtype", made::with_header(&good, unknown)),
        (
            "not-utf8",
            [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(),
        ),
    ];
    let mut all = String::new();
    for (name, bytes) in &bad {
        let file = format!("{name}.bin");
        test.write(&file, bytes);
        let before = listing(&test);
        let message = test.fails(1, &["save", &file]);
        assert!(message.contains("\nhint: "), "{name}: {message}");
        assert_eq!(listing(&test), before, "{name} left something behind");
        all += &format!("{name}:\n{message}\n");
    }
    for name in ["missing.safetensors", ".", "/dev/null"] {
        all += &format!("{name}:\n{}\n", test.fails(1, &["save", name]));
    }
    snapshot_text("wrong-files.txt", &all);
    assert_eq!(test.json(&["verify"])["checkpoints"], 3);
}

#[test]
fn files_before_a_bad_one_stay_saved_and_later_ones_are_not_tried() {
    let test = TestFolder::with_store();
    test.write("a-1.safetensors", &made::small(1));
    test.write("bad-2.safetensors", b"garbage");
    test.write("c-3.safetensors", &made::small(3));
    let files = [
        "save",
        "a-1.safetensors",
        "bad-2.safetensors",
        "c-3.safetensors",
    ];
    snapshot_text("save-stopped.txt", &test.fails(3, &files));
    let log = test.json(&["log"]);
    assert_eq!(log["checkpoints"].as_array().unwrap().len(), 1);
    let ran = test.run(&[files.as_slice(), &["--json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(told["saved"][0]["existed"], true);
    assert_eq!(told["failed"], "bad-2.safetensors");
    assert_eq!(told["not_tried"][0], "c-3.safetensors");
    let last: serde_json::Value = serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["code"]), (&"error".into(), &3.into()));
    assert_eq!(last["id"], "input-header");
}

#[test]
fn words_that_name_nothing() {
    let test = TestFolder::with_checkpoints();
    test.ok(&["fork", "step:2", "exp"]);
    // Now two runs have a step 2 each of its own; the fork alone would not make it ambiguous.
    test.write("b-2.safetensors", &made::small(7));
    test.ok(&["save", "b-2.safetensors", "--run", "other"]);
    let cases: [(i32, &[&str]); 22] = [
        (12, &["show", "nothing"]),
        (12, &["show", "step:99"]),
        (2, &["show", "step:x"]),
        (2, &["show", "step:2"]),
        (12, &["show", "latest~9"]),
        (2, &["show", "latest~x"]),
        (12, &["show", "latest", "no.tensor"]),
        (12, &["ls", "latest", "no.*"]),
        (2, &["ls", "latest", "[z-a]"]),
        (12, &["log", "--run", "nope"]),
        (12, &["diff", "latest", "nope"]),
        (12, &["verify", "nope"]),
        (12, &["tag", "nope", "x"]),
        (2, &["tag", "latest", "Bad Name"]),
        (12, &["tag", "-d", "nope"]),
        (2, &["fork", "latest", "../x"]),
        (1, &["fork", "latest", "main"]),
        (12, &["restore", "nope", "-o", "out"]),
        (12, &["restore", "latest", "-o", "out", "--include", "no.*"]),
        (2, &["restore", "latest", "-o", "out", "--include", "[z-a]"]),
        (
            2,
            &["restore", "latest", "-o", "out", "--rows", "model.w=0..999"],
        ),
        (
            12,
            &["restore", "latest", "-o", "out", "--rows", "nope=0..1"],
        ),
    ];
    let mut all = String::new();
    let before = listing(&test);
    for (code, args) in cases {
        let message = test.fails(code, args);
        all += &format!("milepost {} -> {code}\n{message}\n", args.join(" "));
    }
    assert_eq!(
        listing(&test),
        before,
        "a refused command left something behind"
    );
    snapshot_text("wrong-words.txt", &all);
}

#[test]
fn flags_that_cannot_be() {
    let test = TestFolder::with_checkpoints();
    let cases: [&[&str]; 13] = [
        &["frobnicate"],
        &["save"],
        &[
            "save",
            "step-1.safetensors",
            "step-2.safetensors",
            "--step",
            "4",
        ],
        &["save", "step-1.safetensors", "--metric", "loss"],
        &["save", "step-1.safetensors", "--run", "../x"],
        &["save", "step-1.safetensors", "--tag", "A b"],
        &["init", "-s", "x", "--chunk-size", "3"],
        &["init", "-s", "x", "--keep-best", "loss"],
        &["init", "-s", "x", "--keep-tag", "No Tag"],
        &["init", "-s", "x", "--restore-budget", "0"],
        &["verify", "--read-data=0%"],
        &["restore", "latest", "-o", "out", "--rows", "w"],
        &["restore", "latest", "-o", "-", "--json"],
    ];
    let mut all = String::new();
    for args in cases {
        all += &format!("milepost {}\n{}\n", args.join(" "), test.fails(2, args));
    }
    snapshot_text("wrong-flags.txt", &all);
    assert!(!test.path("x").exists() && !test.path("out").exists());
    let json = test.fails(2, &["frobnicate", "--json"]);
    let last: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["code"]), (&"usage".into(), &2.into()));
}

#[test]
fn no_store_is_told_with_its_folder_and_a_code_of_its_own() {
    let test = TestFolder::empty();
    test.write("a.safetensors", &made::small(1));
    for args in [
        &["log"][..],
        &["save", "a.safetensors"],
        &["verify"],
        &["stats"],
        &["tag"],
    ] {
        let message = test.fails(10, args);
        assert!(message.contains("(.milepost)") && message.contains("milepost init"));
    }
    test.fails(10, &["log", "-s", "a.safetensors"]);
    let message = test.fails(10, &["log", "--json"]);
    let last: serde_json::Value = serde_json::from_str(message.lines().last().unwrap()).unwrap();
    assert_eq!(last["id"], "no-store");
    test.ok(&["init"]);
    test.fails(1, &["init"]);
}

#[test]
fn what_exists_is_replaced_only_when_asked() {
    let test = TestFolder::with_checkpoints();
    test.write("out", b"precious");
    test.fails(1, &["restore", "latest", "-o", "out"]);
    assert_eq!(test.read("out"), b"precious");
    test.ok(&["restore", "latest", "-o", "out", "--force"]);
    assert_eq!(test.read("out"), test.read("step-3.safetensors"));
    test.fails(1, &["restore", "latest", "-o", ".", "--force"]);
    test.fails(1, &["restore", "latest", "-o", "no/such/folder/x"]);
    test.fails(1, &["restore", "latest", "-o", "/dev/null", "--force"]);
    let left = listing(&test);
    assert!(
        !left.iter().any(|(path, _)| path.ends_with(".tmp")),
        "{left:?}"
    );
}

#[test]
fn another_state_of_a_saved_step_is_a_conflict() {
    let test = TestFolder::with_checkpoints();
    test.write("other.safetensors", &made::small(77));
    let message = test.fails(1, &["save", "other.safetensors", "--step", "2"]);
    assert!(
        message.contains("another checkpoint of step 2"),
        "{message}"
    );
    test.ok(&["save", "step-2.safetensors", "--metric", "loss=0.5"]);
    assert_eq!(test.json(&["stats"])["checkpoints"], 3);
}
