//! `forget` and `gc`: the plan, the deed, and what scripts get of both.

use crate::support::command::{TestFolder, snapshot_json, snapshot_text};
use crate::support::safetensors;
use crate::support::store::hold_lock;

fn with_tagged() -> TestFolder {
    let test = TestFolder::with_checkpoints();
    test.ok(&["tag", "step:1", "best"]);
    test
}

#[test]
fn a_plan_changes_nothing() {
    let test = with_tagged();
    let plan = ["forget", "--keep-last", "1", "-n"];
    snapshot_text("forget-plan.txt", &test.ok(&plan));
    snapshot_json("forget-plan.json", test.json(&plan));
    let stats = test.json(&["stats"]);
    assert_eq!(stats["checkpoints"], 3);
    snapshot_text("gc-plan.txt", &test.ok(&["gc", "-n"]));
    assert_eq!(test.json(&["stats"]), stats);
}

#[test]
fn what_no_rule_keeps_goes_and_its_space_comes_back() {
    let test = with_tagged();
    let before = test.json(&["stats"])["disk_bytes"].as_u64().unwrap();
    snapshot_text("forget.txt", &test.ok(&["forget", "--keep-last", "1"]));
    let log = test.json(&["log"]);
    let steps: Vec<u64> = log["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [3, 1]);
    assert!(test.json(&["stats"])["disk_bytes"].as_u64().unwrap() < before);
    test.ok(&["verify", "--read-data"]);
    test.ok(&["restore", "latest", "-o", "back.safetensors"]);
    assert_eq!(test.read("back.safetensors"), safetensors::small(3));
    assert!(
        test.ok(&["forget", "--keep-last", "1"])
            .contains("nothing to drop")
    );
}

#[test]
fn the_rules_of_the_store_hold_where_none_are_given() {
    let test = TestFolder::empty();
    test.fails(10, &["forget"]);
    test.ok(&[
        "init",
        "--keep-best",
        "loss:min:1",
        "--keep-best",
        "acc:max:1",
    ]);
    for (step, loss, acc) in [
        (1, "3", "0.9"),
        (2, "1", "0.1"),
        (3, "2", "0.5"),
        (4, "9", "0.2"),
    ] {
        let name = format!("step-{step}.safetensors");
        test.write(&name, &safetensors::small(step));
        let (loss, acc) = (format!("loss={loss}"), format!("acc={acc}"));
        test.ok(&["save", &name, "--metric", &loss, "--metric", &acc]);
    }
    let view = test.json(&["forget", "--no-gc"]);
    let kept: Vec<(u64, &str)> = view["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["step"].as_u64().unwrap(), c["action"].as_str().unwrap()))
        .collect();
    assert_eq!(kept, [(1, "keep"), (2, "keep"), (3, "forget"), (4, "keep")]);
    assert!(view["gc"].is_null() && view["freed"]["total_bytes"].as_u64() > Some(0));
    snapshot_json("gc.json", test.json(&["gc"]));
}

#[test]
fn thinned_checkpoints_say_what_they_lack() {
    let test = TestFolder::with_checkpoints();
    let thin = ["forget", "--keep-last", "1", "--drop", "*frozen"];
    snapshot_text("forget-drop.txt", &test.ok(&thin));
    assert!(
        test.ok(&["show", "step:1"])
            .contains("1 of 2 tensors dropped")
    );
    assert!(test.ok(&["ls", "step:1"]).contains("dropped"));
    let message = test.fails(12, &["restore", "step:1", "-o", "out.safetensors"]);
    assert!(message.contains("thinned"), "{message}");
    assert!(!test.path("out.safetensors").exists());
    test.ok(&["restore", "step:1", "-o", "kept.safetensors", "--kept"]);
    test.ok(&["restore", "step:3", "-o", "whole.safetensors", "--kept"]);
    test.ok(&["verify", "--read-data"]);
}

/// Two forks of one checkpoint have one id. The command looked its source up by that id, and a
/// fork of the thinned one came out whole.
#[test]
fn a_fork_of_a_thinned_checkpoint_is_of_that_one() {
    let test = TestFolder::with_checkpoints();
    test.ok(&["fork", "main@step:1", "a"]);
    test.ok(&["fork", "main@step:1", "b"]);
    test.ok(&["forget", "b@step:1", "--drop", "*frozen"]);
    test.ok(&["fork", "b@step:1", "c"]);
    assert!(
        test.ok(&["show", "c@step:1"])
            .contains("1 of 2 tensors dropped")
    );
    test.ok(&["fork", "a@step:1", "d"]);
    test.ok(&["restore", "d@step:1", "-o", "whole.safetensors"]);
}

#[test]
fn deletions_that_make_no_sense_are_refused() {
    let test = with_tagged();
    let cases: [(i32, &[&str]); 7] = [
        (2, &["forget"]),
        (12, &["forget", "nope"]),
        (12, &["forget", "--keep-last", "1", "--run", "nope"]),
        (2, &["forget", "--keep-last", "0"]),
        (2, &["forget", "--keep-within", "7y"]),
        (2, &["forget", "--keep-best", "loss"]),
        (2, &["forget", "--keep-last", "1", "--drop", "[z-a]"]),
    ];
    for (code, args) in cases {
        test.fails(code, args);
    }
    assert_eq!(test.json(&["stats"])["checkpoints"], 3);
}

/// A held lock ends in its own exit code; a signal ends the wait.
#[test]
fn a_lock_is_waited_for_as_long_as_was_asked() {
    let test = TestFolder::with_checkpoints();
    let held = hold_lock(&test.path(".milepost/txn/run-main.lock"));
    test.write("step-9.safetensors", &safetensors::small(9));
    let save = ["save", "step-9.safetensors", "--lock-timeout", "0"];
    let message = test.fails(11, &save);
    assert!(message.contains("run-main.lock"), "{message}");
    drop(held);
    test.ok(&save);
}

/// A slip in a rule's name once took the protection of every tag.
#[test]
fn rules_that_name_what_is_not_there_drop_nothing() {
    let test = with_tagged();
    for rule in [
        ["--keep-tag", "bets"],
        ["--keep-tag", ""],
        ["--keep-best", "lss:min:1"],
    ] {
        let error = test.fails(12, &[&["forget", "--keep-last", "1"][..], &rule].concat());
        assert!(error.contains("nothing was dropped"), "{error}");
    }
    assert_eq!(test.json(&["stats"])["checkpoints"], 3);
    let ran = test.run(&["forget", "--keep-last", "1", "--drop", "optm.*"]);
    assert!(ran.stderr.contains("--drop"), "{}", ran.stderr);
}

/// What was forgotten is gone though nobody could collect it; that is said and no failure.
#[test]
fn what_cannot_be_collected_yet_is_told() {
    let test = with_tagged();
    let _held = hold_lock(&test.path(".milepost/txn/collector.lock"));
    let ran = test.run(&["forget", "--keep-last", "1"]);
    assert!(
        ran.code == 0 && ran.stderr.contains("not freed yet"),
        "{}",
        ran.stderr
    );
    assert_eq!(test.json(&["stats"])["checkpoints"], 2);
}
