//! What every checkpoint of the workload holds: made here, never asked of the engine.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::support::rng::mix;

/// The state of one checkpoint.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    /// One-dimensional f32 tensors.
    pub(crate) tensors: Vec<(&'static str, Vec<u8>)>,
    pub(crate) blobs: Vec<(&'static str, Vec<u8>)>,
}

type Key = (String, u64);

thread_local! {
    static MADE: RefCell<HashMap<Key, Rc<Content>>> = RefCell::default();
}

/// The content of a run's step.
pub(crate) fn content(run: &str, step: u64) -> Rc<Content> {
    MADE.with(|made| {
        let mut made = made.borrow_mut();
        let key = (run.to_owned(), step);
        Rc::clone(made.entry(key).or_insert_with(|| Rc::new(make(run, step))))
    })
}

/// Copies, forks and saves without a change hold what another step holds.
fn origin(run: &str, step: u64) -> (&str, u64) {
    match (run, step) {
        ("main", 3) => ("main", 2),
        ("copy", step) => ("main", step),
        ("fork", step @ 0..=1) => ("main", step),
        ("again", step) => ("solo", step),
        ("spare", 1) => ("loose", 1),
        other => other,
    }
}

fn make(run: &str, step: u64) -> Content {
    let (run, step) = origin(run, step);
    let lineage = run
        .bytes()
        .fold(0u16, |sum, b| sum.wrapping_mul(3) + u16::from(b))
        % 50;
    let wave = |from: u16, len: u16, phase: u16, version: u64| -> Vec<u8> {
        let scale = 1.0 + 1e-5 * (version % 1000) as f32;
        let value = |i: u16| (f32::from(i) * 0.37 + f32::from(phase)).sin() * scale;
        (from..from + len)
            .flat_map(|i| value(i).to_le_bytes())
            .collect()
    };
    // The first chunk changes at every step, the second at every other: dedup and deltas.
    let mut weights = wave(0, 1024, lineage, step);
    weights.extend(wave(1024, 60, lineage, step / 2));
    // Other runs come to the same heads: chunks that two writers may store at a time.
    let head = match run {
        "side" => step,
        _ => step / 3,
    };
    let noise = mix(step ^ u64::from(lineage) << 32);
    Content {
        tensors: vec![
            ("frozen", wave(0, 150, 7, 0)),
            ("head", wave(0, 120, 9, head)),
            ("weights", weights),
        ],
        blobs: vec![
            ("config", b"{\"layers\": 2}".to_vec()),
            ("rng", noise.to_le_bytes().repeat(5)),
        ],
    }
}

#[test]
fn contents_differ_where_they_should() {
    assert_eq!(content("main", 3), content("main", 2));
    assert_eq!(content("copy", 0), content("main", 0));
    assert_ne!(content("main", 4), content("main", 5));
    let (relaxed, other) = (content("main", 4), content("side", 1));
    assert_eq!(relaxed.tensors[1], other.tensors[1]);
    assert_ne!(relaxed.tensors[2], other.tensors[2]);
}
