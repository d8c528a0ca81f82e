//! The `milepost` command: parse, dispatch, exit code.

mod args;
mod command;
mod demo;
mod exit;
mod files;
mod keep;
mod log;
mod output;
mod progress;
mod report;
mod safetensors_file;
mod session;
mod size;
mod step;
mod table;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::session::Session;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return report::usage(&error),
    };
    cli.global.color.apply();
    let json = cli.global.json;
    let result = Session::start(cli.global).and_then(|session| command::run(cli.command, &session));
    match result {
        Ok(outcome) => exit::of_outcome(outcome),
        Err(failure) => report::failure(&failure, json),
    }
}
