//! Flags: parser, help, man pages and completions come from this one definition.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use milepost_engine::ReaderMode;

use crate::command;

const AFTER_HELP: &str = "\
Environment: MILEPOST_STORE is the default of --store, MILEPOST_PROGRESS of --progress; \
MILEPOST_LOG picks the engine's messages, such as `debug`.

Exit codes: 0 done; 1 failed, or `diff --exit-code` found a difference; 2 wrong usage; 3 only a \
part was done; 10 no store; 11 locked by another process; 12 not found; 13 damaged; 14 written by a \
newer version; 15 no space; 130 interrupted.";

/// An incremental, lossless store of training checkpoints.
///
/// Every checkpoint restores bit for bit and on its own; it costs only what changed.
///
/// REV names a checkpoint: `latest`, a run, `RUN@latest`, `step:12000`, `RUN@step:12000`, a
/// tag, or the first digits of an id; `~2` behind any of them goes back two parents.
#[derive(Debug, Parser)]
#[command(
    name = "milepost",
    version,
    max_term_width = 100,
    after_long_help = AFTER_HELP
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every command takes.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The store's folder.
    #[arg(
        short,
        long,
        global = true,
        value_name = "PATH",
        env = "MILEPOST_STORE"
    )]
    #[arg(default_value = ".milepost", hide_env_values = true)]
    pub(crate) store: PathBuf,

    /// Print one JSON document instead of text; errors are JSON on stderr.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print only ids or names, one a line, and no progress.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Tell on stderr what is done; -vv tells more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,

    /// How to show progress on stderr.
    #[arg(long, global = true, value_name = "HOW", env = "MILEPOST_PROGRESS")]
    #[arg(default_value = "auto", hide_env_values = true)]
    pub(crate) progress: ProgressMode,

    /// Threads to work with; 0 for one each core.
    #[arg(
        short = 'j',
        long,
        global = true,
        value_name = "N",
        default_value_t = 0
    )]
    pub(crate) threads: usize,

    /// Seconds to wait for another process that holds a lock; without it, as long as it takes.
    #[arg(long, global = true, value_name = "SECONDS")]
    pub(crate) lock_timeout: Option<u64>,

    /// How to read the store's files; auto maps them on local file systems.
    #[arg(long, global = true, value_name = "HOW", default_value = "auto")]
    pub(crate) reader: Reader,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Makes every stream of this process follow it.
    pub(crate) fn apply(self) {
        let choice = match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// How to show progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    /// A bar on a terminal, plain lines elsewhere.
    Auto,
    /// A bar.
    Bar,
    /// A line at the start, every 10 seconds, and at the end.
    Plain,
    /// JSON, a line each second.
    Json,
    /// Nothing.
    None,
}

/// How to read the store's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reader {
    /// By the kind of file system.
    Auto,
    /// By mapping them into memory.
    Mmap,
    /// By positioned reads.
    Pread,
}

impl From<Reader> for ReaderMode {
    fn from(reader: Reader) -> Self {
        match reader {
            Reader::Auto => Self::Auto,
            Reader::Mmap => Self::Mmap,
            Reader::Pread => Self::Pread,
        }
    }
}

/// One variant for each verb.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(command::init::Init),
    Save(command::save::Save),
    Restore(command::restore::Restore),
    Log(command::log::Log),
    Ls(command::ls::Ls),
    Show(command::show::Show),
    Diff(command::diff::Diff),
    Stats(command::stats::Stats),
    Verify(command::verify::Verify),
    Tag(command::tag::Tag),
    Fork(command::fork::Fork),
    Forget(command::forget::ForgetArgs),
    Gc(command::gc::Gc),
    Compact(command::compact::Compact),
    Demo(command::demo::Demo),
    Completions(command::completions::Completions),
    Man(command::man::Man),
    Version(command::version::Version),
    #[command(hide = true)]
    DemoChild(command::demo::DemoChild),
}
