//! Whatever the state, its history and the options: what is saved comes back.
//!
//! `PROPTEST_CASES` raises the number of cases.

mod codec; // any bytes, lane, transform and level
mod generate; // states, changes of states, ways to save them
mod history; // chains of saves of changing states
mod identity; // ids depend on what is saved and on nothing else
mod relations; // tensors that foretell each other, and that do not

use proptest::test_runner::Config;

/// So many cases, or as many as the environment asks for.
fn cases(default: u32) -> Config {
    let asked = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: asked.and_then(|n| n.parse().ok()).unwrap_or(default),
        failure_persistence: None,
        ..Config::default()
    }
}
