//! A whole store whose files are mutations of a good one: errors or what the bytes say, and
//! what the damage does not reach comes back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_fuzz::mutation::{Mutation, collect_all, compact_all, mutated, read_all, write_all};

fuzz_target!(|input: ([bool; 5], Vec<Mutation>)| {
    let ([maps, writes, reseal, compacts, collects], mutations) = input;
    let store = read_all(mutated(&mutations, reseal), maps, !reseal);
    if compacts {
        store.iter().for_each(|store| compact_all(store, !reseal));
    }
    if collects {
        store.iter().for_each(|store| collect_all(store, !reseal));
    }
    if writes {
        store.iter().for_each(|store| write_all(store, !reseal));
    }
});
