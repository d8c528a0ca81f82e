//! The `milepost` command as a function, for the program and for packages that carry it.

mod args;
mod command;
mod demo;
mod exit;
mod files;
mod keep;
mod log;
mod output;
mod program;
mod progress;
mod relation;
mod report;
mod safetensors_file;
mod session;
mod size;
mod step;
mod table;
mod view;

use std::ffi::OsString;

use clap::Parser;

use crate::args::Cli;
use crate::session::Session;

/// Runs one command and returns its exit code: parse, dispatch, report.
///
/// `program` starts this command anew, as the demo does to be killed: a path and the arguments
/// that come before those of the command. Without one it is this executable. `args` are the
/// command's own arguments, without a program's name. The handlers of signals stay installed, so
/// a process runs one command.
pub fn run(program: Vec<OsString>, args: Vec<OsString>) -> u8 {
    program::set(program);
    let named = std::iter::once(OsString::from("milepost")).chain(args.iter().cloned());
    let cli = match Cli::try_parse_from(named) {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error, &args),
    };
    cli.global.color.apply();
    let json = cli.global.json;
    let result = Session::start(cli.global).and_then(|session| command::run(cli.command, &session));
    match result {
        Ok(outcome) => exit::of_outcome(outcome),
        Err(failure) => report::failure(&failure, json),
    }
}
