//! Text and JSON of every command.

use crate::support::command::{TestFolder, snapshot_json, snapshot_text};
use crate::support::safetensors;

/// Prints a command both ways and holds both against their snapshots.
fn both(test: &TestFolder, name: &str, args: &[&str]) {
    snapshot_text(&format!("{name}.txt"), &test.ok(args));
    snapshot_json(&format!("{name}.json"), test.json(args));
}

#[test]
fn init_tells_what_it_made() {
    let test = TestFolder::empty();
    let keep = [
        "--keep-last",
        "5",
        "--keep-within",
        "7d",
        "--keep-best",
        "loss:min:3",
    ];
    let set = [
        "--restore-budget",
        "2.5",
        "--full-every",
        "10",
        "--max-depth",
        "8",
    ];
    snapshot_text(
        "init.txt",
        &test.ok(&[["init"].as_slice(), &keep, &set].concat()),
    );
    let args = [["-s", "other", "init"].as_slice(), &keep, &set].concat();
    snapshot_json("init.json", test.json(&args));
}

#[test]
fn save_tells_what_each_file_cost() {
    let test = TestFolder::with_store();
    for step in 1..=3 {
        test.write(
            &format!("step-{step}.safetensors"),
            &safetensors::small(step),
        );
    }
    let files = ["step-1.safetensors", "step-2.safetensors"];
    snapshot_text(
        "save.txt",
        &test.ok(&[&["save"], files.as_slice()].concat()),
    );
    let again = [
        "save",
        "step-2.safetensors",
        "step-3.safetensors",
        "--tag",
        "best",
    ];
    snapshot_json("save.json", test.json(&again));
    assert_eq!(test.json(&["tag"])["tags"][0]["name"], "best");
}

#[test]
fn looking_at_checkpoints() {
    let test = TestFolder::with_checkpoints();
    test.ok(&["tag", "step:2", "best"]);
    both(&test, "log", &["log"]);
    both(&test, "log-unique", &["log", "--unique", "-n", "2"]);
    both(&test, "ls", &["ls", "latest", "model.w*"]);
    both(&test, "show", &["show", "best"]);
    both(&test, "diff", &["diff", "step:1", "step:2"]);
    both(&test, "stats", &["stats"]);
    both(&test, "verify", &["verify", "--read-data"]);
    both(&test, "tag", &["tag"]);
    both(&test, "version", &["version"]);
    let chunks = test.json(&["show", "latest", "model.w"]);
    assert_eq!(chunks["chunks"].as_array().unwrap().len(), 3);
    assert!(chunks["chunks"][0]["stored_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn managing_checkpoints() {
    let test = TestFolder::with_checkpoints();
    both(&test, "tag-plan", &["tag", "-n", "latest", "best"]);
    assert!(test.json(&["tag"])["tags"].as_array().unwrap().is_empty());
    both(&test, "tag-set", &["tag", "latest", "best"]);
    snapshot_text("tag-move.txt", &test.ok(&["tag", "step:1", "best"]));
    both(&test, "tag-delete-plan", &["tag", "-n", "-d", "best"]);
    snapshot_text("tag-delete.txt", &test.ok(&["tag", "-d", "best"]));
    both(&test, "fork-plan", &["fork", "-n", "step:2", "exp"]);
    assert_eq!(test.json(&["stats"])["runs"].as_array().unwrap().len(), 1);
    snapshot_text("fork.txt", &test.ok(&["fork", "step:2", "exp"]));
    snapshot_json("fork.json", test.json(&["fork", "main@step:2", "other"]));
    assert_eq!(
        test.json(&["log", "--run", "exp"])["checkpoints"][0]["step"],
        2
    );
}

#[test]
fn restore_tells_what_it_wrote() {
    let test = TestFolder::with_checkpoints();
    snapshot_text("restore.txt", &test.ok(&["restore", "latest", "-o", "a"]));
    let part = ["restore", "latest", "-o", "b", "--include", "*frozen"];
    snapshot_json("restore.json", test.json(&part));
}

#[test]
fn quiet_prints_ids_and_names_only() {
    let test = TestFolder::with_checkpoints();
    let ids = test.ok(&["log", "-q"]);
    assert_eq!(ids.lines().count(), 3);
    assert!(ids.lines().all(|id| id.len() == 64), "{ids}");
    assert_eq!(test.ok(&["ls", "latest", "-q"]), "model.frozen\nmodel.w\n");
    assert_eq!(test.ok(&["verify", "-q"]), "");
    for id in ids.lines() {
        assert_eq!(test.json(&["show", id])["checkpoint"]["id"], id);
    }
}

#[test]
fn steps_come_from_the_flag_then_the_metadata_then_the_name_then_the_run() {
    let test = TestFolder::with_store();
    let with_step = safetensors::file(&[safetensors::weights("w", 50, 1)], &[("step", "70")]);
    test.write("x-5.safetensors", &with_step);
    test.write("y-90.safetensors", &safetensors::small(2));
    test.write("plain.safetensors", &safetensors::small(3));
    let step = |args: &[&str]| test.json(&[&["save"], args].concat())["saved"][0]["step"].clone();
    assert_eq!(step(&["x-5.safetensors", "--step", "60"]), 60);
    assert_eq!(step(&["x-5.safetensors"]), 70);
    assert_eq!(step(&["y-90.safetensors"]), 90);
    assert_eq!(step(&["plain.safetensors"]), 91);
}
