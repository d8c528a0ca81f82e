//! The engine's own messages, on stderr: warnings as the command's own, the rest as it comes.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::args::Global;
use crate::report;

/// Warnings by default, more with `-v`; `MILEPOST_LOG` decides in detail.
pub(crate) fn install(global: &Global) {
    let level = match global.verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("MILEPOST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let installed = tracing_subscriber::registry()
        .with(filter)
        .with(ToStderr)
        .try_init();
    // It can only fail if there is a subscriber already; then that one takes the messages.
    drop(installed);
}

struct ToStderr;

impl<S: Subscriber> Layer<S> for ToStderr {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let text = sentence.message + &sentence.rest;
        match *event.metadata().level() {
            Level::ERROR | Level::WARN => report::warning(&text),
            level => report::note(&level.as_str().to_lowercase(), text),
        }
    }
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Sentence {
    message: String,
    rest: String,
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message.push_str(&format!("{value:?}")),
            "error" => self.rest.push_str(&format!(": {value:?}")),
            name => self.rest.push_str(&format!(", {name} {value:?}")),
        }
    }
}
