//! safetensors files come back byte for byte, and parts of them are valid files.

use safetensors::{Dtype, SafeTensors};

use crate::support::command::TestFolder;
use crate::support::safetensors::{self as made, DTYPES, TestTensor, noise};

/// Saves bytes, restores them in every way, and holds that nothing changed.
fn round_trip(test: &TestFolder, name: &str, bytes: &[u8]) {
    let file = format!("{name}.safetensors");
    test.write(&file, bytes);
    test.ok(&["save", &file, "--run", name]);
    let view = test.json(&["restore", name, "-o", "out", "--force", "--check"]);
    assert_eq!(view["identical"], true, "{name}");
    assert_eq!(test.read("out"), bytes, "{name}");
    let piped = test.raw(&["restore", name, "-o", "-", "-q"]);
    assert_eq!(piped.stdout, bytes, "{name} through a pipe");
    let checked = test.raw(&[
        "restore", name, "-o", "-", "-q", "--check", "--reader", "pread",
    ]);
    assert_eq!(checked.stdout, bytes, "{name} through a pipe, checked");
}

#[test]
fn every_dtype_and_odd_shape_comes_back() {
    let test = TestFolder::with_store();
    let names: Vec<String> = DTYPES.iter().map(|d| d.to_string()).collect();
    let tensors: Vec<TestTensor> = DTYPES
        .iter()
        .zip(&names)
        .map(|(dtype, name)| TestTensor {
            name: Box::leak(name.clone().into_boxed_str()),
            dtype: *dtype,
            shape: vec![4, 1031],
            bytes: noise(4 * 1031 * dtype.bitsize() / 8, 7),
        })
        .collect();
    round_trip(
        &test,
        "dtypes",
        &made::file(&tensors, &[("format", "pt"), ("b", "\u{e9}")]),
    );
    let shaped = |name, shape: &[usize], len| TestTensor {
        name,
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: noise(len, 3),
    };
    let odd = [
        shaped("scalar", &[], 4),
        shaped("empty", &[0], 0),
        shaped("also empty", &[3, 0, 5], 0),
        shaped("one", &[1, 1, 1], 4),
        shaped("a name with spaces, \"quotes\" and = marks", &[1025], 4100),
    ];
    round_trip(&test, "shapes", &made::file(&odd, &[]));
}

#[test]
fn unusual_headers_come_back() {
    let test = TestFolder::with_store();
    let file = made::small(1);
    for (name, bytes) in [
        ("padded", made::with_header(&file, |h| h + "   ")),
        (
            "unpadded",
            made::with_header(&file, |h| h.trim_end().to_owned()),
        ),
        (
            "spaced",
            made::with_header(&file, |h| h.replace(',', " ,\n\t")),
        ),
        ("no-tensors", made::file(&[], &[])),
        ("only-metadata", made::file(&[], &[("a", "b"), ("c", "")])),
        (
            "odd-keys",
            made::file(&[], &[("", "empty key"), ("a\nb", "line break")]),
        ),
    ] {
        round_trip(&test, name, &bytes);
    }
}

#[test]
fn metadata_is_metadata_of_the_checkpoint_as_well() {
    let test = TestFolder::with_store();
    test.write(
        "a.safetensors",
        &made::file(&[], &[("format", "pt"), ("a\nb", "x")]),
    );
    test.ok(&["save", "a.safetensors"]);
    let shown = test.json(&["show", "latest"]);
    assert_eq!(shown["metadata"]["format"], "pt");
    assert_eq!(shown["metadata"].as_object().unwrap().len(), 1);
}

#[test]
fn a_part_is_a_valid_file_with_the_metadata() {
    let test = TestFolder::with_store();
    let tensors = [
        made::weights("model.w", 3000, 1),
        made::weights("model.b", 100, 1),
        made::weights("optim.m", 100, 2),
    ];
    test.write(
        "a.safetensors",
        &made::file(&tensors, &[("z", "1"), ("a", "2")]),
    );
    test.ok(&["save", "a.safetensors"]);
    test.ok(&["restore", "latest", "-o", "part", "--include", "model.*"]);
    let part = test.read("part");
    let read = SafeTensors::deserialize(&part).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read.tensor("model.w").unwrap().data(), tensors[0].bytes);
    assert_eq!(read.tensor("model.b").unwrap().data(), tensors[1].bytes);
    let (_, header) = SafeTensors::read_metadata(&part).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["z"], "1");

    test.ok(&[
        "restore",
        "latest",
        "-o",
        "rows",
        "--rows",
        "model.w=100..250",
    ]);
    let rows = test.read("rows");
    let read = SafeTensors::deserialize(&rows).unwrap();
    let tensor = read.tensor("model.w").unwrap();
    assert_eq!(tensor.shape(), [150, 10]);
    assert_eq!(tensor.data(), &tensors[0].bytes[100 * 40..250 * 40]);
    let piped = test.raw(&["restore", "latest", "-o", "-", "--rows", "model.w=100..250"]);
    assert_eq!(piped.stdout, rows);
}

#[test]
fn a_checkpoint_of_the_api_is_written_with_a_canonical_header() {
    let test = TestFolder::with_store();
    let store = milepost_engine::Store::open(
        &test.path(".milepost"),
        milepost_engine::StoreOptions::default(),
    )
    .unwrap();
    let options = milepost_engine::SaveOptions::new("api").step(4);
    let mut draft = store.draft(options).unwrap();
    let bytes = noise(400, 1);
    draft
        .tensor("w", milepost_engine::Dtype::F32, &[100], &bytes)
        .unwrap();
    draft.blob("rng", &[1, 2, 3]).unwrap();
    draft.commit().unwrap();
    let ran = test.run(&["restore", "api", "-o", "out", "--json"]);
    assert!(ran.stdout.contains("\"identical\":false"));
    assert!(ran.stderr.contains("rng (3 B)"), "{}", ran.stderr);
    let expected = made::file(
        &[TestTensor {
            name: "w",
            dtype: Dtype::F32,
            shape: vec![100],
            bytes,
        }],
        &[],
    );
    assert_eq!(test.read("out"), expected);
}

#[test]
fn every_way_to_save_restores_the_same_bytes() {
    let test = TestFolder::with_checkpoints();
    let ways: [&[&str]; 6] = [
        &["--full"],
        &["--self-contained"],
        &["--durability", "verified"],
        &["--durability", "relaxed"],
        &["--level", "archive"],
        &["--parent", "main@step:1"],
    ];
    for (number, way) in (10..).zip(ways) {
        let file = format!("x{number}.safetensors");
        test.write(&file, &made::small(number));
        test.ok(&[&["save", file.as_str()], way].concat());
        test.ok(&["restore", &format!("step:{number}"), "-o", "out", "-f"]);
        assert_eq!(test.read("out"), test.read(&file), "{way:?}");
    }
    assert_eq!(test.json(&["verify", "--read-data"])["ok"], true);
    let full = test.json(&["log", "-n", "6"]);
    let kinds: Vec<_> = full["checkpoints"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|c| c["step"] == 10 || c["step"] == 11)
        .map(|c| c["kind"].clone())
        .collect();
    assert_eq!(kinds, ["full", "full"]);
}
