//! Help of every command, word for word: people and scripts rely on the flags.

use crate::support::command::{TestFolder, snapshot};

const VERBS: [&str; 18] = [
    "init",
    "save",
    "restore",
    "log",
    "ls",
    "show",
    "diff",
    "stats",
    "verify",
    "forget",
    "gc",
    "compact",
    "tag",
    "fork",
    "demo",
    "completions",
    "man",
    "version",
];

#[test]
fn help_of_the_program() {
    snapshot("help.txt", &TestFolder::empty().ok(&["--help"]));
}

#[test]
fn help_of_every_command() {
    let test = TestFolder::empty();
    for verb in VERBS {
        snapshot(&format!("help-{verb}.txt"), &test.ok(&[verb, "--help"]));
    }
}

#[test]
fn manual_pages_and_completions_know_every_command() {
    let test = TestFolder::empty();
    let pages = test.ok(&["man", "-o", "man"]);
    for verb in VERBS {
        assert!(pages.contains(&format!("man/milepost-{verb}.1")), "{pages}");
    }
    assert!(!pages.contains("demo-child"));
    assert!(!test.read("man/milepost-save.1").is_empty());
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            test.ok(&["completions", shell]).contains("restore"),
            "{shell}"
        );
    }
}
