//! The command, run in a folder of its own.

use std::path::PathBuf;
use std::process::Output;

use snapbox::Assert;
use snapbox::cmd::Command;
use snapbox::data::Data;

use crate::support::{redact, safetensors};

/// A folder in which the command runs; its store is `.milepost` there.
pub(crate) struct TestFolder {
    pub(crate) folder: tempfile::TempDir,
}

/// What a run of the command left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestFolder {
    /// Without a store.
    pub(crate) fn empty() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// With an empty store of small chunks.
    pub(crate) fn with_store() -> Self {
        let test = Self::empty();
        // A budget under which small deltas chain.
        test.ok(&["init", "--chunk-size", "4KiB", "--restore-budget", "8"]);
        test
    }

    /// With three checkpoints, of steps 1 to 3.
    pub(crate) fn with_checkpoints() -> Self {
        let test = Self::with_store();
        for step in 1..=3 {
            let name = format!("step-{step}.safetensors");
            test.write(&name, &safetensors::small(step));
            test.ok(&["save", &name, "--metric", "loss=0.5"]);
        }
        test
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own input files")]
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// The command, with nothing of this process's environment that it would heed.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        Command::new(env!("CARGO_BIN_EXE_milepost"))
            .args(args)
            .current_dir(self.folder.path())
            .env_remove("MILEPOST_STORE")
            .env_remove("MILEPOST_PROGRESS")
            .env_remove("MILEPOST_LOG")
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .env("COLUMNS", "100")
    }

    /// Runs it as it is.
    pub(crate) fn raw(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs it without progress.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        let command = self.command(args).env("MILEPOST_PROGRESS", "none");
        Ran::new(command.output().unwrap())
    }

    /// Runs it and holds that it worked; its standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stdout
    }

    /// As [`Self::ok`], as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(&[args, &["--json"]].concat());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["schema"], 1);
        value
    }

    /// Runs it and holds that it failed with that code; standard error.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran.stderr
    }
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Holds text against a file of `tests/cli/snapshots`; `SNAPSHOTS=overwrite` writes it anew.
pub(crate) fn snapshot(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cli/snapshots")
        .join(name);
    Assert::new()
        .action_env("SNAPSHOTS")
        .eq(text.to_owned(), Data::read_from(&path, None));
}

/// As [`snapshot`], with everything redacted that differs from run to run.
pub(crate) fn snapshot_text(name: &str, text: &str) {
    snapshot(name, &redact::text(text));
}

/// As [`snapshot_text`], for JSON.
pub(crate) fn snapshot_json(name: &str, value: serde_json::Value) {
    let text = serde_json::to_string_pretty(&redact::json(value)).unwrap();
    snapshot(name, &(text + "\n"));
}
