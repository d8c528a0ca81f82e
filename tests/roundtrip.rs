//! Whatever is saved comes back, bit for bit.

use crate::support::store::{TestStore, save_floats};

#[test]
fn a_run_of_small_updates_comes_back_and_costs_less_each_time() {
    let test = TestStore::new();
    let mut weights: Vec<f32> = (0..20_000u16)
        .map(|i| (f32::from(i) * 0.37).sin())
        .collect();
    let mut states = Vec::new();
    let mut reports = Vec::new();
    for step in 0..6 {
        reports.push(save_floats(&test.store, step, &[("w", &weights)]));
        states.push(weights.clone());
        weights.iter_mut().for_each(|w| *w *= 1.000_01);
    }
    assert!(
        reports[1].added_bytes * 10 < reports[0].added_bytes * 8,
        "{reports:#?}"
    );
    let store = test.reopened();
    for (step, state) in states.iter().enumerate() {
        let checkpoint = store.checkpoint(&format!("step:{step}")).unwrap();
        let expected: Vec<u8> = state.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(checkpoint.tensor("w").unwrap(), expected, "step {step}");
    }
}
