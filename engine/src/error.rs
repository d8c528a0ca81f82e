//! The one error type of the engine.
//!
//! Rules:
//! 1. The kind says who must act: the caller, the operator, or nobody but the disk's owner.
//! 2. The code is a stable, machine-readable name of the one condition; it is never reused.
//! 3. The message is a sentence about *what* is wrong; file, offset, subject, expected and
//!    found are separate fields, so that nothing has to be parsed out of prose.
//! 4. Text from a store is quoted with `Debug` escapes and never echoed raw.
//! 5. An error is never swallowed: it is returned, or its loss is explained where it happens.

use std::borrow::Cow;
use std::fmt;
use std::io;

/// The engine's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Who must act, and how.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The store's bytes are not what was written: restore from elsewhere, replace the disk.
    Corrupt,
    /// Written by a newer milepost, or by one with features this one lacks: upgrade.
    Unsupported,
    /// There is no such store, run, checkpoint, tensor or tag: the caller named it wrongly.
    NotFound,
    /// The caller passed something that cannot be stored or looked up.
    InvalidInput,
    /// A limit of the format or of the store would be passed.
    Limit,
    /// Another writer got there first, or the name is taken.
    Conflict,
    /// Another process holds a lock that is needed now.
    Locked,
    /// The disk or the quota is full.
    NoSpace,
    /// The caller asked to stop; nothing was changed.
    Interrupted,
    /// The operating system refused; its own error is the source.
    Io,
}

impl ErrorKind {
    /// The stable lower-case name, as printed by `--json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::NotFound => "not-found",
            Self::InvalidInput => "invalid-input",
            Self::Limit => "limit",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::NoSpace => "no-space",
            Self::Interrupted => "interrupted",
            Self::Io => "io",
        }
    }
}

/// What went wrong, where, and what would help.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    code: &'static str,
    message: Cow<'static, str>,
    file: Option<String>,
    offset: Option<u64>,
    subject: Option<String>,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<Cow<'static, str>>,
    source: Option<io::Error>,
}

impl Error {
    /// A new error; `code` is its stable name, `message` a sentence without a full stop.
    pub fn new(kind: ErrorKind, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            code,
            message: message.into(),
            file: None,
            offset: None,
            subject: None,
            expected: None,
            found: None,
            hint: None,
            source: None,
        }))
    }

    /// Shorthand for the most common kind.
    pub fn corrupt(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Corrupt, code, message)
    }

    /// Shorthand for a caller's mistake.
    pub fn invalid(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, code, message)
    }

    /// Wraps an operating-system error met while doing `action` ("write", "sync", ...).
    #[must_use]
    pub fn io(action: &'static str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        let mut error = Self::new(kind, "io", format!("cannot {action}"));
        error.0.source = Some(source);
        error
    }

    /// Names the file, relative to the store's root.
    #[must_use]
    pub fn file(mut self, file: impl fmt::Display) -> Self {
        self.0.file.get_or_insert_with(|| file.to_string());
        self
    }

    /// Names the byte offset in the file.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// Names the tensor, blob, chunk or checkpoint that is hit.
    #[must_use]
    pub fn subject(mut self, subject: impl fmt::Display) -> Self {
        self.0.subject.get_or_insert_with(|| subject.to_string());
        self
    }

    /// States what should have been there and what was.
    #[must_use]
    pub fn differs(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self.0.found = Some(found.to_string());
        self
    }

    /// Says what the reader of the message can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Who must act.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The condition's stable name.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The file it was met in, relative to the store's root.
    #[must_use]
    pub fn in_file(&self) -> Option<&str> {
        self.0.file.as_deref()
    }

    /// Replaces the hint.
    #[must_use]
    pub fn hint_instead(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The byte offset it was met at.
    #[must_use]
    pub fn at_offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The tensor, blob, chunk or checkpoint that is hit.
    #[must_use]
    pub fn about(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// What the reader of the message can do, if anything is known.
    #[must_use]
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = &*self.0;
        f.write_str(&e.message)?;
        if let Some(subject) = &e.subject {
            write!(f, " ({subject})")?;
        }
        if let Some(file) = &e.file {
            write!(f, " in {file}")?;
        }
        if let Some(offset) = e.offset {
            write!(f, " at byte {offset}")?;
        }
        if let (Some(expected), Some(found)) = (&e.expected, &e.found) {
            write!(f, ": expected {expected}, found {found}")?;
        }
        if let Some(source) = &e.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{}] {self}", self.kind().name(), self.code())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_place_and_difference_once() {
        let error = Error::corrupt("record-checksum", "record fails its checksum")
            .file("packs/ab/x.pack")
            .file("outer")
            .offset(32)
            .subject("tensor \"w\"")
            .differs("0x1", "0x2");
        assert_eq!(
            error.to_string(),
            "record fails its checksum (tensor \"w\") in packs/ab/x.pack at byte 32: expected 0x1, found 0x2"
        );
    }

    #[test]
    fn a_full_disk_is_its_own_kind() {
        let error = Error::io("write", io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.kind(), ErrorKind::NoSpace);
    }
}
