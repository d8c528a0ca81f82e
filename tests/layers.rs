//! What each part must not know, read from the sources.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest source file, without its tests.
const LINES_MAX: usize = 400;

/// Files that are longer, and why.
const LONGER: [(&str, &str); 0] = [];

/// Every Rust source below a folder of the repository, sorted.
pub(crate) fn sources(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The path below the repository.
fn name(path: &Path) -> &str {
    let below = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    below.to_str().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The lines before the file's tests.
fn without_tests(source: &str) -> Vec<&str> {
    let is_test = |line: &&str| *line == "#[cfg(test)]";
    source.lines().take_while(|line| !is_test(line)).collect()
}

/// The code of a file: no tests, no comments.
fn code_of(path: &Path) -> String {
    let source = read(path);
    let code = without_tests(&source)
        .into_iter()
        .map(|line| line.split("//").next().unwrap());
    code.collect::<Vec<_>>().join("\n")
}

/// Whether `code` holds `word` with no letter, digit or underscore beside it.
fn mentions(code: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (
            code[..at].chars().last(),
            code[at + word.len()..].chars().next(),
        );
        !part(before) && !part(after)
    })
}

/// Holds the sources below `folder` against words that they must not have.
fn must_not_know(folder: &str, words: &[&str], but: &[&str]) {
    let paths = ["engine/src", "cli", "python/src"].map(sources).concat();
    let of_folder = paths.iter().filter(|p| name(p).starts_with(folder));
    let mut count = 0;
    for path in of_folder.filter(|p| !but.contains(&name(p))) {
        count += 1;
        let code = code_of(path);
        for word in words {
            assert!(
                !mentions(&code, word),
                "{} must not know {word}",
                name(path)
            );
        }
    }
    assert!(count > 0, "{folder} holds no source");
}

const FILES: [&str; 3] = ["std::fs", "std::io", "File"];
const WORLD: [&str; 5] = ["Instant", "SystemTime", "thread", "rayon", "unsafe"];
const IDS: [&str; 4] = ["ChunkId", "PackId", "CheckpointId", "crate::id"];

#[test]
fn words_are_found_whole() {
    assert!(mentions("use std::fs::File;", "std::fs") && mentions("x File", "File"));
    assert!(!mentions("FileKind unsafe_code", "File") && !mentions("unsafe_code", "unsafe"));
}

#[test]
fn format_knows_no_world_and_no_codec() {
    must_not_know("engine/src/format/", &FILES, &[]);
    must_not_know("engine/src/format/", &WORLD, &[]);
    let above = [
        "crate::codec",
        "crate::store",
        "crate::save",
        "crate::restore",
        "zstd",
    ];
    must_not_know(
        "engine/src/format/",
        &above,
        &["engine/src/format/section.rs"],
    );
}

#[test]
fn codec_knows_no_file_no_id_and_no_store() {
    must_not_know("engine/src/codec/", &FILES, &[]);
    must_not_know("engine/src/codec/", &WORLD, &["engine/src/codec/simd.rs"]);
    must_not_know("engine/src/codec/", &IDS, &[]);
    let above = [
        "crate::store",
        "crate::save",
        "crate::restore",
        "crate::chain",
    ];
    must_not_know("engine/src/codec/", &above, &[]);
}

#[test]
fn the_small_modules_know_only_what_they_name() {
    must_not_know("engine/src/chunking.rs", &["crate"], &[]);
    must_not_know("engine/src/error.rs", &["crate"], &[]);
    let below = [
        "crate::format",
        "crate::codec",
        "crate::store",
        "crate::save",
        "crate::restore",
    ];
    for file in ["id.rs", "hash.rs", "dtype.rs"] {
        must_not_know(&format!("engine/src/{file}"), &below, &[]);
    }
    must_not_know(
        "engine/src/chain.rs",
        &["crate::store", "crate::save", "u8]"],
        &[],
    );
    must_not_know("engine/src/store/", &["crate::save", "crate::verify"], &[]);
    must_not_know(
        "engine/src/restore/",
        &["crate::save", "crate::verify"],
        &[],
    );
}

#[test]
fn unsafe_is_where_it_is_said_to_be_and_only_the_disk_touches_files() {
    let fenced = ["engine/src/store/map.rs", "engine/src/codec/simd.rs"];
    must_not_know("engine/src/", &["unsafe"], &fenced);
    must_not_know(
        "engine/src/codec/simd.rs",
        &["Instant", "SystemTime", "thread", "rayon"],
        &[],
    );
    must_not_know("cli/", &["unsafe"], &[]);
    must_not_know("python/src/", &["unsafe"], &["python/src/memory.rs"]);
    let disk = [
        "engine/src/store/map.rs",
        "engine/src/store/real_disk/list.rs",
        "engine/src/store/real_disk/mod.rs",
        "engine/src/store/real_disk/new_file.rs",
        "engine/src/store/real_disk/root.rs",
        "engine/src/store/real_disk/view.rs",
    ];
    must_not_know("engine/src/", &["std::fs", "rustix::fs"], &disk);
}

#[test]
fn the_native_module_converts_and_does_nothing_else() {
    let world = [
        "std::fs",
        "rayon",
        "Instant",
        "SystemTime",
        "println",
        "zstd",
        "blake3",
    ];
    must_not_know("python/src/", &world, &[]);
}

#[test]
fn the_engine_does_not_print() {
    must_not_know(
        "engine/src/",
        &["println", "eprintln", "print", "eprint", "dbg"],
        &[],
    );
}

#[test]
fn files_are_short() {
    let longer: BTreeMap<&str, &str> = LONGER.into();
    let mut wrong = Vec::new();
    for path in ["engine/src", "cli", "python/src", "tests"]
        .iter()
        .flat_map(|f| sources(f))
    {
        let source = read(&path);
        let lines = without_tests(&source).len();
        if (lines > LINES_MAX) != longer.contains_key(name(&path)) {
            wrong.push(format!("{}: {lines} lines", name(&path)));
        }
    }
    assert!(
        wrong.is_empty(),
        "more than {LINES_MAX} lines, or no longer so:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn sources_are_ascii_and_say_expect_where_they_mean_it() {
    for path in ["engine/src", "cli", "python/src", "tests"]
        .iter()
        .flat_map(|f| sources(f))
    {
        let source = read(&path);
        assert!(source.is_ascii(), "{} is not ASCII", name(&path));
        let allow = ["#[", "#!["].map(|open| format!("{open}allow("));
        assert!(
            !allow.iter().any(|a| source.contains(a)),
            "{} allows a lint",
            name(&path)
        );
        // Such a line checks nothing: neither rustc nor clippy warns of the lost bool.
        let idle = |line: &str| line.trim_start().starts_with("matches!(") && line.ends_with(';');
        assert!(
            !source.lines().any(idle),
            "{} drops what matches! says",
            name(&path)
        );
    }
}

#[test]
fn decisions_have_numbers_of_their_own() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let (number, _) = file
            .split_once('-')
            .unwrap_or_else(|| panic!("{file} has no number"));
        let digits = number.len() == 4 && number.bytes().all(|b| b.is_ascii_digit());
        assert!(digits && file.ends_with(".md"), "{file} is no decision");
        if let Some(other) = seen.insert(number.to_owned(), file.clone()) {
            panic!("{other} and {file} have one number");
        }
    }
    assert!(!seen.is_empty());
}
