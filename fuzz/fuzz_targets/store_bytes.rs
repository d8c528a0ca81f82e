//! A whole store whose files are mutations of a good one: errors or what the bytes say, and
//! what the damage does not reach comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_fuzz::mutation::{Mutation, exercise, mutated};

fuzz_target!(|input: (bool, bool, Vec<Mutation>)| {
    let (maps, reseal, mutations) = input;
    exercise(mutated(&mutations, reseal), maps, !reseal);
});
