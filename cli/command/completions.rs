//! `milepost completions`: what makes a shell complete the command line.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde::Serialize;

use crate::args::Cli;
use crate::exit::{Outcome, Result};
use crate::session::Session;

/// Print a completion script for a shell.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell.
    shell: Shell,
}

#[derive(Serialize)]
struct CompletionsView {
    shell: String,
    script: String,
}

pub(crate) fn run(args: &Completions, session: &Session) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "milepost", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if session.out.json {
        session.out.document(&CompletionsView {
            shell: args.shell.to_string(),
            script,
        })?;
    } else {
        session.out.text(&script)?;
    }
    Ok(Outcome::Done)
}
