//! Any sequence of saves, forks, tags and reopenings leaves the store as a model of maps says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_fuzz::model::{Model, Operation};

fuzz_target!(|input: ([u8; 3], Vec<Operation>)| {
    let ([depth_max, budget, full_every], operations) = input;
    let mut model = Model::new(depth_max, budget, full_every);
    operations.iter().take(24).for_each(|o| model.apply(o));
    model.check();
});
