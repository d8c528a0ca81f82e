//! The training step that a file itself tells: in its metadata, or in its name.

use std::path::Path;

/// The step of a file: its metadata's `step`, else the last number of its name.
pub(crate) fn of_file(metadata_step: Option<&str>, path: &Path) -> Option<u64> {
    let told = metadata_step.and_then(|text| text.trim().parse().ok());
    told.or_else(|| of_stem(path.file_stem()?.to_str()?))
}

/// The last run of digits, as in `step-120`, `checkpoint-500` or `model_0005`.
fn of_stem(stem: &str) -> Option<u64> {
    let is_digit = |c: char| c.is_ascii_digit();
    let end = stem.rfind(is_digit)? + 1;
    let head = stem.get(..end)?;
    let digits = head.len() - head.trim_end_matches(is_digit).len();
    head.get(end - digits..)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_of_a_name_is_its_step() {
        for (name, step) in [
            ("step-120.safetensors", Some(120)),
            ("checkpoint-500.safetensors", Some(500)),
            ("model_0005.safetensors", Some(5)),
            ("run2-step30-final.safetensors", Some(30)),
            ("model.safetensors", None),
            ("7.safetensors", Some(7)),
            ("x99999999999999999999.safetensors", None),
        ] {
            assert_eq!(of_file(None, Path::new(name)), step, "{name}");
        }
    }

    #[test]
    fn metadata_counts_before_the_name_where_it_is_a_number() {
        let path = Path::new("step-1.safetensors");
        assert_eq!(of_file(Some("9"), path), Some(9));
        assert_eq!(of_file(Some("nine"), path), Some(1));
    }
}
