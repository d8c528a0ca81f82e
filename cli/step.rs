//! The training step that a file itself tells: in its metadata, or in its path.

use std::path::Path;

/// Words that stand before a step.
const WORDS: [&str; 6] = ["step", "steps", "checkpoint", "ckpt", "iter", "iteration"];

/// What a file says of its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// This step.
    Step(u64),
    /// Nothing.
    Nothing,
    /// It is one of several files of one checkpoint.
    Part,
}

/// The step in a path: a number behind a word such as `step` in the file's name or its folder's,
/// else the last number of the file's name.
pub(crate) fn of_path(path: &Path) -> Told {
    let Some(stem) = path.file_stem().and_then(|s| s.to_str()) else {
        return Told::Nothing;
    };
    if is_part(stem) {
        return Told::Part;
    }
    let folder = path.parent().and_then(Path::file_name);
    let folder = folder.and_then(|name| name.to_str()).unwrap_or_default();
    let found = behind_word(stem).or_else(|| match last_number(stem) {
        Some(number) => Some(number),
        None => behind_word(folder),
    });
    found.map_or(Told::Nothing, Told::Step)
}

/// The runs of letters and of digits in a name, in order.
fn runs(name: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_ascii_digit() => 0,
        c if c.is_alphabetic() => 1,
        _ => 2,
    };
    let mut runs = Vec::new();
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| kind(c) != kind(first)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        if kind(first) < 2 {
            runs.push(run);
        }
        rest = after;
    }
    runs
}

/// The number right behind the last of the words, as in `checkpoint-500` or `step12`.
fn behind_word(name: &str) -> Option<u64> {
    let runs = runs(name);
    let is_word = |word: &str| WORDS.contains(&word.to_ascii_lowercase().as_str());
    runs.windows(2).rev().find_map(|pair| match pair {
        [word, number] if is_word(word) => number.parse().ok(),
        _ => None,
    })
}

fn last_number(name: &str) -> Option<u64> {
    let numbers = runs(name).into_iter().rev();
    let mut numbers = numbers.filter(|run| run.starts_with(|c: char| c.is_ascii_digit()));
    numbers.next()?.parse().ok()
}

/// As in `model-00001-of-00002`.
fn is_part(name: &str) -> bool {
    let runs = runs(name);
    let number = |run: &&str| run.parse::<u64>().is_ok();
    matches!(runs.as_slice(), [.., part, "of", whole] if number(part) && number(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_counts_before_the_last_number_and_the_folder_last() {
        for (name, step) in [
            ("step-120.safetensors", Told::Step(120)),
            ("checkpoint-500.safetensors", Told::Step(500)),
            ("model_0005.safetensors", Told::Step(5)),
            ("run2-step30-final.safetensors", Told::Step(30)),
            ("run2-v3-step12-2026.safetensors", Told::Step(12)),
            ("Step_7_fp16.safetensors", Told::Step(7)),
            ("global_step800/model.safetensors", Told::Step(800)),
            ("checkpoint-777/model.safetensors", Told::Step(777)),
            ("step-9/model-3.safetensors", Told::Step(3)),
            ("2026/model.safetensors", Told::Nothing),
            ("model.safetensors", Told::Nothing),
            ("7.safetensors", Told::Step(7)),
            ("x99999999999999999999.safetensors", Told::Nothing),
            ("model-00001-of-00002.safetensors", Told::Part),
            ("one-of-3.safetensors", Told::Step(3)),
        ] {
            assert_eq!(of_path(Path::new(name)), step, "{name}");
        }
    }
}
