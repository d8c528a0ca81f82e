//! Relations on the command line: found by name, told, refused, turned off.

use safetensors::Dtype;

use crate::support::command::TestFolder;
use crate::support::safetensors::{TestTensor, file, noise};

/// A weight and its copy in bf16, by these names.
fn weights(copy: &'static str, seed: u64) -> Vec<u8> {
    let words: Vec<[u8; 4]> = noise(8000, seed)
        .chunks_exact(4)
        .map(|b| [b[0], b[1], 0x80 | b[2], 0x3f])
        .collect();
    let rounded = |b: &[u8; 4]| {
        let bits = u32::from_le_bytes(*b);
        let bytes = (bits + 0x7fff + (bits >> 16 & 1)).to_le_bytes();
        [bytes[2], bytes[3]]
    };
    let tensor = |name, dtype, bytes: Vec<u8>| TestTensor {
        name,
        dtype,
        shape: vec![2000],
        bytes,
    };
    let copied = words.iter().flat_map(rounded).collect();
    let tensors = [
        tensor("model.w", Dtype::F32, words.concat()),
        tensor(copy, Dtype::BF16, copied),
    ];
    file(&tensors, &[])
}

/// Bytes that a save of a file adds.
fn added(name: &'static str, args: &[&str]) -> u64 {
    let test = TestFolder::with_store();
    let bytes = weights(name, 5);
    test.write("a.safetensors", &bytes);
    let saved = test.json(&[&["save", "a.safetensors"], args].concat());
    let back = test.raw(&["restore", "latest", "-o", "-", "-q", "--check"]);
    assert!(back.stdout == bytes);
    saved["saved"][0]["added_bytes"]
        .as_u64()
        .unwrap_or_else(|| panic!("{saved}"))
}

#[test]
fn relations_are_found_by_name_or_told() {
    let found = added("half.w", &[]);
    let unknown = added("other", &[]);
    let told = added("other", &["--relate", "other=copy:model.w"]);
    let off = added("half.w", &["--no-relations"]);
    assert!(
        found + 1500 < unknown && told + 1500 < unknown,
        "{found} {told} {unknown}"
    );
    assert!(off.abs_diff(unknown) < 200, "{off} {unknown}");
}

#[test]
fn relations_that_cannot_be_are_refused() {
    let test = TestFolder::with_store();
    test.write("a.safetensors", &weights("half.w", 5));
    let form = test.fails(
        2,
        &["save", "a.safetensors", "--relate", "half.w=cast:model.w"],
    );
    assert!(form.contains("TENSOR=copy:OF"), "{form}");
    let args = ["save", "a.safetensors", "--relate", "half.w=copy:model.x"];
    let unknown = test.raw(&args);
    assert!(!unknown.status.success());
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        text.contains("model.x") && text.contains("no tensor"),
        "{text}"
    );
}

#[test]
fn relations_are_shown_where_the_tensor_is() {
    let test = TestFolder::with_store();
    test.write("a.safetensors", &weights("half.w", 5));
    test.json(&["save", "a.safetensors"]);
    let listed = test.json(&["ls", "latest"]);
    let relation = &listed["tensors"][0]["relation"];
    assert_eq!(
        *relation,
        serde_json::json!({ "kind": "copy", "of": ["model.w"] })
    );
    assert!(listed["tensors"][1].get("relation").is_none(), "{listed}");
    let shown = test.raw(&["show", "latest", "half.w"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("relation: copy of model.w\n"), "{shown}");
}
