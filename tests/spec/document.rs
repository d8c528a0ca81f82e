//! `format-spec.md` as headings, tables and fenced blocks.

use std::path::{Path, PathBuf};

/// The folder that holds everything.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The whole document.
pub(crate) fn text() -> String {
    std::fs::read_to_string(repository().join("format-spec.md")).unwrap()
}

/// The text under the heading that begins with `title`, its subsections included.
pub(crate) fn section(title: &str) -> String {
    let text = text();
    let level = |line: &str| line.bytes().take_while(|b| *b == b'#').count();
    let mut lines = text.lines();
    let is_it = |line: &&str| {
        let (hashes, rest) = line.split_at(level(line));
        !hashes.is_empty() && rest.trim_start().starts_with(title)
    };
    let heading = lines
        .find(is_it)
        .unwrap_or_else(|| panic!("no heading {title:?}"));
    let mut in_block = false;
    let inside = lines.take_while(|line| {
        in_block ^= line.starts_with("```");
        in_block || level(line) == 0 || level(line) > level(heading)
    });
    inside.collect::<Vec<_>>().join("\n")
}

/// The numbers of all headings, such as `9.3`.
pub(crate) fn numbers() -> Vec<String> {
    let text = text();
    let headings = text
        .lines()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' '));
    let number = |heading: &str| {
        heading
            .split(' ')
            .next()
            .map(|n| n.trim_end_matches('.').into())
    };
    let digits = |n: &String| n.starts_with(|c: char| c.is_ascii_digit());
    headings.filter_map(number).filter(digits).collect()
}

/// A table: its header and its rows.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Every table of a text.
pub(crate) fn tables(text: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            inside = false;
            continue;
        }
        let cells = line.trim_matches('|').split(" | ");
        let cells: Vec<String> = cells
            .map(|c| c.trim_matches([' ', '|']).to_owned())
            .collect();
        if !inside {
            tables.push(Table {
                header: cells,
                rows: Vec::new(),
            });
        } else if !line.starts_with("| ---") {
            tables.last_mut().unwrap().rows.push(cells);
        }
        inside = true;
    }
    tables
}

/// The first table of a section, and at least one row of it.
pub(crate) fn table(title: &str) -> Table {
    let table = tables(&section(title)).into_iter().next().unwrap();
    assert!(!table.rows.is_empty(), "{title}");
    table
}

/// The first cells of each row of a section's table.
pub(crate) fn columns<const N: usize>(title: &str) -> Vec<[String; N]> {
    let first = |row: Vec<String>| -> [String; N] {
        row.into_iter()
            .take(N)
            .collect::<Vec<_>>()
            .try_into()
            .unwrap()
    };
    table(title).rows.into_iter().map(first).collect()
}

/// The fenced blocks of that kind: what follows the kind in the first line, and the lines.
pub(crate) fn blocks(text: &str, kind: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            let (word, rest) = fence.split_once(' ').unwrap_or((fence, ""));
            inside = word == kind;
            if inside {
                found.push((rest.to_owned(), Vec::new()));
            }
        } else if inside {
            found.last_mut().unwrap().1.push(line.to_owned());
        }
    }
    found
}

/// Bytes from hex digits, with or without spaces.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b' ').collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    assert!(digits.len().is_multiple_of(2), "{text}");
    digits.chunks(2).map(pair).collect()
}

/// A number, decimal or with `0x`.
pub(crate) fn number(text: &str) -> u64 {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{text:?}: {e}"))
}

/// In every table of bytes, each field starts where the one before ends.
#[test]
fn offsets_add_up() {
    let mut checked = 0;
    for table in tables(&text()) {
        if table.header[..2] != ["Offset", "Size"] {
            continue;
        }
        let mut next = Some(0);
        for row in &table.rows {
            let at = row[0].parse::<u64>().ok();
            let contiguous = at.zip(next).is_none_or(|(at, next)| at == next);
            assert!(contiguous, "{row:?}");
            checked += usize::from(at.is_some());
            next = at
                .zip(row[1].parse::<u64>().ok())
                .map(|(at, size)| at + size);
        }
    }
    assert!(checked > 60, "{checked}");
}
