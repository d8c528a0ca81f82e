//! Names of runs and tags (format-spec.md section 5.2): the only names that become paths.

use crate::error::{Error, Result};
use crate::format::limits;

/// Whether `name` is 1 to 64 of `[a-z0-9._-]` and begins with a letter or digit.
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    name.len() <= limits::NAME_LEN_MAX
        && name.bytes().all(allowed)
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

/// Refuses a name that may not become a path; `what` is "run" or "tag".
///
/// # Errors
/// `InvalidInput` with the rule in the hint.
pub fn check(name: &str, what: &str) -> Result<()> {
    if is_valid(name) {
        return Ok(());
    }
    Err(
        Error::invalid("name", format!("{name:?} cannot name a {what}"))
            .hint("use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_leave_its_folder_is_a_name() {
        for good in ["main", "a", "0.1_x-y"] {
            assert!(is_valid(good), "{good}");
        }
        let long = "a".repeat(65);
        for bad in [
            "", ".", "..", ".x", "-x", "a/b", "A", "a b", "\u{e9}", "a\0", &long,
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
