//! Progress of long work on stderr: a bar, plain lines, or JSON lines; and whether to stop.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use milepost_engine::Observer;
use serde::Serialize;

use crate::args::ProgressMode;
use crate::output::{one_line, to_json};
use crate::report;
use crate::size;

/// Time between plain lines: logs of batch jobs stay short.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Work that takes less has no plain line: logs are for what took its time.
const PLAIN_MIN: Duration = Duration::from_secs(1);
/// Time between JSON lines.
const JSON_EVERY: Duration = Duration::from_secs(1);

/// Watches one operation.
pub(crate) struct Progress {
    operation: String,
    started: Instant,
    kind: Kind,
    last: Mutex<Instant>,
    done: AtomicU64,
    total: AtomicU64,
    stop: Arc<AtomicBool>,
}

enum Kind {
    Bar(ProgressBar),
    Plain,
    Json,
    None,
}

/// One line of JSON progress.
#[derive(Serialize)]
struct JsonProgress<'p> {
    #[serde(rename = "type")]
    kind_of_line: &'static str,
    op: &'p str,
    done_bytes: u64,
    total_bytes: u64,
    elapsed_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    eta_s: Option<f64>,
    finished: bool,
}

impl Progress {
    /// Starts watching; `stop` is set when the user wants to stop.
    pub(crate) fn start(mode: ProgressMode, operation: &str, stop: Arc<AtomicBool>) -> Self {
        let kind = match mode {
            ProgressMode::Auto if std::io::stderr().is_terminal() => Kind::Bar(bar(operation)),
            ProgressMode::Auto | ProgressMode::Plain => Kind::Plain,
            ProgressMode::Bar => Kind::Bar(bar(operation)),
            ProgressMode::Json => Kind::Json,
            ProgressMode::None => Kind::None,
        };
        let progress = Self {
            operation: one_line(operation),
            started: Instant::now(),
            kind,
            last: Mutex::new(Instant::now()),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stop,
        };
        if let Kind::Json = progress.kind {
            progress.json(false);
        }
        progress
    }

    /// Says that the operation is through. Dropped without it, nothing more is said: an error
    /// follows.
    pub(crate) fn finish(self) {
        match &self.kind {
            Kind::Bar(bar) => bar.finish_and_clear(),
            Kind::Plain => {
                let done = self.done.load(Ordering::Relaxed);
                let took = self.started.elapsed();
                if took >= PLAIN_MIN {
                    let took = took.as_secs_f64();
                    self.plain(&format!("done, {} in {took:.1} s", size::bytes(done)));
                }
            }
            Kind::Json => self.json(true),
            Kind::None => {}
        }
    }

    fn plain(&self, what: &str) {
        let line = format!("milepost: {}: {what}\n", self.operation);
        write_stderr(&line);
    }

    fn json(&self, finished: bool) {
        let line = JsonProgress {
            kind_of_line: "progress",
            op: &self.operation,
            done_bytes: self.done.load(Ordering::Relaxed),
            total_bytes: self.total.load(Ordering::Relaxed),
            elapsed_s: self.started.elapsed().as_secs_f64(),
            eta_s: self.seconds_left(),
            finished,
        };
        write_stderr(&(to_json(&line) + "\n"));
    }

    /// From the rate so far; unknown before the first byte.
    fn seconds_left(&self) -> Option<f64> {
        let done = self.done.load(Ordering::Relaxed);
        let left = self.total.load(Ordering::Relaxed).saturating_sub(done);
        let took = self.started.elapsed().as_secs_f64();
        (done > 0).then(|| took * size::ratio(left, done))
    }

    /// Whether it is time for the next line; then it counts as written.
    fn is_due(&self, every: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.elapsed() >= every;
        if due {
            *last = Instant::now();
        }
        due
    }
}

impl Observer for Progress {
    fn advance(&self, done: u64, total: u64) {
        // Threads report out of order; what was done once stays done.
        let done = self.done.fetch_max(done, Ordering::Relaxed).max(done);
        self.total.store(total, Ordering::Relaxed);
        match &self.kind {
            Kind::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
            }
            Kind::Plain if self.is_due(PLAIN_EVERY) => self.plain(&format!(
                "{:.0}% ({} of {}), {:.0} s left",
                size::percent(done, total),
                size::bytes(done),
                size::bytes(total),
                self.seconds_left().unwrap_or_default(),
            )),
            Kind::Json if self.is_due(JSON_EVERY) => self.json(false),
            Kind::Plain | Kind::Json | Kind::None => {}
        }
    }

    fn waiting(&self, lock: &str) {
        let message = format!("waiting for another process, which holds {lock}");
        match &self.kind {
            Kind::Bar(bar) => bar.println(format!("milepost: {}: {message}", self.operation)),
            _ => report::note("waiting", format!("{}: {message}", self.operation)),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

fn bar(operation: &str) -> ProgressBar {
    let template = "{msg}  {wide_bar}  {percent}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta}";
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    // The template is fixed; were it wrong, indicatif's own would do.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(one_line(operation))
}

/// A closed stderr is no reason to stop the work.
fn write_stderr(line: &str) {
    let written = anstream::stderr().lock().write_all(line.as_bytes());
    drop(written);
}
