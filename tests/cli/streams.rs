//! Pipes, progress, colour: data on standard output, everything else on standard error.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::support::command::TestFolder;
use crate::support::safetensors as made;

/// The command with pipes in place of its streams.
fn piped(test: &TestFolder, args: &[&str]) -> std::process::Child {
    Command::new(env!("CARGO_BIN_EXE_milepost"))
        .args(args)
        .current_dir(test.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_closed_pipe_is_no_error_and_no_panic() {
    let test = TestFolder::with_checkpoints();
    for args in [
        &["log"][..],
        &["log", "--json"],
        &["ls", "latest"],
        &["--help"],
        &["completions", "bash"],
        &["man"],
    ] {
        let mut child = piped(&test, args);
        drop(child.stdout.take());
        let mut stderr = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        assert_eq!(stderr, "", "{args:?}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{args:?}");
    }
}

#[test]
fn a_restore_that_nobody_reads_to_the_end_is_told() {
    let test = TestFolder::with_checkpoints();
    let mut child = piped(
        &test,
        &["restore", "latest", "-o", "-", "--progress", "none"],
    );
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("stopped before its end")
    );
}

#[test]
fn without_a_terminal_progress_is_a_few_plain_lines() {
    let test = TestFolder::with_store();
    test.write("a-1.safetensors", &made::small(1));
    let output = test.raw(&["save", "a-1.safetensors"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    let done = "milepost: save a-1.safetensors: done, 13.8 KiB in ";
    // What took no time has no line.
    assert!(lines.iter().all(|line| line.starts_with(done)), "{stderr}");
    assert!(!stderr.contains('\u{1b}') && !stderr.contains('\r'));
    let quiet = test.raw(&["save", "a-1.safetensors", "-q"]);
    assert!(quiet.stderr.is_empty());
}

#[test]
fn progress_for_machines_is_a_line_of_json_each() {
    let test = TestFolder::with_checkpoints();
    let output = test.raw(&["verify", "--progress", "json", "--read-data"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<serde_json::Value> = stderr
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(
        lines.iter().all(|line| line["type"] == "progress"),
        "{stderr}"
    );
    let last = lines.last().unwrap();
    assert_eq!(last["done_bytes"], last["total_bytes"]);
    assert_eq!(last["finished"], true);
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let test = TestFolder::with_checkpoints();
    assert!(!test.ok(&["log"]).contains('\u{1b}'));
    assert!(test.ok(&["log", "--color", "always"]).contains('\u{1b}'));
    assert!(!test.fails(12, &["show", "nope"]).contains('\u{1b}'));
    let colored = test.fails(12, &["show", "nope", "--color", "always"]);
    assert!(colored.contains("\u{1b}["), "{colored}");
    assert!(!test.json(&["log", "--color", "always"]).is_null());
}

#[test]
fn an_interrupt_ends_the_work_with_a_code_of_its_own() {
    let test = TestFolder::empty();
    let mut child = piped(&test, &["demo", "--steps", "100000"]);
    // The first byte says that the handlers are in place.
    let mut first = [0];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("interrupted")
    );
}

#[test]
fn the_store_can_be_named_by_the_environment() {
    let test = TestFolder::empty();
    let with = |args: &[&str]| {
        let command = test.command(args).env("MILEPOST_STORE", "elsewhere");
        command.output().unwrap().status.code()
    };
    assert_eq!(with(&["init"]), Some(0));
    assert_eq!(with(&["log"]), Some(0));
    assert_eq!(with(&["log", "-s", "nowhere"]), Some(10));
    assert!(test.path("elsewhere/FORMAT").is_file());
}

#[test]
fn a_store_that_cannot_be_written_can_be_read() {
    let test = TestFolder::with_checkpoints();
    let store = test.path(".milepost");
    let mount = |args: &[&std::ffi::OsStr]| {
        let done = Command::new("mount")
            .args(args)
            .stderr(Stdio::null())
            .status();
        done.is_ok_and(|status| status.success())
    };
    let path = store.as_os_str();
    // A read-only mount binds even root; where mounts are not allowed nothing can be shown.
    if !mount(&["--bind".as_ref(), path, path]) {
        return;
    }
    let read_only = mount(&["-o".as_ref(), "remount,ro,bind".as_ref(), path]);
    let results = read_only.then(|| {
        (
            test.run(&["verify", "--read-data"]).code,
            test.run(&["restore", "latest", "-o", "out"]).code,
            test.run(&["save", "step-1.safetensors", "--step", "50"]),
        )
    });
    let unmounted = Command::new("umount")
        .arg(&store)
        .status()
        .unwrap()
        .success();
    assert!(unmounted);
    let Some((verified, restored, saved)) = results else {
        return;
    };
    assert_eq!((verified, restored, saved.code), (0, 0, 1));
    assert!(saved.stderr.contains("not writable"), "{}", saved.stderr);
}
