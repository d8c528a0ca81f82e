//! The hex dump of appendix B and the conformance files of appendix C against the files.

use std::collections::BTreeMap;

use milepost_engine::codec;
use milepost_engine::format::section;

use crate::spec::document::{self, blocks, columns, hex, number};
use crate::support::golden::{self, EXPECTED, ExpectedReject, name_of};
use crate::support::packs::files_below;

/// The bytes of a dump; every line's offset is where its bytes lie.
fn bytes_of(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let (offset, rest) = line.split_once("  ").unwrap();
        assert_eq!(number(&format!("0x{offset}")), bytes.len() as u64, "{line}");
        let digits = rest.get(..47).unwrap_or(rest);
        bytes.extend(hex(digits));
    }
    bytes
}

fn dumps(kind: &str) -> BTreeMap<String, Vec<u8>> {
    let dumps = blocks(&document::section("Appendix B."), kind);
    dumps
        .into_iter()
        .map(|(title, lines)| (title, bytes_of(&lines)))
        .collect()
}

#[test]
fn the_dump_is_the_smallest_golden_store() {
    let root = golden::root().join("good/smallest");
    let dumps = dumps("hexdump");
    let files = files_below(&root)
        .into_iter()
        .filter(|p| p.to_str() != Some(EXPECTED));
    let files: Vec<String> = files.map(|p| p.to_str().unwrap().to_owned()).collect();
    assert_eq!(dumps.keys().cloned().collect::<Vec<_>>(), files);
    for (path, bytes) in dumps {
        assert!(std::fs::read(root.join(&path)).unwrap() == bytes, "{path}");
    }
}

#[test]
fn the_decoded_sections_are_those_of_the_files() {
    let root = golden::root().join("good/smallest");
    let decoded = dumps("decoded");
    assert_eq!(decoded.len(), 4);
    for (title, bytes) in decoded {
        let (name, path) = title.split_once(' ').unwrap();
        let file = std::fs::read(root.join(path)).unwrap();
        let kind = if name == "body" {
            section::BODY
        } else {
            section::PLACEMENT
        };
        let sections = section::decode_file(&file).unwrap();
        let found = sections.iter().find(|s| s.kind == kind).unwrap();
        let raw = codec::decompress_section(found.stored, found.raw_len).unwrap();
        assert!(raw == bytes, "{title}");
    }
}

#[test]
fn the_conformance_files_are_those_that_are_listed() {
    let tables = document::tables(&document::section("Appendix C."));
    let good: Vec<(String, String)> = tables[0]
        .rows
        .iter()
        .map(|row| (row[0].clone(), row[2].clone()))
        .collect();
    let found = golden::stores("good");
    let found = found
        .iter()
        .map(|root| (name_of(root).to_owned(), golden::digest(root)));
    let mut found: Vec<(String, String)> = found.collect();
    found.sort();
    assert_eq!(good, found);
    let mut listed: Vec<Vec<String>> = tables[1].rows.clone();
    listed.sort();
    let rows = golden::stores("must-reject").into_iter().map(|root| {
        let e: ExpectedReject = golden::expected(&root);
        vec![
            name_of(&root).to_owned(),
            e.rule,
            e.kind,
            e.code,
            e.what,
            golden::digest(&root),
        ]
    });
    let mut rows: Vec<Vec<String>> = rows.collect();
    rows.sort();
    assert_eq!(listed, rows);
}

/// A conformance file's rule says its kind and has its code in the MUST-reject list; every rule
/// has a file, but for those that version control cannot hold.
#[test]
fn every_rule_has_its_conformance_files() {
    let rules = columns::<4>("16.2 MUST-reject");
    let mut without: Vec<&str> = rules.iter().map(|[rule, ..]| rule.as_str()).collect();
    for root in golden::stores("must-reject") {
        let e: ExpectedReject = golden::expected(&root);
        let [rule, _, kind, codes] = rules.iter().find(|[rule, ..]| *rule == e.rule).unwrap();
        let has_code = codes.split(", ").any(|code| code == e.code) || rule == "R39";
        assert!(*kind == e.kind && has_code, "{}: {rule}", name_of(&root));
        without.retain(|other| other != rule);
    }
    assert_eq!(without, ["R3"], "a link, which archives follow or drop");
}
