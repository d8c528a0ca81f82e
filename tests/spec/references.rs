//! The sections that comments cite are there.

use crate::spec::document;

/// The section numbers that follow the word `section` or `sections`.
fn cited(comment: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, word) in comment.match_indices("section") {
        let rest = comment[at + word.len()..].trim_start_matches('s');
        for piece in rest.split_whitespace() {
            let number = piece.trim_matches(|c: char| !c.is_ascii_digit());
            let is_number = number.split('.').all(|n| n.parse::<u32>().is_ok());
            if is_number {
                found.push(number.to_owned());
            } else if !["and", "to"].contains(&piece) {
                break;
            }
        }
    }
    found
}

#[test]
fn citations_are_found_in_prose() {
    assert_eq!(cited("see format-spec.md section 9.3."), ["9.3"]);
    assert_eq!(
        cited("(sections 11.3, 11.5 and 11.6)"),
        ["11.3", "11.5", "11.6"]
    );
    assert!(cited("a section of a manifest; sections are 3").is_empty());
}

#[test]
fn every_section_that_the_code_cites_is_there() {
    let numbers = document::numbers();
    let mut count = 0;
    for folder in ["engine/src", "cli", "tests"] {
        for path in crate::layers::sources(folder) {
            let source = std::fs::read_to_string(&path).unwrap();
            let comments = source.lines().filter_map(|line| line.split_once("//"));
            for (_, comment) in comments {
                for number in cited(comment) {
                    count += 1;
                    let place = path.display();
                    assert!(numbers.contains(&number), "{place} cites section {number}");
                }
            }
        }
    }
    assert!(count >= 30, "{count}");
}

/// Within the document as well.
#[test]
fn every_section_that_the_document_cites_is_there() {
    let numbers = document::numbers();
    for number in document::text().lines().flat_map(cited) {
        assert!(numbers.contains(&number), "section {number}");
    }
}

/// The outline that readers of the document may rely on.
#[test]
fn the_outline_is_whole() {
    let numbers = document::numbers();
    let top: Vec<&String> = numbers.iter().filter(|n| !n.contains('.')).collect();
    let wanted: Vec<String> = (0..=20).map(|n: u8| n.to_string()).collect();
    assert_eq!(top, wanted.iter().collect::<Vec<_>>());
    for appendix in ["A", "B", "C", "D", "E", "F"] {
        document::section(&format!("Appendix {appendix}."));
    }
}
