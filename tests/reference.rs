//! The reader in plain Python, written from format-spec.md alone: it and the engine must say the
//! same of every golden store, and it decodes the specification's own examples.

use std::path::Path;
use std::process::Command;

/// Runs the reference reader; its standard output.
fn reference_reader(arguments: &[&Path]) -> String {
    // `make test` names an interpreter that has numpy and zstandard.
    let python = std::env::var_os("MILEPOST_PYTHON").unwrap_or_else(|| "python3".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let done = Command::new(python)
        .arg(root.join("tests/reference_reader.py"))
        .args(arguments)
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(
        done.status.success(),
        "{}\n{out}{err}\nnumpy and zstandard are needed: `make test` installs them",
        done.status
    );
    out.into_owned()
}

fn in_repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_reference_reader_agrees_on_every_golden_store() {
    let stores = crate::support::golden::stores("good").len()
        + crate::support::golden::stores("must-reject").len();
    let out = reference_reader(&["--all".as_ref(), &in_repository("tests/golden/v1")]);
    let summary = out.lines().last().unwrap_or_default();
    let expected = format!("reference reader: {stores} stores as expected, 0 not");
    assert_eq!(summary, expected, "{out}");
}

#[test]
fn the_reference_reader_decodes_the_worked_examples() {
    let out = reference_reader(&["--examples".as_ref(), &in_repository("format-spec.md")]);
    let summary = out.lines().last().unwrap_or_default();
    assert!(summary.ends_with(" right, 0 wrong"), "{out}");
}

/// What the engine writes today, the reference reader gives back: a run of every dense layout.
#[test]
fn the_reference_reader_reads_a_store_of_today() {
    use crate::support::state::{State, Tensor, noise, save};
    use milepost_engine::{SaveOptions, Store, StoreOptions, StoreSettings};

    let folder = tempfile::tempdir().unwrap();
    let store = Store::create(
        folder.path(),
        StoreSettings::default(),
        StoreOptions::default(),
    )
    .unwrap();
    let mut weights: Vec<f32> = noise(1, 40_000)
        .iter()
        .map(|b| f32::from(*b) - 127.5)
        .collect();
    let mut ids = Vec::new();
    for step in 0..4 {
        let places = (0..200u8).flat_map(|row| (0..200u8).map(move |column| (row, column)));
        let squares = weights.iter().zip(places).map(|(w, (row, column))| {
            (1.0 + f32::from(row)) * (1.0 + f32::from(column)) * (1.0 + w * w) * 1e-6
        });
        let mut moments = Tensor::floats(squares);
        moments.shape = vec![200, 200];
        let state = State::from([
            (
                "weights".to_owned(),
                Tensor::floats(weights.iter().copied()),
            ),
            ("moments".to_owned(), moments),
            ("bytes".to_owned(), Tensor::bytes(noise(step, 999))),
        ]);
        let report = save(&store, SaveOptions::new("main").step(step), &state).unwrap();
        ids.push((report.id.to_string(), state));
        weights
            .iter_mut()
            .zip(noise(step + 9, 40_000))
            .for_each(|(w, n)| *w += (f32::from(n) - 127.5) * 1e-4);
    }
    let out = reference_reader(&[folder.path()]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    for (at, (id, state)) in ids.iter().enumerate() {
        let checkpoint = &found["checkpoints"][at];
        assert_eq!(checkpoint["id"], id.as_str());
        for (name, tensor) in state {
            let hash = &checkpoint["tensors"][name]["sha256"];
            assert_eq!(
                *hash,
                crate::support::sha256::sha256(&tensor.bytes),
                "{name}"
            );
        }
    }
}
