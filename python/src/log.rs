//! The engine's messages on their way to Python's `logging`.
//!
//! The engine's threads must not wait for the interpreter, so messages are kept until a thread
//! that has its lock passes them on.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, Once, PoisonError};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Messages that wait at most; older ones go first.
const WAITING_MAX: usize = 1000;

static WAITING: Mutex<VecDeque<(u8, String)>> = Mutex::new(VecDeque::new());
static INSTALLED: Once = Once::new();

/// Begins to keep messages; where a subscriber is installed already, that one takes them.
pub(crate) fn install() {
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(ToPython);
        drop(tracing::subscriber::set_global_default(subscriber));
    });
}

/// Passes on what was said; the package's logger decides what is shown.
pub(crate) fn pass_on(py: Python<'_>) -> PyResult<()> {
    let said = std::mem::take(&mut *WAITING.lock().unwrap_or_else(PoisonError::into_inner));
    if said.is_empty() {
        return Ok(());
    }
    let logger = py
        .import("logging")?
        .call_method1("getLogger", ("milepost.engine",))?;
    for (level, message) in said {
        logger.call_method1("log", (level, "%s", message))?;
    }
    Ok(())
}

struct ToPython;

impl<S: Subscriber> Layer<S> for ToPython {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            Level::INFO => 20,
            _ => return,
        };
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((level, sentence.message + &sentence.fields));
    }
}

/// An event's message, and its fields behind it.
#[derive(Default)]
struct Sentence {
    message: String,
    fields: String,
}

impl Visit for Sentence {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name}: {value:?}"),
        };
        let _ = written;
    }
}
