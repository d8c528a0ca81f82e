//! Data to standard output: text, or one JSON document. Must not compute.

use std::io::{self, Write};

use serde::Serialize;

/// Version of the JSON documents; fields are only added within one.
pub(crate) const SCHEMA: u32 = 1;

/// Where a command's data goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Print JSON.
    pub(crate) json: bool,
    /// Print ids or names only.
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// One line of text.
    pub(crate) fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        writeln!(anstream::stdout().lock(), "{}", text.as_ref())
    }

    /// Several lines of text; each ends with a newline already.
    pub(crate) fn text(self, text: &str) -> io::Result<()> {
        anstream::stdout().lock().write_all(text.as_bytes())
    }

    /// The JSON document.
    pub(crate) fn document<T: Serialize>(self, value: &T) -> io::Result<()> {
        let document = Document {
            schema: SCHEMA,
            value,
        };
        self.line(to_json(&document))
    }
}

#[derive(Serialize)]
struct Document<'v, T> {
    schema: u32,
    #[serde(flatten)]
    value: &'v T,
}

/// One line of JSON.
pub(crate) fn to_json<T: Serialize>(value: &T) -> String {
    // Only maps with keys that are no text cannot be written, and there are none.
    serde_json::to_string(value).unwrap_or_default()
}

/// Text from a file or a store on one line: control characters, such as those that move a
/// terminal's cursor, are shown instead of sent.
pub(crate) fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{e9}"), "a\\u{1b}[2Jb\\nc\u{e9}");
    }
}
