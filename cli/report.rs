//! What is said when a command fails: one sentence, a hint, and with `--json` a line for machines.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::exit::{self, Failure};
use crate::output::{self, one_line};

const ERROR: Style = AnsiColor::Red.on_default().bold();
const HINT: Style = AnsiColor::Cyan.on_default().bold();
const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// The last line on stderr with `--json`.
#[derive(Serialize)]
struct JsonError<'e> {
    #[serde(rename = "type")]
    kind_of_line: &'static str,
    code: u8,
    kind: &'e str,
    id: &'e str,
    message: String,
    hint: Option<&'e str>,
}

/// Reports a failure and says how the process ends.
pub(crate) fn failure(failure: &Failure, json: bool) -> u8 {
    let code = exit::of_failure(failure);
    let (Failure::Error(error) | Failure::Incomplete(error)) = failure else {
        return code;
    };
    let message = error.to_string();
    let hint = error.advice().or_else(|| hint_for(error.code()));
    if json {
        print_json(&JsonError {
            kind_of_line: "error",
            code,
            kind: error.kind().name(),
            id: error.code(),
            message,
            hint,
        });
    } else {
        print_text(&message, hint);
    }
    code
}

/// What helps where the engine, which knows no command line, does not say it.
fn hint_for(code: &str) -> Option<&'static str> {
    Some(match code {
        "revision" => "`milepost log` shows the checkpoints",
        "tag" => "`milepost tag` shows the tags",
        "rows" => "`milepost ls REV` shows the shapes",
        "glob" => "`*` matches anything, `?` one character, `[abc]` one of several",
        "setting" => "`milepost init --help` shows the settings",
        _ => return None,
    })
}

/// Reports what clap did not understand, or prints the help that was asked for.
pub(crate) fn usage(error: &clap::Error, args: &[OsString]) -> u8 {
    let json = args
        .iter()
        .take_while(|arg| *arg != "--")
        .any(|arg| arg == "--json");
    if json && error.use_stderr() {
        let text = error.to_string();
        // What is wrong stands before the usage, at times on several lines.
        let what = text.split("\n\nUsage").next().unwrap_or_default();
        let words: Vec<&str> = what.split_whitespace().collect();
        print_json(&JsonError {
            kind_of_line: "error",
            code: exit::USAGE,
            kind: "usage",
            id: "usage",
            message: words.join(" ").trim_start_matches("error: ").to_owned(),
            hint: Some("`milepost --help` shows what there is"),
        });
        return exit::USAGE;
    }
    // A closed pipe while help is printed is no error.
    let printed = error.print();
    drop(printed);
    match error.use_stderr() {
        true => exit::USAGE,
        false => exit::DONE,
    }
}

/// Whether stderr is for machines.
static JSON: AtomicBool = AtomicBool::new(false);
/// What was warned of already: the same damage may be met several times.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Makes warnings lines of JSON from now on.
pub(crate) fn use_json() {
    JSON.store(true, Ordering::Relaxed);
}

/// A line on stderr with `--json` that is no error.
#[derive(Serialize)]
struct JsonLine<'m> {
    #[serde(rename = "type")]
    kind_of_line: &'m str,
    message: String,
}

/// Tells of something that is wrong but does not stop the command; once.
pub(crate) fn warning(message: &str) {
    let message = one_line(message);
    let mut warned = WARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if !warned.insert(message.clone()) {
        return;
    }
    if JSON.load(Ordering::Relaxed) {
        return note("warning", message);
    }
    let mut stderr = anstream::stderr().lock();
    let written = writeln!(stderr, "{WARNING}warning{WARNING:#}: {message}");
    drop(written);
}

/// Tells what is going on.
pub(crate) fn note(kind: &str, message: String) {
    let line = match JSON.load(Ordering::Relaxed) {
        true => output::to_json(&JsonLine {
            kind_of_line: kind,
            message,
        }),
        false => format!("{kind}: {message}"),
    };
    let written = writeln!(anstream::stderr().lock(), "{line}");
    drop(written);
}

fn print_text(message: &str, hint: Option<&str>) {
    let mut stderr = anstream::stderr().lock();
    let mut written = writeln!(stderr, "{ERROR}error{ERROR:#}: {}", one_line(message));
    if let (Ok(()), Some(hint)) = (&written, hint) {
        written = writeln!(stderr, "\n{HINT}hint{HINT:#}: {}", one_line(hint));
    }
    // There is nowhere left to say that stderr is closed.
    drop(written);
}

fn print_json(error: &JsonError<'_>) {
    let written = writeln!(anstream::stderr().lock(), "{}", output::to_json(error));
    drop(written);
}
