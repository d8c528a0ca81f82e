//! Takes out of printed text what differs from run to run: ids, times, sizes.

use serde_json::Value;

/// Text for people. Runs of spaces become one, because sizes decide how wide columns are.
pub(crate) fn text(text: &str) -> String {
    text.lines().map(|l| line(l) + "\n").collect()
}

fn line(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let next = words.get(at + 1).copied().unwrap_or_default();
        let (core, around) = core(word);
        let (next_core, next_around) = self::core(next);
        let number = core.parse::<f64>().is_ok();
        if number && ["B", "KiB", "MiB", "GiB"].contains(&next_core) {
            out.push(format!("{}[SIZE]{}", around.0, next_around.1));
            at += 2;
        } else if number && next_core == "bytes" && is_freed(around.0, out.last()) {
            out.push(format!("{}[BYTES]", around.0));
            at += 1;
        } else if next_core == "ago" {
            out.push(format!("{}[AGE]{}", around.0, next_around.1));
            at += 2;
        } else {
            out.push(format!("{}{}{}", around.0, redacted(core), around.1));
            at += 1;
        }
    }
    format!("{}{}", &line[..indent], out.join(" "))
}

/// Whether a number of bytes is what a plan says that it frees.
fn is_freed(mark: &str, before: Option<&String>) -> bool {
    mark == "(" || before.is_some_and(|word| word == "frees")
}

/// A word without the punctuation before and behind it.
fn core(word: &str) -> (&str, (&str, &str)) {
    let is_mark = |c: char| "(),;:\"".contains(c);
    let head = word.len() - word.trim_start_matches(is_mark).len();
    let rest = &word[head..];
    let core = rest.trim_end_matches(is_mark);
    (core, (&word[..head], &rest[core.len()..]))
}

fn redacted(word: &str) -> &str {
    let hex = word
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let decimal = |text: &str| text.contains('.') && text.parse::<f64>().is_ok();
    match word.len() {
        64 if hex => "[ID]",
        8 if hex => "[SHORT]",
        20.. if word.starts_with("20") && word.ends_with('Z') => "[TIME]",
        _ if word.strip_suffix('x').is_some_and(decimal) => "[RATIO]",
        _ if decimal(word) && word.len() == 4 => "[NUMBER]",
        _ if word.starts_with("packs/") => "[PACK]",
        _ => word,
    }
}

/// Fields whose values differ from run to run, or with every change of a codec.
const VARYING: [&str; 22] = [
    "id",
    "parent",
    "previous_id",
    "from",
    "a",
    "b",
    "time",
    "uuid",
    "added_bytes",
    "stored_bytes",
    "unique_bytes",
    "disk_bytes",
    "pack_bytes",
    "manifest_bytes",
    "other_bytes",
    "record_bytes",
    "restore_cost",
    "ratio",
    "offset",
    "pack",
    "encoding",
    "inputs",
];

/// A JSON document; what is null stays null.
pub(crate) fn json(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let redacted = fields.into_iter().map(|(key, value)| {
                let varies = VARYING.contains(&key.as_str()) && !value.is_null();
                let value = if varies || (key == "packs" && value.is_array()) {
                    Value::from("[..]")
                } else {
                    json(value)
                };
                (key, value)
            });
            Value::Object(redacted.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        other => other,
    }
}
