//! safetensors files, made by the crate that everybody uses.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A tensor to be put into a file.
pub(crate) struct TestTensor {
    pub(crate) name: &'static str,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Vec<u8>,
}

/// Every element type that a file can have.
pub(crate) const DTYPES: [Dtype; 22] = [
    Dtype::BOOL,
    Dtype::F4,
    Dtype::F6_E2M3,
    Dtype::F6_E3M2,
    Dtype::U8,
    Dtype::I8,
    Dtype::F8_E5M2,
    Dtype::F8_E4M3,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E5M2FNUZ,
    Dtype::I16,
    Dtype::U16,
    Dtype::F16,
    Dtype::BF16,
    Dtype::I32,
    Dtype::U32,
    Dtype::F32,
    Dtype::C64,
    Dtype::F64,
    Dtype::I64,
    Dtype::U64,
];

/// Bytes without a pattern that would make them shorter, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(|_| next()).collect()
}

/// An f32 vector of slowly changing weights, as after that many steps.
pub(crate) fn weights(name: &'static str, len: u16, step: u8) -> TestTensor {
    let value = |i: u16| (f32::from(i) * 0.37).sin() * (1.0 + f32::from(step) * 1e-5);
    TestTensor {
        name,
        dtype: Dtype::F32,
        shape: vec![usize::from(len) / 10, 10],
        bytes: (0..len / 10 * 10)
            .flat_map(|i| value(i).to_le_bytes())
            .collect(),
    }
}

/// The file's bytes.
pub(crate) fn file(tensors: &[TestTensor], metadata: &[(&str, &str)]) -> Vec<u8> {
    let views = tensors.iter().map(|t| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap();
        (t.name, view)
    });
    let metadata: HashMap<String, String> = metadata
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let metadata = Some(metadata).filter(|m| !m.is_empty());
    safetensors::serialize(views, metadata).unwrap()
}

/// The same file with another header text and the same data.
pub(crate) fn with_header(file: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    let len = usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap();
    let header = change(String::from_utf8(file[8..8 + len].to_vec()).unwrap());
    let len = (header.len() as u64).to_le_bytes();
    [&len, header.as_bytes(), &file[8 + file_header_len(file)..]].concat()
}

fn file_header_len(file: &[u8]) -> usize {
    usize::try_from(u64::from_le_bytes(file[..8].try_into().unwrap())).unwrap()
}

/// The two tensors that most tests save: one that changes with the step, one that stays.
pub(crate) fn small(step: u8) -> Vec<u8> {
    file(
        &[
            weights("model.w", 3000, step),
            weights("model.frozen", 500, 0),
        ],
        &[],
    )
}
