//! How this command is started anew.

use std::ffi::OsString;
use std::process::Command;
use std::sync::OnceLock;

use milepost_engine::{Error, Result};

static PROGRAM: OnceLock<Vec<OsString>> = OnceLock::new();

/// Sets the path and the first arguments; only the first call counts.
pub(crate) fn set(program: Vec<OsString>) {
    PROGRAM.get_or_init(|| program);
}

/// The command, to be given its arguments.
pub(crate) fn anew() -> Result<Command> {
    if let Some((path, first)) = PROGRAM.get().and_then(|p| p.split_first()) {
        let mut command = Command::new(path);
        command.args(first);
        return Ok(command);
    }
    let path = std::env::current_exe().map_err(|e| Error::io("find this program", e))?;
    Ok(Command::new(path))
}
