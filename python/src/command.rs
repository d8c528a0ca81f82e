//! The `milepost` command, which the wheel carries.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the command and returns its exit code. `program` is how to start it anew, a path and the
/// arguments before its own; `args` are its own.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, program: Vec<OsString>, args: Vec<OsString>) -> u8 {
    py.detach(|| milepost_cli::run(program, args))
}
