//! One file for each verb; each uses only the engine's public interface.

pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod forget;
pub(crate) mod fork;
pub(crate) mod gc;
pub(crate) mod init;
pub(crate) mod log;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod restore;
pub(crate) mod salvage;
pub(crate) mod save;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod tag;
pub(crate) mod verify;
pub(crate) mod version;

use crate::args::Command;
use crate::exit::Result;
use crate::session::Session;

/// Runs one command.
pub(crate) fn run(command: Command, session: &Session) -> Result {
    match command {
        Command::Init(args) => init::run(&args, session),
        Command::Save(args) => save::run(&args, session),
        Command::Restore(args) => restore::run(&args, session),
        Command::Log(args) => log::run(&args, session),
        Command::Ls(args) => ls::run(&args, session),
        Command::Show(args) => show::run(&args, session),
        Command::Diff(args) => diff::run(&args, session),
        Command::Stats(args) => stats::run(&args, session),
        Command::Verify(args) => verify::run(&args, session),
        Command::Tag(args) => tag::run(&args, session),
        Command::Fork(args) => fork::run(&args, session),
        Command::Forget(args) => forget::run(&args, session),
        Command::Gc(args) => gc::run(&args, session),
        Command::Compact(args) => compact::run(&args, session),
        Command::Demo(args) => demo::run(&args, session),
        Command::DemoChild(args) => demo::run_child(&args, session),
        Command::Completions(args) => completions::run(&args, session),
        Command::Man(args) => man::run(&args, session),
        Command::Version(args) => version::run(&args, session),
    }
}
