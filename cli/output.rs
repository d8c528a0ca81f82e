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
    let json = serde_json::to_string(value).unwrap_or_default();
    // JSON lets them stand; a terminal that shows it obeys them. They are in strings only.
    escape(&json, |c, out| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

/// Whether a character moves a terminal's cursor, or makes text look like other text.
fn misleads(c: char) -> bool {
    let turns_or_breaks = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns_or_breaks
}

fn escape(text: &str, escaped: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match misleads(c) {
            true => escaped(c, &mut out),
            false => out.push(c),
        }
    }
    out
}

/// Text from a file or a store on one line: control characters, such as those that move a
/// terminal's cursor, are shown instead of sent.
pub(crate) fn one_line(text: &str) -> String {
    escape(text, |c, out| out.extend(c.escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc\u{e9}"), "a\\u{1b}[2Jb\\nc\u{e9}");
        assert_eq!(one_line("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn json_moves_no_cursor_either_and_means_the_same() {
        let text = "a\u{1b}\u{9b}2J\u{7f}\u{202e}\u{2028}\u{e9}\"\\";
        let json = to_json(&text);
        assert!(!json.chars().any(misleads), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
