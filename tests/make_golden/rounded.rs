//! Means that are scaled in place, whose first product has a rounding of its own.

use std::path::Path;

use milepost_engine::SaveOptions;

use crate::make_golden::predicted::{Training, require_encodings, state};
use crate::make_golden::state::weights;
use crate::make_golden::{create, nothing};
use crate::support::golden::Expected;

/// Four consecutive steps after some others.
pub(crate) fn make(root: &Path) -> Expected {
    let store = create(root);
    let mut expected = nothing();
    let mut training = Training::new();
    (0..10).for_each(|time| training.step(time));
    let sparse: Vec<u8> = weights(54, 1250)
        .iter()
        .flat_map(|bits| bits.to_le_bytes())
        .collect();
    for time in 10..14 {
        training.step(time);
        let saved = state(&training, &sparse).save(&store, SaveOptions::new("main").step(time));
        expected.checkpoints.push(saved);
    }
    let wanted = ["rounded-linear", "rounded-second-moment"];
    require_encodings(&store, 11..14, &wanted);
    expected
}
