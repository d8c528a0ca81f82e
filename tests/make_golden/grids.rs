//! Tables whose rows and columns have factors, in lanes of every width that a grid takes: each
//! chunk begins and ends within a row, and holds zeros and infinities that no factor foretells.

use std::path::Path;

use milepost_engine::codec::{self, Form, Layout, Method, Rows, Workspace, transform::Transform};
use milepost_engine::dtype::Lane;
use milepost_engine::{Dtype, Level};

use crate::make_golden::nothing;
use crate::make_golden::planted::{plant_by_hand, plant_format, record, single_chunk};
use crate::make_golden::state::{State, low, noise};
use crate::support::golden::Expected;

const ROW_LEN: usize = 24;
const COLUMN: usize = 7;

/// Values of one chunk at one time: a factor of the row, one of the column, and luck.
fn values(lanes: usize, time: u64) -> Vec<f64> {
    let share = |word: u64| f64::from(low(word)) / f64::from(u32::MAX);
    let factors = |seed: u64| noise(seed).map(move |word| 1.0 + 99.0 * share(word));
    let rows: Vec<f64> = factors(70).take(lanes).collect();
    let columns: Vec<f64> = factors(71).take(ROW_LEN).collect();
    let luck = noise(72).map(share).zip(noise(90 + time).map(share));
    let value = |(at, (lasting, passing)): (usize, (f64, f64))| {
        let (row, column) = ((COLUMN + at) / ROW_LEN, (COLUMN + at) % ROW_LEN);
        match at % 241 {
            100 => 0.0,
            200 => f64::INFINITY,
            _ => rows[row] * columns[column] * (0.2 + lasting + passing) * 1e-6,
        }
    };
    luck.take(lanes).enumerate().map(value).collect()
}

/// The bits of the nearest single-precision float.
#[expect(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
fn single(value: f64) -> u32 {
    (value as f32).to_bits()
}

/// The values as a dtype's bytes; every third is negative where signs are asked for.
fn bytes_of(dtype: Dtype, values: &[f64], signed: bool) -> Vec<u8> {
    let sign = |(at, v): (usize, &f64)| if signed && at % 3 == 0 { -*v } else { *v };
    let values = values.iter().enumerate().map(sign);
    match dtype {
        Dtype::F64 => values.flat_map(f64::to_le_bytes).collect(),
        Dtype::F32 => values.flat_map(|v| single(v).to_le_bytes()).collect(),
        _ => {
            let halves = values.map(|v| single(v) >> 16);
            let bytes = halves.flat_map(|b| b.to_le_bytes().into_iter().take(2));
            bytes.collect()
        }
    }
}

pub(super) fn make(root: &Path) -> Expected {
    let mut expected = nothing();
    plant_format(root);
    let (mut records, mut tensors) = (Vec::new(), Vec::new());
    let (mut state, mut workspace) = (State::default(), Workspace::default());
    for (dtype, lanes) in [(Dtype::BF16, 2000), (Dtype::F32, 1000), (Dtype::F64, 500)] {
        let form = Form {
            lane: Lane {
                width: dtype.lane().width,
                float: true,
            },
            rows: Some(Rows {
                len: ROW_LEN,
                column: COLUMN,
            }),
        };
        for signed in [false, true] {
            let mut base: Option<Vec<u8>> = None;
            for (time, layout) in [(0, Layout::Grid), (1, Layout::GridDelta)] {
                let raw = bytes_of(dtype, &values(lanes, time), signed);
                let method = Method {
                    transform: Transform::Rotate,
                    layout,
                };
                let mut bytes = Vec::new();
                let encoding = codec::encode(
                    &raw,
                    base.as_deref(),
                    form,
                    method,
                    Level::Fast,
                    &mut workspace,
                    &mut bytes,
                );
                assert_eq!(encoding.unwrap().layout, layout);
                let inputs: Vec<&[u8]> = base.as_deref().into_iter().collect();
                let depth = u8::try_from(inputs.len()).unwrap();
                records.push(record(&raw, bytes, depth, &inputs));
                let name = format!("{}.{}.{signed}", dtype.name(), layout.name());
                state.tensor(&name, dtype, &[lanes as u64], raw.clone());
                tensors.push(single_chunk(&name, dtype, &raw));
                base = Some(raw);
            }
        }
    }
    let found = plant_by_hand(root, &records, tensors, &state);
    expected.checkpoints.push(found);
    expected
}
