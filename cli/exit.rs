//! Exit codes: the only place that knows them. Scripts rely on them; they are only added to.

use std::io;

use milepost_engine::{Error, ErrorKind};

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was done.
    Done,
    /// `diff --exit-code` found a difference.
    Different,
    /// A part of what was asked for is missing, and was told.
    Partial,
}

/// How a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing that was asked for was done.
    Error(Error),
    /// A part of it was done before this.
    Incomplete(Error),
    /// Whoever read the output stopped reading: no error, as with any filter.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    /// Of writing to standard output: everything else is an [`Error`] where it happens.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::ClosedPipe;
        }
        Self::Error(Error::io("write to standard output", error))
    }
}

/// What a command returns.
pub(crate) type Result<T = Outcome> = std::result::Result<T, Failure>;

/// A usage error, clap's own code.
pub(crate) const USAGE: u8 = 2;
pub(crate) const DONE: u8 = 0;
const FAILED: u8 = 1;
const INCOMPLETE: u8 = 3;
const NO_STORE: u8 = 10;
const LOCKED: u8 = 11;
const NOT_FOUND: u8 = 12;
const CORRUPT: u8 = 13;
const NEWER_FORMAT: u8 = 14;
const NO_SPACE: u8 = 15;
/// Interrupted, as by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

/// The code of a command that did not fail.
pub(crate) fn of_outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => DONE,
        Outcome::Different => FAILED,
        Outcome::Partial => INCOMPLETE,
    }
}

/// The code of a failure.
pub(crate) fn of_failure(failure: &Failure) -> u8 {
    match failure {
        Failure::Error(error) => of_error(error),
        Failure::Incomplete(error) => match of_error(error) {
            FAILED | USAGE => INCOMPLETE,
            specific => specific,
        },
        Failure::ClosedPipe => DONE,
    }
}

fn of_error(error: &Error) -> u8 {
    match error.kind() {
        ErrorKind::NotFound if error.code() == "no-store" => NO_STORE,
        ErrorKind::NotFound => NOT_FOUND,
        ErrorKind::Locked => LOCKED,
        ErrorKind::Corrupt => CORRUPT,
        ErrorKind::Unsupported => NEWER_FORMAT,
        ErrorKind::NoSpace => NO_SPACE,
        ErrorKind::Interrupted => INTERRUPTED,
        // A file that cannot be used is no mistake in the words of the command.
        ErrorKind::InvalidInput if is_about_a_file(error.code()) => FAILED,
        ErrorKind::InvalidInput => USAGE,
        _ => FAILED,
    }
}

/// Codes of files that the user named begin with `input` or `output`; those of tensors come
/// from such files as well.
fn is_about_a_file(code: &str) -> bool {
    ["input", "output", "key", "tensor-"]
        .iter()
        .any(|prefix| code.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_codes_that_scripts_rely_on() {
        let code = |kind| of_error(&Error::new(kind, "x", "x"));
        assert_eq!(code(ErrorKind::NotFound), 12);
        assert_eq!(code(ErrorKind::Locked), 11);
        assert_eq!(code(ErrorKind::Corrupt), 13);
        assert_eq!(code(ErrorKind::Unsupported), 14);
        assert_eq!(code(ErrorKind::NoSpace), 15);
        assert_eq!(code(ErrorKind::Interrupted), 130);
        assert_eq!(code(ErrorKind::InvalidInput), 2);
        assert_eq!(code(ErrorKind::Conflict), 1);
        assert_eq!(code(ErrorKind::Io), 1);
    }

    #[test]
    fn a_part_that_was_done_is_told_unless_the_cause_has_a_code_of_its_own() {
        let bad = || Error::invalid("input-header", "x");
        assert_eq!(of_failure(&Failure::Error(bad())), 1);
        assert_eq!(of_failure(&Failure::Incomplete(bad())), 3);
        let full = Error::new(ErrorKind::NoSpace, "io", "x");
        assert_eq!(of_failure(&Failure::Incomplete(full)), 15);
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(of_failure(&Failure::from(pipe)), 0);
    }
}
