//! The engine's own messages, on stderr.

use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// Warnings by default, more with `-v`, errors only with `-q`; `MILEPOST_LOG` decides in detail.
pub(crate) fn install(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let filter = EnvFilter::try_from_env("MILEPOST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let color = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .with_target(false)
        .without_time()
        .try_init();
    // It can only fail if there is a subscriber already; then that one takes the messages.
    drop(installed);
}
