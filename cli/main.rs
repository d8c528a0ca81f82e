//! The `milepost` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = std::env::args_os().skip(1).collect();
    ExitCode::from(milepost_cli::run(Vec::new(), args))
}
